"""How the pixels of an image lie among the samples of a model's output, for the kernels of full resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray

from classaug_ros.fusion.geometry import source_coordinates
from classaug_ros.models.card import ModelCard, Upsampling

# A program makes 16 x 64 pixels with 8 warps, 4 pixels a thread: 64 pixels of a row are whole 32-byte sectors of every
# output, and 4 of a thread are one word of labels, three of colours. Larger tiles meet more borders, smaller ones look
# at more cells a pixel.
TILE = (16, 64)
WARPS = 8

# A thread's: three programs then fit on a multiprocessor, 24 warps. The compiler would take 96, for two; held to 64 it
# spills. Nothing does at 80, of any kernel with 32-bit offsets.
REGISTERS = 80

LABELS, EVERY, PRUNED = 0, 1, 2
"""How classes are found: labels as they are; every class interpolated; or candidates alone."""

_VALUES = 512  # classes x cells looked at together: two a thread, with four corners each to wait for
ROWS, COLUMNS = tl.constexpr(TILE[0]), tl.constexpr(TILE[1])
LABELED, INTERPOLATED = tl.constexpr(LABELS), tl.constexpr(EVERY)  # as kernels know them


@dataclass(frozen=True, eq=False)
class Samples:
    """How the pixels of an image lie among the samples of scores or labels, and how classes are found from these.

    Attributes:
        classes: K, how many there are.
        shape: (h, w) of the samples.
        before: int32, of H rows and then W columns of pixels the sample before; of labels the nearest.
        weights: float32, the weight of the sample after; None for labels.
        how: what a kernel is compiled for: LABELS, EVERY or PRUNED; how many cells the pixels of a tile lie in at most,
            and how many classes are looked at together, both powers of two; 1 if there are 2^31 scores or more.
    """

    classes: int
    shape: tuple[int, int]
    before: torch.Tensor
    weights: torch.Tensor | None
    how: tuple[int, int, int, int]

    @classmethod
    def of_scores(
        cls, classes: int, shape: tuple[int, int], convention: Upsampling, size: tuple[int, int], device: torch.device
    ) -> Samples:
        """Prepare for scores, classes x h x w; see ``reference.label_map``.

        Args:
            classes: K.
            shape: (h, w).
            convention: where samples lie among pixels.
            size: (H, W) of the image.
            device: where the kernel runs.
        """
        (rows, down), (columns, right) = (
            source_coordinates(*axis, convention) for axis in zip(size, shape, strict=True)
        )
        cells = triton.next_power_of_2(_most(rows, TILE[0]) * _most(columns, TILE[1]))
        # Looking at a cell costs what interpolating a pixel does, twice where that does not settle it.
        pruned = 4 * cells <= TILE[0] * TILE[1]
        wide = int(classes * shape[0] * shape[1] >= 2**31)
        step = min(_VALUES // cells, 32, triton.next_power_of_2(classes))
        how = (PRUNED, cells, step, wide) if pruned else (EVERY, 1, 1, wide)
        weights = torch.from_numpy(np.concatenate([down, right])).to(device)
        return cls(classes, shape, _device(rows, columns, device), weights, how)

    @classmethod
    def of_model(cls, card: ModelCard, size: tuple[int, int], device: torch.device) -> Samples:
        """Prepare for what a model returns, scores or labels, for an image of (H, W)."""
        classes, shape = len(card.classes), (card.output.height, card.output.width)
        if card.output.kind != "labels":
            return cls.of_scores(classes, shape, card.output.upsample, size, device)
        rows, columns = (
            (2 * np.arange(out) + 1) * samples // (2 * out) for out, samples in zip(size, shape, strict=True)
        )
        return cls(classes, shape, _device(rows, columns, device), None, (LABELS, 1, 1, 0))

    def source(self, output: torch.Tensor, batch: int, bit: int) -> Source:
        """Return what kernels take, of an output whose faults set ``bit``; raises ValueError, see ``check``."""
        self.check(output, batch)
        return Source(output, self.classes, *self.shape, self.before, self.weights, bit)

    def check(self, output: torch.Tensor, batch: int) -> None:
        """Refuse what a kernel would read past the end of.

        Raises:
            ValueError: it is not N x K x h x w scores, or N x h x w labels, contiguous.
        """
        expected = (batch, *self.shape) if self.how[0] == LABELS else (batch, self.classes, *self.shape)
        if tuple(output.shape) != expected or not output.is_contiguous():
            layout = "contiguous" if output.is_contiguous() else "not contiguous"
            raise ValueError(f"output {tuple(output.shape)}, {layout}; expected {expected}, contiguous")


def _device(rows: NDArray[np.intp], columns: NDArray[np.intp], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([rows, columns]).astype(np.int32)).to(device)


def _most(before: NDArray[np.intp], pixels: int) -> int:
    """Return how many cells along an axis the pixels of a tile lie in at most."""
    starts = np.arange(0, before.size, pixels)
    return int((before[np.minimum(starts + pixels, before.size) - 1] - before[starts]).max()) + 1


class Source(NamedTuple):
    """A model's output and its ``Samples``, as kernels take them.

    Attributes:
        output: N x classes x h x w scores, or N x h x w labels.
        classes: see ``Samples``, as are h and w (its shape), before and weights.
        h: see there.
        w: see there.
        before: see there.
        weights: see there.
        bit: what is set in ``fault`` if a label is no class, or a score that pixels depend on is not finite; 0 where
            nobody asks.
    """

    output: Any
    classes: Any
    h: Any
    w: Any
    before: Any
    weights: Any
    bit: Any


@triton.jit
def plane_of(source, HOW: tl.constexpr):
    """Return how many samples a class has; in 64 bits only where offsets need them: they take twice the registers."""
    plane = source.h * source.w
    if HOW[3]:
        plane = plane.to(tl.int64)
    return plane


@triton.jit
def corners_of(source, tile):
    """Return where the pixels of a tile lie among the samples of a source; those outside the image as its border.

    Returns:
        Which sample is before each pixel, above and to the left, ROWS x COLUMNS; how far the one to the right of it is,
        1 or 0 at the border; how far the one below, w or 0; the weight of the one to the right; of the one below. Of
        labels the nearest sample, and nothing of use.
    """
    _, y, x, height, width = tile
    ys = tl.minimum(y + tl.arange(0, ROWS), height - 1)
    xs = tl.minimum(x + tl.arange(0, COLUMNS), width - 1)
    row = tl.load(source.before + ys)[:, None]
    column = tl.load(source.before + height + xs)[None, :]
    beside = (column + 1 < source.w).to(tl.int32)
    below = tl.where(row + 1 < source.h, source.w, 0)
    if source.weights is None:
        right = beside
        down = below
    else:
        right = tl.load(source.weights + height + xs)[None, :]
        down = tl.load(source.weights + ys)[:, None]
    return row * source.w + column, beside, below, right, down


@triton.jit
def interpolate(scores, start, corners):
    """Return scores at pixels, in the order of ``reference.interpolate``: first along the rows, then along the columns.

    Args:
        scores: of all classes, classes x h x w.
        start: where the ones to interpolate start, for all pixels or each.
        corners: from ``corners_of``.
    """
    near, beside, below, right, down = corners
    a = start + near
    b = a + beside
    top = tl.load(scores + a).to(tl.float32) * (1.0 - right) + tl.load(scores + b).to(tl.float32) * right
    c = a + below
    d = b + below
    bottom = tl.load(scores + c).to(tl.float32) * (1.0 - right) + tl.load(scores + d).to(tl.float32) * right
    return top * (1.0 - down) + bottom * down
