"""Fusion on the CPU, compiled by Numba; equal to ``fusion.reference`` label for label.

Bilinear values are convex combinations of a cell's four corners: a class that is greatest at all four corners is
greatest in the whole cell, and one that is below another at all four never wins there. So most cells are filled at
once, and in the others only a few classes are interpolated. The compiled functions release the GIL.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classaug_ros.fusion.cpu.compiled import compiled
from classaug_ros.fusion.geometry import source_coordinates
from classaug_ros.imaging.images import Frame
from classaug_ros.models.card import Upsampling
from classaug_ros.models.labels import LabelMap

# Rounding can make two interpolated values equal whose corners are not, and then the lower id wins. A class counts
# as below another of higher id only if it is lower by more than the rounding of the interpolation (a few times 2^-24).
# LEAST does the same near zero, where the rounding of denormal numbers is absolute.
_MARGIN = np.float32(2e-6)
LEAST = np.float32(1e-36)

_NO_PICTURE = np.empty((0, 0, 3), np.uint8)


def label_map(
    scores: NDArray[np.float32],
    size: tuple[int, int],
    convention: Upsampling,
    dtype: np.dtype[Any],
    workers: Executor | None = None,
) -> LabelMap:
    """Return the class of the greatest upsampled score of each pixel; see ``reference.label_map``.

    ``workers`` takes one half of the rows; without it the calling thread does all.
    """
    scores = np.ascontiguousarray(scores)
    return fill(scores, *winners(scores, workers), size, convention, dtype, workers)


def fill(
    scores: NDArray[np.float32],
    winners: NDArray[np.int32],
    clear: NDArray[np.bool_],
    size: tuple[int, int],
    convention: Upsampling,
    dtype: np.dtype[Any],
    workers: Executor | None,
) -> LabelMap:
    """Return the label map of scores whose ``winners`` are known; see ``label_map``."""
    _, h, w = scores.shape
    row, down = source_coordinates(size[0], h, convention)
    column, right = source_coordinates(size[1], w, convention)
    labels = np.empty(size, dtype)
    rows, columns = cell_starts(row, max(h - 1, 1)), cell_starts(column, max(w - 1, 1))
    in_halves(
        lambda part: _fill_cells(scores, winners, clear, rows, columns, down, right, labels, part.start, part.stop),
        rows.size - 1,
        workers,
    )
    return labels


def look_up(main: LabelMap, sub: LabelMap, table: LabelMap, workers: Executor | None = None) -> LabelMap:
    """Return table[main, sub] of each pixel; see ``reference.look_up``; ``workers`` as for ``label_map``."""
    label = np.empty(main.shape, table.dtype)
    in_halves(lambda part: _look_up(main[part], sub[part], table, label[part]), len(label), workers)
    return label


def paint(
    label: LabelMap,
    palette: NDArray[np.uint8],
    frame: Frame | None = None,
    alpha: float = 0.5,
    workers: Executor | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Return colours and overlay in one pass over pixels; see ``reference.paint``; ``workers`` as for ``label_map``."""
    color = np.empty((*label.shape, 3), np.uint8)
    overlay = _NO_PICTURE if frame is None else np.empty((*label.shape, 3), np.uint8)
    # Padded rows are copied and all pixels taken as read-only: compiled for others too, a frame would wait for that.
    pixels = (_NO_PICTURE if frame is None else np.ascontiguousarray(frame.pixels)).view()
    pixels.flags.writeable = False
    red = 0 if frame is None or frame.order == "rgb" else 2
    weight = np.uint32(round(alpha * 256))
    in_halves(
        lambda part: _paint(label[part], palette, pixels[part], red, weight, color[part], overlay[part]),
        len(label),
        workers,
    )
    return color, None if frame is None else overlay


def join(
    first: LabelMap,
    sure: NDArray[np.uint8],
    further: LabelMap,
    surer: NDArray[np.uint8],
    added: NDArray[np.bool_],
    workers: Executor | None = None,
) -> tuple[LabelMap, NDArray[np.uint8]]:
    """Let a further sub model's added classes in; see ``reference.join``; ``workers`` as for ``label_map``."""
    label, confidence = first.copy(), sure.copy()
    in_halves(lambda part: _join(label[part], confidence[part], further[part], surer[part], added), len(label), workers)
    return label, confidence


def count(main: LabelMap, sub: LabelMap, truth: LabelMap, triples: NDArray[np.int64]) -> None:
    """Add 1 to triples[main, sub, truth] for each pixel; see ``reference.count``."""
    _count(main, sub, truth, triples)


def warm_up() -> None:
    """Load the compiled functions, or compile them at the very first time, for label maps of uint8.

    It takes half a second, or several at the first time, and can go on in a thread while the models are loaded.
    """
    labels = label_map(np.zeros((2, 2, 2), np.float32), (2, 2), "half_pixel", np.dtype(np.uint8))
    table, palette = np.zeros((2, 2), np.uint8), np.zeros((256, 3), np.uint8)
    paint(look_up(labels, labels, table), palette, Frame(np.zeros((2, 2, 3), np.uint8), "rgb"))


