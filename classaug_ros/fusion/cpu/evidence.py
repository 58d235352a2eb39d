"""Fusion by evidence on the CPU, compiled by Numba; equal to ``fusion.reference`` bit for bit.

Sums run in the specification's order, which the compiler keeps, so that nothing but speed differs.
"""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classaug_ros.fusion.cpu.compiled import compiled
from classaug_ros.fusion.cpu.table import bilinear, corner_winners, fill, in_halves, label_map
from classaug_ros.fusion.geometry import source_coordinates
from classaug_ros.fusion.scores import WITHIN, Scores, grid_positions, posterior
from classaug_ros.models.labels import LabelMap
from classaug_ros.rules.evidence import Evidence, Prefer

_TILE = 1024  # samples summed up at a time, so that the sums stay in the fastest cache
_FEW = 4096  # samples that are summed up sooner than a second thread is woken


def group_scores(
    main: Scores, sub: Scores, evidence: Evidence, size: tuple[int, int], workers: Executor | None = None
) -> Scores:
    """Return log P(group), up to a constant per sample; see ``reference.group_scores``.

    ``workers`` takes one half of the work; without it the calling thread does all.
    """
    main_is_finer = main.values[0].size >= sub.values[0].size
    fine, coarse = (main, sub) if main_is_finer else (sub, main)
    weights = (evidence.main, evidence.sub) if main_is_finer else (evidence.sub, evidence.main)
    weighted, added = _weighted(coarse, weights[1], workers)
    positions = None if _same_grid(added, fine) else _flat(grid_positions(added, fine, size))
    _, h, w = fine.values.shape
    flat = np.ascontiguousarray(fine.values).reshape(-1, h * w)
    own = np.ascontiguousarray(weights[0])
    total = np.empty((len(evidence.bias), h, w), np.float32)
    sums = total.reshape(len(total), h * w)

    def rows(part: slice) -> None:
        _pool(flat, own, evidence.bias, sums, part.start * w, part.stop * w, 0)
        if positions is None:
            for number, group in enumerate(weighted):
                total[group, part] += added.values[number, part]
        else:
            _interpolate(added.values, *positions, weighted, part.start, part.stop, 0, total)

    in_halves(rows, h, workers)
    return Scores(total, fine.convention)


def output_scores(
    groups: Scores,
    main: Scores,
    evidence: Evidence,
    prefer: Prefer,
    size: tuple[int, int],
    workers: Executor | None = None,
) -> Scores:
    """Return scores of the output classes; see ``reference.output_scores``."""
    own = np.ascontiguousarray(interpolated(main, groups, size, workers))
    teams = _teams(evidence, prefer)
    result = np.empty((evidence.groups.size, *groups.values.shape[1:]), np.float32)
    in_halves(
        lambda part: _finish(
            groups.values,
            own,
            evidence.groups,
            evidence.boost,
            teams,
            prefer == "main",
            result,
            part.start,
            part.stop,
            0,
        ),
        result.shape[1],
        workers,
    )
    return Scores(result, groups.convention)


def label_by_evidence(
    main: Scores,
    sub: Scores,
    evidence: Evidence,
    prefer: Prefer,
    size: tuple[int, int],
    dtype: np.dtype[Any],
    workers: Executor | None = None,
) -> LabelMap:
    """Return the label of each pixel: ``group_scores``, ``output_scores`` and ``label_map`` in one.

    Where the main model's grid is the finer one, a few rows at a time go through all of it, while they are in the
    cache.
    """
    if main.values[0].size < sub.values[0].size or _same_grid(main, sub):
        groups = group_scores(main, sub, evidence, size, workers)
        scores = output_scores(groups, main, evidence, prefer, size, workers)
        return label_map(scores.values, size, scores.convention, dtype, workers)
    own = np.ascontiguousarray(main.values)
    _, h, w = own.shape
    weighted, added = _weighted(sub, evidence.sub, workers)
    positions = _flat(grid_positions(added, main, size))
    teams = _teams(evidence, prefer)
    result = np.empty((evidence.groups.size, h, w), np.float32)
    winners, clear = np.empty((h, w), np.int32), np.empty((h, w), np.bool_)
    in_halves(
        lambda part: _through(
            *(own, np.ascontiguousarray(evidence.main), evidence.bias, added.values, *positions, weighted),
            *(evidence.groups, evidence.boost, teams, prefer == "main", result, winners, clear, part.start, part.stop),
        ),
        h,
        workers,
    )
    return fill(result, winners, clear, size, main.convention, dtype, workers)


