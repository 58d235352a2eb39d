"""Which class of a model's output wins each pixel of a tile, at full resolution; equal to ``fusion.reference``.

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

import triton
import triton.language as tl

from classaug_ros.fusion.gpu.sampling_grid import (
    COLUMNS,
    INTERPOLATED,
    LABELED,
    ROWS,
    corners_of,
    interpolate,
    plane_of,
)

_CHUNK = tl.constexpr(32)
_NOWHERE = tl.constexpr(float("-inf"))
_NAN = tl.constexpr(tl.PropagateNan.ALL)


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
        if HOW[0] == INTERPOLATED:
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
def reach(score):
    """Return what a score has to be below at every corner of a cell to stay below another in all of it.

    Interpolation is off by at most 2.4e-7 of the sizes of both scores. Of a score that is below, either the size is at
    most twice that of the other, then that is 7.2e-7 of this; or the distance is more than a third of both sizes. Near
    zero rounding is absolute: a few times 1e-38 at most, should a GPU take denormal numbers for 0. And s - 2e-6 |s|
    rises with s, so that what is below it for a class's least corner is so for all its corners.
    """
    return score - (tl.abs(score) * 2e-6 + 1e-36)