def winners(
    scores: NDArray[np.float32], workers: Executor | None = None
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return per sample the class of the greatest score, and whether it is clear of every lower id, each h x w.

    ``workers`` as for ``label_map``.
    """
    _, h, w = scores.shape
    best, clear = np.empty((h, w), np.int32), np.empty((h, w), np.bool_)
    in_halves(lambda part: corner_winners(scores, best, clear, part.start, part.stop), h, workers)
    return best, clear


def cell_starts(before: NDArray[np.intp], cells: int) -> NDArray[np.intp]:
    """Return the first output position of each cell, and the end: positions ascend, so a cell's are contiguous."""
    return np.searchsorted(before, np.arange(cells + 1))


def in_halves(work: Callable[[slice], object], rows: int, workers: Executor | None) -> None:
    """Do work on all rows: on all at once, or on the upper half in ``workers`` while the caller does the lower one."""
    if workers is None or rows < 2:
        work(slice(0, rows))
        return
    upper = workers.submit(work, slice(0, rows // 2))
    work(slice(rows // 2, rows))
    upper.result()


@compiled
def corner_winners(scores: Any, winners: Any, clear: Any, first: Any, last: Any) -> None:
    """Find per sample the class of the greatest score, and whether it is clear of every lower id."""
    classes, _, w = scores.shape
    best = np.empty(w, np.float32)
    runner_up = np.empty(w, np.float32)
    for y in range(first, last):
        for x in range(w):
            winners[y, x] = 0
            best[x] = scores[0, y, x]
            runner_up[x] = -np.inf
        for k in range(1, classes):
            for x in range(w):
                value = scores[k, y, x]
                if value > best[x]:
                    runner_up[x] = best[x]
                    best[x] = value
                    winners[y, x] = k
        for x in range(w):
            least = _MARGIN * (abs(best[x]) + abs(runner_up[x])) + LEAST
            clear[y, x] = winners[y, x] == 0 or best[x] - runner_up[x] > least


@compiled
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
                least = _MARGIN * (abs(corners[winner, i]) + abs(corners[k, i])) + LEAST
                if not (gap > least if k < winner else gap >= 0):
                    below = False
                    break
            if below:
                possible = False
        if possible:
            ids[count] = k
            for i in range(4):
                values[count, i] = corners[k, i]
            count += 1
    return count


@compiled
def bilinear(a: Any, b: Any, c: Any, d: Any, u: Any, v: Any) -> Any:
    """Return what lies between four corners, a and b above c and d; in the order of ``reference.interpolate``."""
    one = np.float32(1)
    top = a * (one - u) + b * u
    bottom = c * (one - u) + d * u
    return top * (one - v) + bottom * v


@compiled
def _fill_cells(
    scores: Any,
    winners: Any,
    clear: Any,
    rows: Any,
    columns: Any,
    down: Any,
    right: Any,
    labels: Any,
    first: Any,
    last: Any,
) -> None:
    classes, h, w = scores.shape
    ids = np.empty(classes, np.int32)
    values = np.empty((classes, 4), np.float32)
    corners = np.empty((classes, 4), np.float32)
    corner_winners = np.empty(4, np.int32)
    for r in range(first, last):
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
                        score = bilinear(values[i, 0], values[i, 1], values[i, 2], values[i, 3], u, v)
                        if score > best:
                            best = score
                            label = ids[i]
                    labels[y, x] = label


@compiled
def _count(main: Any, sub: Any, truth: Any, triples: Any) -> None:
    classes = triples.shape[2]
    for y in range(truth.shape[0]):
        for x in range(truth.shape[1]):
            if truth[y, x] < classes:
                triples[main[y, x], sub[y, x], truth[y, x]] += 1


@compiled
def _look_up(main: Any, sub: Any, table: Any, label: Any) -> None:
    height, width = main.shape
    for y in range(height):
        for x in range(width):
            label[y, x] = table[main[y, x], sub[y, x]]


@compiled
def _join(label: Any, confidence: Any, further: Any, surer: Any, added: Any) -> None:
    height, width = label.shape
    for y in range(height):
        for x in range(width):
            offered = further[y, x]
            if added[offered] and (not added[label[y, x]] or surer[y, x] > confidence[y, x]):
                label[y, x] = offered
                confidence[y, x] = surer[y, x]


@compiled
def _paint(label: Any, palette: Any, pixels: Any, red: Any, weight: Any, color: Any, overlay: Any) -> None:
    height, width = label.shape
    rest = np.uint32(256) - weight
    half = np.uint32(128)
    for y in range(height):
        for x in range(width):
            ids = label[y, x]
            color[y, x, 0] = palette[ids, 0]
            color[y, x, 1] = palette[ids, 1]
            color[y, x, 2] = palette[ids, 2]
        if overlay.shape[0] > 0:
            for x in range(width):
                for channel in range(3):
                    value = pixels[y, x, abs(red - channel)] * rest + color[y, x, channel] * weight + half
                    overlay[y, x, channel] = value >> np.uint32(8)