def confidence(
    label: LabelMap, groups: Scores, of: NDArray[np.int32], workers: Executor | None = None
) -> NDArray[np.uint8]:
    """Return P(group of the label) of each pixel, as 0..255 for 0..1; see ``reference.confidence``."""
    shares = np.empty_like(groups.values)
    _, h, w = shares.shape

    def normalise(part: slice) -> None:
        shares[:, part] = posterior(groups.values[:, part])

    in_halves(normalise, h, workers)
    row, down = source_coordinates(label.shape[0], h, groups.convention)
    column, right = source_coordinates(label.shape[1], w, groups.convention)
    result = np.empty(label.shape, np.uint8)
    in_halves(
        lambda part: _confidence(label[part], shares, of, row[part], down[part], column, right, result[part]),
        len(label),
        workers,
    )
    return result


def interpolated(scores: Scores, grid: Scores, size: tuple[int, int], workers: Executor | None) -> NDArray[np.float32]:
    """Return scores at the samples of another grid; see ``reference.on_grid``."""
    if _same_grid(scores, grid):
        return scores.values
    _, h, w = grid.values.shape
    result = np.zeros((len(scores.values), h, w), np.float32)
    positions, ids = _flat(grid_positions(scores, grid, size)), np.arange(len(result))
    in_halves(lambda part: _interpolate(scores.values, *positions, ids, part.start, part.stop, 0, result), h, workers)
    return result


def _same_grid(scores: Scores, grid: Scores) -> bool:
    return scores.convention == grid.convention and scores.values.shape[1:] == grid.values.shape[1:]


def _flat(positions: Any) -> tuple[Any, Any, Any, Any]:
    (row, down), (column, right) = positions
    return row, down, column, right


def _teams(evidence: Evidence, prefer: Prefer) -> NDArray[np.int32]:
    """Return for each main class the number of the team within which the main model decides."""
    mains = evidence.main.shape[1]
    return np.zeros(mains, np.int32) if prefer == "main" else evidence.groups[:mains]


def _weighted(
    scores: Scores, weights: NDArray[np.float32], workers: Executor | None
) -> tuple[NDArray[np.intp], Scores]:
    """Return the groups that have weights of these scores, and the weighted sums for them, on the scores' grid."""
    groups = np.flatnonzero(weights.any(axis=1))
    own = np.ascontiguousarray(weights[groups])
    values, none = scores.values, np.zeros(len(groups), np.float32)
    result = np.empty((len(groups), *values.shape[1:]), np.float32)
    flat = np.ascontiguousarray(values).reshape(len(values), -1)
    samples = flat.shape[1]
    sums = result.reshape(len(groups), samples)  # of no groups too
    in_halves(
        lambda part: _pool(flat, own, none, sums, part.start, part.stop, 0),
        samples,
        None if samples < _FEW else workers,
    )
    return groups, Scores(result, scores.convention)


@compiled
def _pool(values: Any, weights: Any, start: Any, result: Any, first: Any, last: Any, shift: Any) -> None:
    """Set result, which begins at sample ``shift``, to the weighted sums of the samples from first up to last."""
    used = np.empty(values.shape[0], np.int64)
    for begin in range(first, last, _TILE):
        end = min(begin + _TILE, last)
        for g in range(result.shape[0]):
            total = result[g, begin - shift : end - shift]
            total[:] = start[g]
            count = 0
            for k in range(values.shape[0]):  # groups that nothing was learned of have few weights
                if weights[g, k] != 0:
                    used[count] = k
                    count += 1
            i = 0
            while i + 4 <= count:  # four classes a pass: the sums are read and written once for all of them
                p, q, r, s = used[i], used[i + 1], used[i + 2], used[i + 3]
                w0, w1, w2, w3 = weights[g, p], weights[g, q], weights[g, r], weights[g, s]
                a, b, c, d = values[p, begin:end], values[q, begin:end], values[r, begin:end], values[s, begin:end]
                for x in range(end - begin):
                    total[x] = (((total[x] + w0 * a[x]) + w1 * b[x]) + w2 * c[x]) + w3 * d[x]
                i += 4
            for rest in range(i, count):
                w0 = weights[g, used[rest]]
                a = values[used[rest], begin:end]
                for x in range(end - begin):
                    total[x] += w0 * a[x]


