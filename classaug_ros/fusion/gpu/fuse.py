"""Fusion at full resolution: what models say to label, confidence, colours and overlay, in one launch.

Everything equals ``fusion.reference`` and ``cpu_decider`` bit for bit. Launchers take all memory when they are made
and launch only when they are called, so that a CUDA graph can hold them. On CUDA the launch goes to the current stream
of the current device, which has to be the one they were made for.

At 1920x1080 all pictures together are 23 MB that go by once, 7 us of an H100's memory. The scores, 4 MB (19 classes at
128x256 and 31 at 128x128), come from its L2 cache, two or three times, as tiles share samples at their borders.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray

from classaug_ros.fusion.gpu.argmax import winners
from classaug_ros.fusion.gpu.guided_argmax import GUIDED, Bent, guided_winners
from classaug_ros.fusion.gpu.painting import Canvas, Paint, Result, paint_tile, pixels_of, tile_of
from classaug_ros.fusion.gpu.sampling_grid import LABELED, REGISTERS, Samples, corners_of, interpolate, plane_of
from classaug_ros.imaging.encodings import Layout
from classaug_ros.models.card import ModelCard, Upsampling
from classaug_ros.rules import Rules

__all__ = ["Paint", "Result", "ScoreFusion", "TableFusion"]


@triton.jit
def fuse_labels(
    main,
    sub,
    table,
    label,
    confidence,
    fault,
    view,
    height,
    width,
    MAIN: tl.constexpr,
    SUB: tl.constexpr,
    LAYOUT: tl.constexpr,
    WORDS: tl.constexpr,
):
    """Fuse a tile by the table, m x n int32, ids in the lower 16 bits and confidence above; see ``TableFusion``."""
    tile = tile_of(height, width)
    if MAIN[0] == LABELED:  # labels last: they would hold registers meanwhile
        two = winners(sub, tile, fault, SUB)
        one = winners(main, tile, fault, MAIN)
    else:
        one = winners(main, tile, fault, MAIN)
        two = winners(sub, tile, fault, SUB)
    pair = tl.load(table + one * sub.classes + two)
    ids = pair & 65535
    pixel, inside = pixels_of(tile)
    tl.store(label + pixel, ids.to(label.dtype.element_ty), inside)
    if confidence is not None:
        tl.store(confidence + pixel, (pair >> 16).to(tl.uint8), inside)
    paint_tile(ids, view, tile, inside, LAYOUT, WORDS)


@triton.jit
def fuse_scores(
    scores,
    bent,
    posterior,
    shares,
    groups,
    least,
    unlabelled,
    label,
    confidence,
    fault,
    view,
    height,
    width,
    HOW: tl.constexpr,
    LAYOUT: tl.constexpr,
    WORDS: tl.constexpr,
):
    """Find a tile's classes of the greatest scores, and how probable their groups are; see ``ScoreFusion``.

    Args:
        scores: a ``Source``.
        bent: a ``Bent``, the scores that follow the image's edges, by which pixels are labelled; or None.
        posterior: N x G x h x w float32, or None where neither ``confidence`` nor ``least`` is asked for.
        shares: G.
        groups: int32, of each class.
        least: pixels of less confidence, 0..255, are ``unlabelled``.
        unlabelled: an id.
        label: see ``Result``, as are confidence and fault.
        confidence: see there.
        fault: see there.
        view: a ``View``.
        height: of the image in pixels.
        width: of the image in pixels.
        HOW: see ``Samples``.
        LAYOUT: see ``paint``.
        WORDS: see there.
    """
    tile = tile_of(height, width)
    ids = winners(scores, tile, fault, HOW) if bent is None else guided_winners(bent, view, tile, LAYOUT)
    pixel, inside = pixels_of(tile)
    if posterior is not None:
        plane = plane_of(scores, HOW)
        start = tl.load(groups + ids) * plane
        share = interpolate(posterior + tile[0] * shares * plane, start, corners_of(scores, tile))
        sure = (share * 255.0 + 0.5).to(tl.int32)
        ids = tl.where(sure < least, unlabelled, ids)
        if confidence is not None:
            tl.store(confidence + pixel, sure.to(tl.uint8), inside)
    tl.store(label + pixel, ids.to(label.dtype.element_ty), inside)
    paint_tile(ids, view, tile, inside, LAYOUT, WORDS)


class TableFusion:
    """Fuses outputs of two models by the rules' table; see ``reference.look_up``, and ``Decider`` for confidence."""

    def __init__(
        self,
        main: ModelCard,
        sub: ModelCard,
        rules: Rules,
        size: tuple[int, int],
        layout: Layout,
        *,
        alpha: float,
        min_confidence: float,
        device: torch.device,
        bits: tuple[int, int] = (0, 1),
    ) -> None:
        """Take the memory.

        Args:
            main: the main model's card.
            sub: the sub model's card.
            rules: learned with them.
            size: (H, W) of the frames in pixels.
            layout: how their bytes lie.
            alpha: weight of the colours in the overlay, 0..1 in steps of 1/256.
            min_confidence: pixels of less confidence, 0..1, are left unlabelled; 0 labels all.
            device: where everything is.
            bits: numbers of the two models, whose bits of ``Result.fault`` are set.
        """
        self._canvas = Canvas(rules.output.palette(), size, layout, alpha, device)
        self._main, self._sub = (Samples.of_model(card, size, device) for card in (main, sub))
        self._bits = 1 << bits[0], 1 << bits[1]
        shares = np.round(rules.confidence * 255).astype(np.uint8)
        ids = rules.table.astype(np.int32)
        if min_confidence > 0:
            ids[shares < 255 * min_confidence] = rules.output.unlabelled
        self._table = torch.from_numpy(ids | shares.astype(np.int32) << 16).to(device)

    def __call__(self, main: torch.Tensor, sub: torch.Tensor, frames: torch.Tensor, step: int, result: Result) -> None:
        """Fill ``result``.

        Args:
            main: the main model's output, N x m x h x w scores of a float type, or N x h x w labels of an integer one.
            sub: the sub model's output, likewise.
            frames: N x bytes uint8, contiguous.
            step: bytes from a row to the next.
            result: what is wanted.

        Raises:
            ValueError: one of them does not fit cards and size.
        """
        batch = len(result.label)
        self._canvas.launch(
            fuse_labels,
            self._main.source(main, batch, self._bits[0]),
            self._sub.source(sub, batch, self._bits[1]),
            self._table,
            result.label,
            result.confidence,
            result.fault,
            frames=frames,
            step=step,
            result=result,
            MAIN=self._main.how,
            SUB=self._sub.how,
        )


