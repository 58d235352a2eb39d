"""Fusion on the CPU, compiled by Numba; equal to ``naive`` label for label.

Bilinear values are convex combinations of a cell's four corners: a class that is greatest at all four corners is
greatest in the whole cell, and one that is below another at all four never wins there. So most cells are filled at
once, and in the others only a few classes are interpolated. The functions release the GIL and use one core each.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from classaug_ros.fusion.naive import source_coordinates
from classaug_ros.labels import LabelMap
from classaug_ros.models import Upsampling

# Rounding can make two interpolated values equal whose corners are not, and then the lower id wins. A class counts
# as below another of higher id only if it is lower by more than the rounding of the interpolation (a few times 2^-24).
# _LEAST does the same near zero, where the rounding of denormal numbers is absolute.
_MARGIN = np.float32(2e-6)
_LEAST = np.float32(1e-36)


def _compiled(function: Any) -> Any:
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no place to keep the machine code, as in a read-only container: compiled by every process
        return numba.njit(nogil=True)(function)


def label_map(
    scores: NDArray[np.float32], size: tuple[int, int], convention: Upsampling, dtype: np.dtype[Any]
) -> LabelMap:
    """Return the class of the greatest upsampled score of each pixel; see ``naive.label_map``."""
    _, h, w = scores.shape
    row, down = source_coordinates(size[0], h, convention)
    column, right = source_coordinates(size[1], w, convention)
    labels = np.empty(size, dtype)
    scores = np.ascontiguousarray(scores)
    winners, clear = _corner_winners(scores)
    rows, columns = _starts(row, max(h - 1, 1)), _starts(column, max(w - 1, 1))
    _fill_cells(scores, winners, clear, rows, columns, down, right, labels)
    return labels


def look_up(main: LabelMap, sub: LabelMap, table: LabelMap) -> LabelMap:
    """Return table[main, sub] per pixel; see ``naive.look_up``."""
    labels = np.empty(main.shape, table.dtype)
    _look_up(main, sub, table, labels)
    return labels


def colorize(labels: LabelMap, palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the colour of each pixel; see ``naive.colorize``."""
    color = np.empty((*labels.shape, 3), np.uint8)
    _colorize(labels, palette, color)
    return color


def blend(image: NDArray[np.uint8], color: NDArray[np.uint8], alpha: float) -> NDArray[np.uint8]:
    """Return image * (1 - alpha) + color * alpha; see ``naive.blend``."""
    mixed = np.empty(color.shape, np.uint8)
    _blend(np.ascontiguousarray(image), color, np.uint32(round(alpha * 256)), mixed)
    return mixed


def _starts(before: NDArray[np.intp], cells: int) -> NDArray[np.intp]:
    """Return the first output position of each cell, and the end: positions ascend, so a cell's are contiguous."""
    return np.searchsorted(before, np.arange(cells + 1))


@_compiled
def _corner_winners(scores: Any) -> Any:
    """Return per sample the class of the greatest score, and whether it is clear of every lower id."""
    classes, h, w = scores.shape
    winners = np.zeros((h, w), np.int32)
    clear = np.empty((h, w), np.bool_)
    best = np.empty(w, np.float32)
    runner_up = np.empty(w, np.float32)
    for y in range(h):
        best[:] = scores[0, y]
        runner_up[:] = -np.inf
        for k in range(1, classes):
            for x in range(w):
                value = scores[k, y, x]
                if value > best[x]:
                    runner_up[x] = best[x]
                    best[x] = value
                    winners[y, x] = k
        for x in range(w):
            least = _MARGIN * (abs(best[x]) + abs(runner_up[x])) + _LEAST
            clear[y, x] = winners[y, x] == 0 or best[x] - runner_up[x] > least
    return winners, clear


@_compiled
def _candidates(corners: Any, corner_winners: Any, ids: Any, values: Any) -> int:
    """Collect the classes that can win in a cell, with their corner scores; return how many."""
    count = 0
    for k in range(corners.shape[0]):
        possible = True
        for corner in range(4):
            winner = corner_winners[corner]
            if winner == k:
                possible = True
                break
            below = True
            for i in range(4):
                gap = corners[winner, i] - corners[k, i]
                least = _MARGIN * (abs(corners[winner, i]) + abs(corners[k, i])) + _LEAST
                if not (gap > least if k < winner else gap >= 0):
                    below = False
                    break
            if below:
                possible = False
        if possible:
            ids[count] = k
            values[count] = corners[k]
            count += 1
    return count


@_compiled
def _fill_cells(
    scores: Any, winners: Any, clear: Any, rows: Any, columns: Any, down: Any, right: Any, labels: Any
) -> None:
    classes, h, w = scores.shape
    ids = np.empty(classes, np.int32)
    values = np.empty((classes, 4), np.float32)
    corners = np.empty((classes, 4), np.float32)
    corner_winners = np.empty(4, np.int32)
    one = np.float32(1)
    for r in range(rows.size - 1):
        below = min(r + 1, h - 1)
        for c in range(columns.size - 1):
            beside = min(c + 1, w - 1)
            winner = winners[r, c]
            same = winner == winners[r, beside] and winner == winners[below, c] and winner == winners[below, beside]
            if same and clear[r, c] and clear[r, beside] and clear[below, c] and clear[below, beside]:
                labels[rows[r] : rows[r + 1], columns[c] : columns[c + 1]] = winner
                continue
            for k in range(classes):
                corners[k, 0] = scores[k, r, c]
                corners[k, 1] = scores[k, r, beside]
                corners[k, 2] = scores[k, below, c]
                corners[k, 3] = scores[k, below, beside]
            corner_winners[0] = winner
            corner_winners[1] = winners[r, beside]
            corner_winners[2] = winners[below, c]
            corner_winners[3] = winners[below, beside]
            count = _candidates(corners, corner_winners, ids, values)
            for y in range(rows[r], rows[r + 1]):
                v = down[y]
                for x in range(columns[c], columns[c + 1]):
                    u = right[x]
                    best = np.float32(-np.inf)
                    label = ids[0]
                    for i in range(count):
                        top = values[i, 0] * (one - u) + values[i, 1] * u
                        bottom = values[i, 2] * (one - u) + values[i, 3] * u
                        score = top * (one - v) + bottom * v
                        if score > best:
                            best = score
                            label = ids[i]
                    labels[y, x] = label


@_compiled
def _look_up(main: Any, sub: Any, table: Any, labels: Any) -> None:
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            labels[y, x] = table[main[y, x], sub[y, x]]


@_compiled
def _colorize(labels: Any, palette: Any, color: Any) -> None:
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            label = labels[y, x]
            color[y, x, 0] = palette[label, 0]
            color[y, x, 1] = palette[label, 1]
            color[y, x, 2] = palette[label, 2]


@_compiled
def _blend(image: Any, color: Any, weight: Any, mixed: Any) -> None:
    rest = np.uint32(256) - weight
    for y in range(color.shape[0]):
        for x in range(color.shape[1]):
            for channel in range(3):
                value = image[y, x, channel] * rest + color[y, x, channel] * weight + np.uint32(128)
                mixed[y, x, channel] = value >> np.uint32(8)
