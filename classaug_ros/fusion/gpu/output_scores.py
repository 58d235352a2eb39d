"""Scores of the output classes from weighted sums on a GPU: the second of the probability rule's kernels."""

from __future__ import annotations

import triton
import triton.language as tl

from classaug_ros.fusion.gpu.pooling import load_score
from classaug_ros.fusion.scores import WITHIN

SCORED = (16, 32)
"""Classes, or groups, at a time, and samples of one program of ``score``."""
SCORE_WARPS = 4

_WITHIN = tl.constexpr(float(WITHIN))
_LOWEST = tl.constexpr(-3e38)  # below every sum; finite, as infinity less infinity is no number


@triton.jit(
    do_not_specialize=["groups", "classes", "mains", "team", "height", "width", "coarse_height", "coarse_width"]
)
def score(
    sums,
    coarse_sums,
    main,
    scores,
    group_of,
    boost,
    teams,
    rows,
    downs,
    columns,
    rights,
    groups,
    classes,
    mains,
    team,
    height,
    width,
    coarse_height,
    coarse_width,
    SAME: tl.constexpr,
    MAIN_FINE: tl.constexpr,
    LOGS: tl.constexpr,
    TOGETHER: tl.constexpr,
    POSTERIOR: tl.constexpr,
    CLASSES: tl.constexpr,
    SAMPLES: tl.constexpr,
):
    """Make the scores of all output classes, and the posterior of all groups, at a few samples of the finer grid.

    Args:
        sums: of the finer model, N x groups x height x width float32; with POSTERIOR, that is written over them.
        coarse_sums: of the other one, N x groups x coarse_height x coarse_width float32.
        main: scores of the main model, N x mains x its height x its width float32 or float16.
        scores: N x classes x height x width float32, written.
        group_of: int32, group of each output class.
        boost: float32, of each group.
        teams: mains x team int32, the main classes of each one's group, some repeated where there are fewer.
        rows: height int32, row of the coarser grid before each row of the finer one.
        downs: height float32, weight of the row after.
        columns: width int32, as ``rows``.
        rights: width float32, as ``downs``.
        groups: number of groups.
        classes: number of output classes.
        mains: number of main classes.
        team: number of main classes in the largest group.
        height: rows of the finer grid.
        width: columns of the finer grid.
        coarse_height: rows of the coarser grid.
        coarse_width: columns of the coarser grid.
        SAME: whether both grids are the same.
        MAIN_FINE: whether the finer one is the main model's, as it is where both are the same.
        LOGS: whether the main model's scores are probabilities.
        TOGETHER: whether the main model alone decides among all main classes, and not just within each group.
        POSTERIOR: whether that is wanted.
        CLASSES: at a time, or groups.
        SAMPLES: of a program.
    """
    image = tl.program_id(1).to(tl.int64)
    plane = height * width
    coarse_plane = coarse_height * coarse_width
    sums += image * groups * plane
    coarse_sums += image * groups * coarse_plane
    scores += image * classes * plane
    main += image * mains * (plane if MAIN_FINE else coarse_plane)

    sample = tl.program_id(0) * SAMPLES + tl.arange(0, SAMPLES)
    inside = (sample < plane)[None, :]
    sample = tl.minimum(sample, plane - 1)
    grids = (
        plane,
        coarse_plane,
        sample[None, :],
        _corners(sample, width, coarse_height, coarse_width, rows, downs, columns, rights),
    )
    sample = sample[None, :]
    each = tl.arange(0, CLASSES)[:, None]

    best = tl.full((CLASSES, SAMPLES), _LOWEST, tl.float32)
    most = tl.full((CLASSES, SAMPLES), _LOWEST, tl.float32)
    if TOGETHER:
        for first in range(0, mains, CLASSES):
            k = tl.minimum(first + each, mains - 1)
            group = tl.load(group_of + k)
            best = tl.maximum(best, _total(sums, coarse_sums, group, grids, SAME) + tl.load(boost + group))
            most = tl.maximum(most, _own(main, k, grids, MAIN_FINE, LOGS))
        best = tl.max(best, axis=0)[None, :]
        most = tl.max(most, axis=0)[None, :]

    for first in range(0, classes, CLASSES):
        k = first + each
        group = tl.load(group_of + k, k < classes, other=0)
        value = _total(sums, coarse_sums, group, grids, SAME) + tl.load(boost + group)
        if first < mains:
            one = tl.minimum(k, mains - 1)
            own = _own(main, one, grids, MAIN_FINE, LOGS)
            leader = own
            if TOGETHER:
                value = tl.where(k < mains, best, value)
                leader = tl.maximum(own, most)
            else:
                for number in range(1, team):
                    other = tl.load(teams + one * team + number)
                    leader = tl.maximum(leader, _own(main, other, grids, MAIN_FINE, LOGS))
            value = tl.where(k < mains, value + _WITHIN * (own - leader), value)
        tl.store(scores + k.to(tl.int64) * plane + sample, value, (k < classes) & inside)

    if POSTERIOR:
        _normalise(sums, coarse_sums, groups, grids, each, inside, SAME, CLASSES, SAMPLES)


