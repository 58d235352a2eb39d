"""Kernels that let scores follow the image's edges, at the resolution of scores; see ``Contours``."""

from __future__ import annotations

import numpy as np
import triton
import triton.language as tl

from classaug_ros.fusion.gpu.argmax import reach
from classaug_ros.fusion.gpu.guided_argmax import WORD, brightness
from classaug_ros.fusion.gpu.sampling_grid import COLUMNS, ROWS, corners_of, interpolate
from classaug_ros.fusion.scores import EDGE

_EDGE = tl.constexpr(float(EDGE))
_THIRD = tl.constexpr(float(np.float32(1 / 3)))
_NOWHERE = tl.constexpr(float("-inf"))


@triton.jit
def spread(
    source,
    greatest,
    frames,
    length,
    step,
    cells,
    down,
    guide,
    values,
    height,
    width,
    SPREAD: tl.constexpr,
    LAYOUT: tl.constexpr,
    ACROSS: tl.constexpr,
):
    """Bring brightness and scores to the guide's grid, and find which classes are greatest anywhere.

    Args:
        source: scores, with the positions of the guide's samples among theirs.
        greatest: N x classes int32, set to 1 where a class is the greatest at a sample of the scores.
        frames: N x length uint8.
        length: bytes of a frame.
        step: bytes from a row of it to the next.
        cells: int32, the first row of the pixels nearest to each row of samples, the row after the last; the same of
            columns.
        down: rows of the tallest cell.
        guide: N x height x width float32, the mean brightness of each cell, 0..1; written.
        values: N x classes x height x width float32, written.
        height: rows of the guide's grid.
        width: its columns.
        SPREAD: whether the grids differ; where they do not, ``values`` are the scores themselves and left alone.
        LAYOUT: of the frames.
        ACROSS: columns of the widest cell.
    """
    jobs = 2
    if SPREAD:
        jobs += source.classes
    number = (tl.program_id(2) // jobs).to(tl.int64)
    job = tl.program_id(2) % jobs
    tile = number, tl.program_id(1) * ROWS, tl.program_id(0) * COLUMNS, height, width
    ys = (tile[1] + tl.arange(0, ROWS))[:, None]
    xs = (tile[2] + tl.arange(0, COLUMNS))[None, :]
    inside = (ys < height) & (xs < width)
    sample = ys * width + xs
    plane = height * width
    scores = source.output + number * source.classes * source.h * source.w
    if job == 0:
        mean = _mean_brightness(frames + number * length, step, cells, down, tile, LAYOUT, ACROSS)
        tl.store(guide + number * plane + sample, mean, inside)
    elif job == 1:
        there = (ys < source.h) & (xs < source.w)  # of the scores' own grid, which is nowhere finer
        winner = _winners(scores + (ys * source.w + xs), source.classes, source.h * source.w, there)
        tl.store(greatest + number * source.classes + winner, 1, there)
    elif SPREAD:
        k = (job - 2).to(tl.int64)
        value = interpolate(scores + k * source.h * source.w, 0, corners_of(source, tile))
        tl.store(values + (number * source.classes + k) * plane + sample, value, inside)


@triton.jit
def _mean_brightness(image, step, cells, down, tile, LAYOUT: tl.constexpr, ACROSS: tl.constexpr):
    _, y, x, height, width = tile
    ys = tl.minimum(y + tl.arange(0, ROWS), height - 1)[:, None]
    xs = tl.minimum(x + tl.arange(0, COLUMNS), width - 1)[None, :]
    top = tl.load(cells + ys)
    bottom = tl.load(cells + height + ys)
    left = tl.load(cells + 2 * height + xs)
    right = tl.load(cells + 2 * height + width + xs)
    total = tl.zeros((ROWS, COLUMNS), tl.int32)
    for row in range(down):
        for column in tl.static_range(ACROSS):
            there = (top + row < bottom) & (left + column < right)
            total += tl.where(there, brightness(image, top + row, left + column, step, there, LAYOUT), 0)
    most = 255 * (bottom - top) * (right - left)
    return tl.div_rn(total.to(tl.float32), most.to(tl.float32))  # of whole numbers below 2^24: as rounded from 64 bits


@triton.jit
def _winners(scores, classes, plane, there):
    """Return the first class of the greatest score at each sample of a tile."""
    best = tl.full((ROWS, COLUMNS), _NOWHERE, tl.float32)
    winner = tl.zeros((ROWS, COLUMNS), tl.int32)
    for k in tl.range(classes, loop_unroll_factor=4):  # so that the loads of four classes are under way at once
        score = tl.load(scores, there, other=0)
        winner = tl.where(score > best, k, winner)
        best = tl.maximum(best, score)
        scores += plane
    return winner


@triton.jit
def bend(
    values,
    guide,
    greatest,
    offsets,
    slopes,
    classes,
    height,
    width,
    CLASSES: tl.constexpr,
    SAMPLES: tl.constexpr,
):
    """Find for a few classes that are greatest anywhere the line that their scores follow around each sample.

    Args:
        values: N x classes x height x width float32.
        guide: see ``spread``, as is ``greatest``.
        greatest: see there.
        offsets: score where the image is black, N x classes x height x width float32; written.
        slopes: how much more it is where the image is white, the same; written.
        classes: number of classes.
        height: rows of samples.
        width: columns.
        CLASSES: of a program.
        SAMPLES: of a program.
    """
    start, at, there, around = _place(greatest, classes, height, width, CLASSES, SAMPLES)
    rows, columns = around
    values += start
    guide += tl.program_id(2).to(tl.int64) * height * width
    left, left_light, left_both, left_square = _columns(values, guide, rows, columns[0], there)
    here, here_light, here_both, here_square = _columns(values, guide, rows, columns[1], there)
    right, right_light, right_both, right_square = _columns(values, guide, rows, columns[2], there)
    means = _mean(left, here, right)
    mean = _mean(left_light, here_light, right_light)
    both = _mean(left_both, here_both, right_both)
    square = _mean(left_square, here_square, right_square)
    slope = tl.div_rn(both - mean * means, tl.broadcast_to(square - mean * mean + _EDGE, both.shape))
    tl.store(slopes + start + at, slope, there)
    tl.store(offsets + start + at, means - slope * mean, there)


@triton.jit
def smooth(
    offsets,
    slopes,
    greatest,
    black,
    white,
    classes,
    height,
    width,
    CLASSES: tl.constexpr,
    SAMPLES: tl.constexpr,
):
    """Make scores where the image is black, and white, of the means of the lines around; see ``bend``."""
    start, at, there, around = _place(greatest, classes, height, width, CLASSES, SAMPLES)
    dark = _box(offsets + start, around, there)
    tl.store(black + start + at, dark, there)
    tl.store(white + start + at, dark + _box(slopes + start, around, there), there)


@triton.jit
def compare(
    black,
    white,
    greatest,
    contenders,
    classes,
    height,
    width,
    CLASSES: tl.constexpr,
    SAMPLES: tl.constexpr,
):
    """Find which classes can be greatest between a sample and those to the right, below and across; see ``Bent``.

    The least corner of one of the others is out of reach of those left out, as ``reach`` has it. That reckons with two
    interpolations, of which each is off by 1.2e-7 at most; with a third one, between black and white, 1.1e-6 takes the
    place of its 7.2e-7, within the same 2e-6.
    """
    number = tl.program_id(1).to(tl.int64)
    plane = height * width
    sample = tl.program_id(0) * SAMPLES + tl.arange(0, SAMPLES)
    inside = sample < plane
    a = tl.minimum(sample, plane - 1)[None, :]
    beside = (a % width + 1 < width).to(tl.int32)
    below = tl.where(a // width + 1 < height, width, 0)
    corners = a, a + beside, a + below, a + beside + below
    black += number * classes * plane
    white += number * classes * plane
    greatest += number * classes
    contenders += number * tl.cdiv(classes, WORD) * plane
    each = tl.arange(0, CLASSES)[:, None]

    low = tl.full((CLASSES, SAMPLES), _NOWHERE, tl.float32)
    for first in range(0, classes, CLASSES):
        k = first + each
        there = tl.load(greatest + k, k < classes, other=0) != 0
        start = k.to(tl.int64) * plane
        dark, _ = _extremes(black + start, corners, there)
        bright, _ = _extremes(white + start, corners, there)
        low = tl.where(there, tl.maximum(low, tl.minimum(dark, bright)), low)
    floor = reach(tl.max(low, 0))[None, :]

    for word in range(0, classes, WORD):
        bits = tl.zeros((CLASSES, SAMPLES), tl.int32)
        for first in range(word, tl.minimum(word + WORD, classes), CLASSES):
            k = first + each
            there = tl.load(greatest + k, k < classes, other=0) != 0
            start = k.to(tl.int64) * plane
            _, dark = _extremes(black + start, corners, there)
            _, bright = _extremes(white + start, corners, there)
            possible = there & (tl.maximum(dark, bright) >= floor)
            bits |= possible.to(tl.int32) << (k - word)
        tl.store(contenders + sample, tl.sum(bits, 0), inside)  # no two rows have a bit in common
        contenders += plane


@triton.jit
def _place(greatest, classes, height, width, CLASSES: tl.constexpr, SAMPLES: tl.constexpr):
    """Return where a program's classes start, its samples, which of both count, and rows and columns around these."""
    number = tl.program_id(2).to(tl.int64)
    plane = height * width
    sample = (tl.program_id(0) * SAMPLES + tl.arange(0, SAMPLES))[None, :]
    k = (tl.program_id(1) * CLASSES + tl.arange(0, CLASSES))[:, None]
    there = (tl.load(greatest + number * classes + k, k < classes, other=0) != 0) & (sample < plane)
    at = tl.minimum(sample, plane - 1)
    y = at // width
    x = at % width
    rows = tl.maximum(y - 1, 0) * width, y * width, tl.minimum(y + 1, height - 1) * width
    columns = tl.maximum(x - 1, 0), x, tl.minimum(x + 1, width - 1)
    return (number * classes + k) * plane, at, there, (rows, columns)


@triton.jit
def _columns(values, guide, rows, column, there):
    """Return the means of three samples of a column: of values, of the guide, of their products, and of its squares."""
    above, here, below = rows
    a = tl.load(values + (above + column), there, other=0)
    b = tl.load(values + (here + column), there, other=0)
    c = tl.load(values + (below + column), there, other=0)
    g = tl.load(guide + (above + column))
    h = tl.load(guide + (here + column))
    i = tl.load(guide + (below + column))
    return _mean(a, b, c), _mean(g, h, i), _mean(g * a, h * b, i * c), _mean(g * g, h * h, i * i)


@triton.jit
def _box(plane, around, there):
    """Return the means of 3 x 3 samples, in the order of ``fusion.reference``: first of columns."""
    rows, columns = around
    left = _column(plane, rows, columns[0], there)
    here = _column(plane, rows, columns[1], there)
    right = _column(plane, rows, columns[2], there)
    return _mean(left, here, right)


@triton.jit
def _column(plane, rows, column, there):
    above, here, below = rows
    a = tl.load(plane + (above + column), there, other=0)
    b = tl.load(plane + (here + column), there, other=0)
    c = tl.load(plane + (below + column), there, other=0)
    return _mean(a, b, c)


@triton.jit
def _mean(before, here, after):
    return (before + here + after) * _THIRD


@triton.jit
def _extremes(plane, corners, there):
    """Return the least and the greatest of four corners."""
    a = tl.load(plane + corners[0], there, other=0)
    b = tl.load(plane + corners[1], there, other=0)
    c = tl.load(plane + corners[2], there, other=0)
    d = tl.load(plane + corners[3], there, other=0)
    least = tl.minimum(tl.minimum(a, b), tl.minimum(c, d))
    most = tl.maximum(tl.maximum(a, b), tl.maximum(c, d))
    return least, most
