"""Which class of a model's output wins each pixel of a tile, at full resolution; equal to ``fusion.naive``.

Scores are hardly ever interpolated. A pixel lies in a cell of four samples, and its scores are convex combinations of
theirs, a * (1 - w) + b * w along each axis, in floating point too: every product and every sum rounds monotonically, so
a class that is at no corner above another is nowhere above it, and each result is sum(W * s) with W >= 0 and each term
off by at most 4 * 2^-24 of itself. A class that is below another at every corner by more than that (see ``reach``) is
strictly below it in the whole cell, ties by rounding and by underflow included, and never wins there.

So a tile first looks at its cells alone, of which there are far fewer (1920x1080 of 128x256 scores: 30 to 1024 pixels):

1. Of each cell the class whose least corner is greatest, and the greatest corner of all others. Where that is out of
   reach in every cell, and the class the same one, the tile is settled: it has one candidate, and nothing is
   interpolated. It is so for tiles away from borders between classes, which are most.
2. Else, the classes not below that class at all four corners of some cell: these alone are interpolated, in the order
   of their ids, and the first greatest one wins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray

from classaug_ros.fusion.geometry import source_coordinates
from classaug_ros.models import ModelCard, Upsampling

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
LABELED, _EVERY, _CHUNK = tl.constexpr(LABELS), tl.constexpr(EVERY), tl.constexpr(32)  # as kernels know them
_NOWHERE = tl.constexpr(float("-inf"))
_NAN = tl.constexpr(tl.PropagateNan.ALL)


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
        """Prepare for scores, classes x h x w; see ``naive.label_map``.

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
def winners(source, tile, fault, HOW: tl.constexpr):
    """Return the class of each pixel of a tile, ROWS x COLUMNS int32, 0..classes - 1 whatever the output holds.

    Args:
        source: a ``Source``.
        tile: the frame's number, 0..N - 1, int64; first row and column of the tile; height and width of the image.
        fault: N int32, see ``Source``.
        HOW: see ``Samples``.
    """
    output, classes, _, _, _, _, bit = source
    number = tile[0]
    plane = plane_of(source, HOW)
    if HOW[0] == LABELED:
        found = tl.load(output + number * plane + corners_of(source, tile)[0]).to(tl.int64)
        wrong = (found < 0) | (found >= classes)
        label = tl.where(wrong, 0, found).to(tl.int32)
        at_fault = tl.max(wrong.to(tl.int32)) > 0
    else:
        scores = output + number * classes * plane
        label = tl.zeros((ROWS, COLUMNS), tl.int32)
        best = tl.full((ROWS, COLUMNS), _NOWHERE, tl.float32)
        if HOW[0] == _EVERY:
            corners = corners_of(source, tile)
            sound = tl.full((ROWS, COLUMNS), True, tl.int1)
            for k in range(classes):
                score = interpolate(scores, k * plane, corners)
                sound = sound & (tl.abs(score) < float("inf"))  # a weight of 0 makes no number of infinity, either
                label = tl.where(score > best, k, label)
                best = tl.maximum(score, best)
            at_fault = tl.min(sound.to(tl.int32)) == 0
        else:
            cells = _cells_of(source, tile, HOW)
            leader, state = _leaders(scores, classes, plane, cells, HOW)
            least = tl.min(state)
            at_fault = least == -2
            if (least >= 0) & (least == tl.max(state)):
                label += least
            else:
                corners = corners_of(source, tile)  # only now: fewer registers meanwhile
                for chunk in range(0, classes, _CHUNK):
                    rest = _candidates(scores, chunk, classes, plane, cells, leader, HOW)
                    while rest != 0:
                        chosen = chunk + lowest_bit(rest)
                        rest &= rest - 1
                        score = interpolate(scores, chosen * plane, corners)
                        label = tl.where(score > best, chosen, label)
                        best = tl.maximum(score, best)
    if at_fault:
        tl.atomic_or(fault + number, bit, sem="relaxed")
    return label


@triton.jit
def _cells_of(source, tile, HOW: tl.constexpr):
    """Return where the four corners of each cell that a tile's pixels lie in are in a plane; the last cell repeated."""
    _, y, x, height, width = tile
    before, h, w = source.before, source.h, source.w
    first_row = tl.load(before + y)
    last_row = tl.load(before + tl.minimum(y + ROWS, height) - 1)
    first_column = tl.load(before + height + x)
    across = tl.load(before + height + tl.minimum(x + COLUMNS, width) - 1) - first_column + 1
    cell = tl.minimum(tl.arange(0, HOW[1]), (last_row - first_row + 1) * across - 1)[None, :]
    row = first_row + cell // across
    column = first_column + cell % across
    a = row * w + column
    b = a + (column + 1 < w).to(tl.int32)
    below = tl.where(row + 1 < h, w, 0)
    return a, b, a + below, b + below


