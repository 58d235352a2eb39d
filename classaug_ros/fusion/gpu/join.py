"""Several sub models on a GPU: what one more of them adds, painted where it is the last, in one launch."""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

from classaug_ros.fusion.gpu.painting import Canvas, Result, paint_tile, pixels_of, tile_of
from classaug_ros.imaging.encodings import Layout
from classaug_ros.rules import RuleSet


@triton.jit(do_not_specialize=["mains", "least", "unlabelled", "height"])
def join(
    first,
    sure,
    further,
    surer,
    ids,
    mains,
    least,
    unlabelled,
    label,
    confidence,
    view,
    height,
    width,
    LAYOUT: tl.constexpr,
    WORDS: tl.constexpr,
):
    """Join a tile of labels; see ``Join``.

    Args:
        first: N x height x width output ids so far, uint8 or uint16.
        sure: N x height x width uint8, their confidence.
        further: N x height x width ids by the further sub model's own rules, uint8 or uint16.
        surer: N x height x width uint8, their confidence.
        ids: the output id of each of those.
        mains: number of main classes; ids of added classes begin there.
        least: pixels of less confidence, 0..255, are ``unlabelled``.
        unlabelled: an id.
        label: see ``Result``; may be ``first``.
        confidence: see there; may be ``sure``.
        view: a ``View``.
        height: of the image in pixels.
        width: of the image in pixels.
        LAYOUT: see ``paint_tile``.
        WORDS: see there.
    """
    tile = tile_of(height, width)
    pixel, inside = pixels_of(tile)
    before = tl.load(first + pixel, inside, other=0).to(tl.int32)
    offered = tl.load(ids + tl.load(further + pixel, inside, other=0).to(tl.int32)).to(tl.int32)
    one = tl.load(sure + pixel, inside, other=0).to(tl.int32)
    two = tl.load(surer + pixel, inside, other=0).to(tl.int32)
    wins = (offered >= mains) & ((before < mains) | (two > one))
    share = tl.where(wins, two, one)
    chosen = tl.where(share < least, unlabelled, tl.where(wins, offered, before))
    tl.store(label + pixel, chosen.to(label.dtype.element_ty), inside)
    if confidence is not None:
        tl.store(confidence + pixel, share.to(tl.uint8), inside)
    paint_tile(chosen, view, tile, inside, LAYOUT, WORDS)


class Join:
    """Lets a further sub model's added classes in; see ``reference.join``.

    A call only launches, so that a CUDA graph can hold it. On CUDA the launch goes to the current stream of the current
    device, which has to be the one given here.
    """

    def __init__(
        self,
        rules: RuleSet,
        number: int,
        size: tuple[int, int],
        layout: Layout,
        *,
        alpha: float,
        min_confidence: float,
        device: torch.device,
    ) -> None:
        """Take the memory.

        Args:
            rules: of all sub models.
            number: which of them is joined with those before it, 1 or more.
            size: (H, W) of the frames in pixels.
            layout: how their bytes lie.
            alpha: weight of the colours in the overlay, 0..1.
            min_confidence: pixels of less confidence, 0..1, are left unlabelled; 0 labels all.
            device: where everything is.
        """
        self._canvas = Canvas(rules.output.palette(), size, layout, alpha, device)
        self._ids = torch.from_numpy(rules.ids[number]).to(device)
        self._mains = len(rules.rules[number].main_classes)
        self._least, self._unlabelled = math.ceil(255 * min_confidence), rules.output.unlabelled  # whole confidences

    def __call__(self, first: Result, further: Result, frames: torch.Tensor, step: int, result: Result) -> None:
        """Fill ``result``, whose fault stays as it is.

        Args:
            first: labels so far and their confidence.
            further: labels by the further sub model's own rules and their confidence.
            frames: N x bytes uint8, contiguous.
            step: bytes from a row to the next.
            result: what is wanted; label and confidence may be those of ``first``.

        Raises:
            ValueError: the frames or the result do not fit the size.
        """
        self._canvas.launch(
            join,
            first.label,
            first.confidence,
            further.label,
            further.confidence,
            self._ids,
            self._mains,
            self._least,
            self._unlabelled,
            result.label,
            result.confidence,
            frames=frames,
            step=step,
            result=result,
        )