@compiled
def _interpolate(
    values: Any, row: Any, down: Any, column: Any, right: Any, ids: Any, first: Any, last: Any, shift: Any, result: Any
) -> None:
    """Add values, interpolated, to rows of the planes ``ids`` of result, which begins at row ``shift``."""
    _, h, w = values.shape
    one = np.float32(1)
    top = np.empty(column.size, np.float32)
    bottom = np.empty(column.size, np.float32)
    for k in range(ids.size):
        held = -1
        for y in range(first, last):
            r = row[y]
            if r != held:
                below = min(r + 1, h - 1)
                for x in range(column.size):
                    c, u = column[x], right[x]
                    beside = min(c + 1, w - 1)
                    top[x] = values[k, r, c] * (one - u) + values[k, r, beside] * u
                    bottom[x] = values[k, below, c] * (one - u) + values[k, below, beside] * u
                held = r
            v = down[y]
            for x in range(column.size):
                result[ids[k], y - shift, x] += top[x] * (one - v) + bottom[x] * v


@compiled
def _finish(
    scores: Any,
    own: Any,
    groups: Any,
    boost: Any,
    teams: Any,
    together: bool,
    result: Any,
    first: Any,
    last: Any,
    shift: Any,
) -> None:
    """Set rows of result from those of scores, which begin at row ``shift``."""
    outputs, _, w = result.shape
    mains = teams.size
    most = np.empty(w, np.float32)
    for y in range(first, last):
        for k in range(outputs):
            g = groups[k]
            for x in range(w):
                result[k, y, x] = scores[g, y - shift, x] + boost[g]
        if together:
            _level(result, y, mains, most)
        for leader in range(mains):
            if _leads_several(teams, leader):
                _lower(own, y, teams, leader, most, result)


@compiled
def _level(result: Any, y: Any, mains: Any, most: Any) -> None:
    """Give every main class the greatest score of them, in one row."""
    for x in range(most.size):
        most[x] = result[0, y, x]
    for k in range(1, mains):
        for x in range(most.size):
            most[x] = max(most[x], result[k, y, x])
    for k in range(mains):
        for x in range(most.size):
            result[k, y, x] = most[x]


@compiled
def _leads_several(teams: Any, leader: Any) -> bool:
    """Tell whether a main class is the first of its team, and not alone in it."""
    members = 0
    for k in range(teams.size):
        if teams[k] == teams[leader]:
            if k < leader:
                return False
            members += 1
    return members > 1


@compiled
def _lower(own: Any, y: Any, teams: Any, leader: Any, most: Any, result: Any) -> None:
    """Lower each class of a team, in one row, by how far the main model scores it below the best of them."""
    for x in range(most.size):
        most[x] = own[leader, y, x]
    for k in range(leader + 1, teams.size):
        if teams[k] == teams[leader]:
            for x in range(most.size):
                most[x] = max(most[x], own[k, y, x])
    for k in range(leader, teams.size):
        if teams[k] == teams[leader]:
            for x in range(most.size):
                result[k, y, x] += WITHIN * (own[k, y, x] - most[x])


@compiled
def _confidence(label: Any, shares: Any, of: Any, row: Any, down: Any, column: Any, right: Any, result: Any) -> None:
    _, h, w = shares.shape
    for y in range(row.size):
        r, v = row[y], down[y]
        below = min(r + 1, h - 1)
        for x in range(column.size):
            c, u = column[x], right[x]
            beside = min(c + 1, w - 1)
            plane = shares[of[label[y, x]]]
            share = bilinear(plane[r, c], plane[r, beside], plane[below, c], plane[below, beside], u, v)
            result[y, x] = np.uint8(share * np.float32(255) + np.float32(0.5))


@compiled
def _through(
    own: Any,
    weights: Any,
    bias: Any,
    added: Any,
    row: Any,
    down: Any,
    column: Any,
    right: Any,
    weighted: Any,
    groups: Any,
    boost: Any,
    teams: Any,
    together: bool,
    result: Any,
    winners: Any,
    clear: Any,
    first: Any,
    last: Any,
) -> None:
    classes, h, w = own.shape
    height = max(1, _TILE // w)
    flat = own.reshape(classes, h * w)
    sums = np.empty((bias.size, height * w), np.float32)
    tile = sums.reshape(bias.size, height, w)
    for begin in range(first, last, height):
        end = min(begin + height, last)
        _pool(flat, weights, bias, sums, begin * w, end * w, begin * w)
        _interpolate(added, row, down, column, right, weighted, begin, end, begin, tile)
        _finish(tile, own, groups, boost, teams, together, result, begin, end, begin)
        corner_winners(result, winners, clear, begin, end)