@triton.jit
def _corners(sample, width, coarse_height, coarse_width, rows, downs, columns, rights):
    """Return which four samples of the coarser grid surround those of the finer one, and the weights of the latter two.

    The weights are those of the samples to the right, and of the ones below.
    """
    y = sample // width
    x = sample % width
    row = tl.load(rows + y)
    column = tl.load(columns + x)
    below = tl.minimum(row + 1, coarse_height - 1) * coarse_width
    beside = tl.minimum(column + 1, coarse_width - 1)
    row *= coarse_width
    right = tl.load(rights + x)[None, :]
    down = tl.load(downs + y)[None, :]
    a = (row + column)[None, :]
    b = (row + beside)[None, :]
    c = (below + column)[None, :]
    d = (below + beside)[None, :]
    return a, b, c, d, right, down


@triton.jit
def _normalise(
    sums, coarse_sums, groups, grids, each, inside, SAME: tl.constexpr, CLASSES: tl.constexpr, SAMPLES: tl.constexpr
):
    """Write the softmax of all groups' totals over the finer model's sums."""
    high = tl.full((CLASSES, SAMPLES), _LOWEST, tl.float32)
    power = tl.zeros((CLASSES, SAMPLES), tl.float32)
    for first in range(0, groups, CLASSES):
        group = first + each
        total = _total(sums, coarse_sums, tl.minimum(group, groups - 1), grids, SAME)
        higher = tl.maximum(high, total)
        power = power * tl.exp(high - higher) + tl.where(group < groups, tl.exp(total - higher), 0.0)
        high = higher
    highest = tl.max(high, axis=0)[None, :]
    whole = tl.sum(power * tl.exp(high - highest), axis=0)[None, :]
    tl.debug_barrier()  # all threads have read, for the scores, the sums that are written over now
    for first in range(0, groups, CLASSES):
        group = first + each
        total = _total(sums, coarse_sums, tl.minimum(group, groups - 1), grids, SAME)
        plane, _, sample, _ = grids
        tl.store(sums + group.to(tl.int64) * plane + sample, tl.exp(total - highest) / whole, (group < groups) & inside)


@triton.jit
def _total(sums, coarse_sums, group, grids, SAME: tl.constexpr):
    """Return log P(group), up to a constant per sample."""
    plane, coarse_plane, sample, corners = grids
    fine = tl.load(sums + group.to(tl.int64) * plane + sample)
    if SAME:
        coarse = tl.load(coarse_sums + group.to(tl.int64) * plane + sample)
    else:
        coarse = _between(coarse_sums + group.to(tl.int64) * coarse_plane, corners, False)
    return fine + coarse


@triton.jit
def _own(main, k, grids, MAIN_FINE: tl.constexpr, LOGS: tl.constexpr):
    """Return what the main model itself scores a class."""
    plane, coarse_plane, sample, corners = grids
    if MAIN_FINE:
        own = load_score(main + k.to(tl.int64) * plane + sample, LOGS)
    else:
        own = _between(main + k.to(tl.int64) * coarse_plane, corners, LOGS)
    return own


@triton.jit
def _between(plane, corners, LOGS: tl.constexpr):
    """Return what lies between four corners, in the order of ``reference.interpolate``."""
    a, b, c, d, right, down = corners
    top = load_score(plane + a, LOGS) * (1.0 - right) + load_score(plane + b, LOGS) * right
    bottom = load_score(plane + c, LOGS) * (1.0 - right) + load_score(plane + d, LOGS) * right
    return top * (1.0 - down) + bottom * down