@triton.jit
def _four(scores, start, cells, there):
    """Return the scores at the corners of cells, of the class whose scores start there."""
    a, b, c, d = cells
    return (
        tl.load(scores + (start + a), there, other=0).to(tl.float32),
        tl.load(scores + (start + b), there, other=0).to(tl.float32),
        tl.load(scores + (start + c), there, other=0).to(tl.float32),
        tl.load(scores + (start + d), there, other=0).to(tl.float32),
    )


@triton.jit
def _leaders(scores, classes, plane, cells, HOW: tl.constexpr):
    """Return the class of each cell whose least corner is greatest, and the cell's state.

    The state is that class where no other can win, -1 where others may, -2 where a score is not finite.
    """
    low = tl.full((HOW[2], HOW[1]), _NOWHERE, tl.float32)  # least corner of the leader so far, and its greatest
    high = tl.full((HOW[2], HOW[1]), _NOWHERE, tl.float32)
    others = tl.full((HOW[2], HOW[1]), _NOWHERE, tl.float32)  # greatest corner of all others
    leader = tl.full((HOW[2], HOW[1]), 0, tl.int32)
    sound = tl.full((HOW[2], HOW[1]), 1, tl.int32)
    for k in range(0, classes, HOW[2]):
        ids = (k + tl.arange(0, HOW[2]))[:, None]
        there = ids < classes
        a, b, c, d = _four(scores, ids * plane, cells, there)
        least = tl.minimum(tl.minimum(a, b, _NAN), tl.minimum(c, d, _NAN), _NAN)
        most = tl.maximum(tl.maximum(a, b, _NAN), tl.maximum(c, d, _NAN), _NAN)
        sound &= ((least > _NOWHERE) & (most < float("inf"))).to(tl.int32)
        least = tl.where(there, least, _NOWHERE)
        most = tl.where(there, most, _NOWHERE)
        better = least > low
        others = tl.maximum(others, tl.where(better, high, most))
        high = tl.where(better, most, high)
        leader = tl.where(better, ids, leader)
        low = tl.where(better, least, low)
    greatest = tl.max(low, 0)
    first = tl.min(tl.where(low == greatest[None, :], leader, classes - 1), 0)
    rivals = tl.where(leader == first[None, :], others, tl.maximum(others, high))
    state = tl.where(tl.max(rivals, 0) < reach(greatest), first, -1)
    return first, tl.where(tl.min(sound, 0) == 1, state, -2)


@triton.jit
def _candidates(scores, chunk, classes, plane, cells, leader, HOW: tl.constexpr):
    """Return which of 32 classes are in some cell not below its leader at all corners, bit k for ``chunk`` + k."""
    a, b, c, d = _four(scores, leader[None, :] * plane, cells, True)
    a, b, c, d = reach(a), reach(b), reach(c), reach(d)
    bits = tl.full((HOW[2], HOW[1]), 0, tl.int32)
    for k in range(chunk, tl.minimum(chunk + _CHUNK, classes), HOW[2]):
        ids = (k + tl.arange(0, HOW[2]))[:, None]
        there = ids < classes
        one, two, three, four = _four(scores, ids * plane, cells, there)
        possible = there & ((one >= a) | (two >= b) | (three >= c) | (four >= d))
        bits |= possible.to(tl.int32) << (ids - chunk)
    return tl.reduce_or(tl.sum(bits, 0), 0)  # no two rows have a bit in common


@triton.jit
def lowest_bit(bits):
    """Return the number of the lowest bit that is set, 0..31."""
    exponent = (bits & -bits).to(tl.float32).to(tl.int32, bitcast=True) >> 23
    return (exponent & 255) - 127


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
    """Return scores at pixels, in the order of ``naive.interpolate``: first along the rows, then along the columns.

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


@triton.jit
def reach(score):
    """Return what a score has to be below at every corner of a cell to stay below another in all of it.

    Interpolation is off by at most 2.4e-7 of the sizes of both scores. Of a score that is below, either the size is at
    most twice that of the other, then that is 7.2e-7 of this; or the distance is more than a third of both sizes. Near
    zero rounding is absolute: a few times 1e-38 at most, should a GPU take denormal numbers for 0. And s - 2e-6 |s|
    rises with s, so that what is below it for a class's least corner is so for all its corners.
    """
    return score - (tl.abs(score) * 2e-6 + 1e-36)