class ScoreFusion:
    """Labels pixels by the greatest of fused scores; see ``reference.label_map`` and ``reference.confidence``."""

    def __init__(
        self,
        convention: Upsampling,
        groups: NDArray[np.int32],
        palette: NDArray[np.uint8],
        unlabelled: int,
        size: tuple[int, int],
        layout: Layout,
        *,
        shape: tuple[int, int],
        alpha: float,
        min_confidence: float,
        device: torch.device,
    ) -> None:
        """Take the memory.

        Args:
            convention: where the samples of scores lie among pixels.
            groups: group of each of K output classes.
            palette: 256 x 3 uint8 RGB, or 65536 x 3 past 255 classes.
            unlabelled: the id that means no class.
            size: (H, W) of the frames in pixels.
            layout: how their bytes lie.
            shape: (h, w) of the scores.
            alpha: weight of the colours in the overlay, 0..1 in steps of 1/256.
            min_confidence: pixels of less confidence, 0..1, are left unlabelled; 0 labels all.
            device: where everything is.
        """
        self._canvas = Canvas(palette, size, layout, alpha, device)
        self._samples = Samples.of_scores(len(groups), shape, convention, size, device)
        self._groups = torch.from_numpy(groups.astype(np.int32)).to(device)
        self._least, self._unlabelled = math.ceil(255 * min_confidence), unlabelled  # confidences are whole numbers

    def __call__(
        self,
        scores: torch.Tensor,
        posterior: torch.Tensor | None,
        frames: torch.Tensor,
        step: int,
        result: Result,
        bent: Bent | None = None,
    ) -> None:
        """Fill ``result``, whose fault stays as it is.

        Args:
            scores: N x K x h x w float32.
            posterior: N x G x h x w float32; None where neither confidence nor min_confidence is asked for.
            frames: N x bytes uint8, contiguous.
            step: bytes from a row to the next.
            result: what is wanted.
            bent: from ``Contours``, of the same scores and frames, where labels are to follow the image's edges.

        Raises:
            ValueError: one of them does not fit the others.
        """
        batch = len(result.label)
        sure = result.confidence is not None or self._least > 0
        if sure:
            if posterior is None:
                raise ValueError("confidence needs a posterior")
            expected = (batch, posterior.shape[1], *self._samples.shape)
            if tuple(posterior.shape) != expected or not posterior.is_contiguous():
                raise ValueError(f"posterior is {tuple(posterior.shape)}, expected {expected}, contiguous")
        self._canvas.launch(
            fuse_scores,
            self._samples.source(scores, batch, 0),
            bent,
            posterior if sure else None,
            0 if posterior is None else posterior.shape[1],
            self._groups,
            self._least,
            self._unlabelled,
            result.label,
            result.confidence,
            result.fault,
            frames=frames,
            step=step,
            result=result,
            registers=REGISTERS if bent is None else GUIDED,
            HOW=self._samples.how,
        )
