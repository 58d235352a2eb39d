"""Fusion on the CPU, compiled by Numba; equal to ``naive`` label for label.

Bilinear values are convex combinations of a cell's four corners: a class that is greatest at all four corners is
greatest in the whole cell, and one that is below another at all four never wins there. So most cells are filled at
once, and in the others only a few classes are interpolated. The compiled functions release the GIL.
"""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from classaug_ros.fusion.naive import source_coordinates
from classaug_ros.images import Frame
from classaug_ros.labels import LabelMap
from classaug_ros.models import Upsampling

# Rounding can make two interpolated values equal whose corners are not, and then the lower id wins. A class counts
# as below another of higher id only if it is lower by more than the rounding of the interpolation (a few times 2^-24).
# _LEAST does the same near zero, where the rounding of denormal numbers is absolute.
_MARGIN = np.float32(2e-6)
_LEAST = np.float32(1e-36)

_NO_PICTURE = np.empty((0, 0, 3), np.uint8)
_NO_PALETTE = np.empty((0, 3), np.uint8)


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


def fuse(
    main: LabelMap,
    sub: LabelMap,
    table: LabelMap,
    *,
    palette: NDArray[np.uint8] | None = None,
    frame: Frame | None = None,
    alpha: float = 0.5,
    workers: Executor | None = None,
) -> tuple[LabelMap, NDArray[np.uint8] | None, NDArray[np.uint8] | None]:
    """Return label map, colours and overlay in one pass over the pixels; see ``naive.fuse``.

    ``workers`` takes one half of the rows; without it the calling thread does all.
    """
    label = np.empty(main.shape, table.dtype)
    color = _NO_PICTURE if palette is None else np.empty((*main.shape, 3), np.uint8)
    overlay = _NO_PICTURE if palette is None or frame is None else np.empty((*main.shape, 3), np.uint8)
    colors = _NO_PALETTE if palette is None else palette
    # Padded rows are copied: compiled for them too, the first such frame would wait for the compiler.
    pixels = _NO_PICTURE if frame is None else np.ascontiguousarray(frame.pixels)
    red = 0 if frame is None or frame.order == "rgb" else 2
    weight = np.uint32(round(alpha * 256))

    def rows(part: slice) -> None:
        _fuse(
            *(main[part], sub[part], table, colors, pixels[part], red, weight),
            *(label[part], color[part], overlay[part]),
        )

    middle = main.shape[0] // 2 if workers is not None else 0
    upper = workers.submit(rows, slice(0, middle)) if workers is not None else None
    rows(slice(middle, None))
    if upper is not None:
        upper.result()
    return label, None if palette is None else color, None if palette is None or frame is None else overlay


def count(main: LabelMap, sub: LabelMap, truth: LabelMap, triples: NDArray[np.int64]) -> None:
    """Add 1 to triples[main, sub, truth] for each pixel; see ``naive.count``."""
    _count(main, sub, truth, triples)


def warm_up() -> None:
    """Load the compiled functions, or compile them at the very first time, for label maps of uint8.

    It takes half a second, or several at the first time, and can go on in a thread while the models are loaded.
    """
    labels = label_map(np.zeros((2, 2, 2), np.float32), (2, 2), "half_pixel", np.dtype(np.uint8))
    table, palette = np.zeros((2, 2), np.uint8), np.zeros((256, 3), np.uint8)
    pixels = np.zeros((2, 2, 3), np.uint8)
    for writeable in (True, False):  # as converted pixels are, and those of a message
        pixels.flags.writeable = writeable
        fuse(labels, labels, table, palette=palette, frame=Frame(pixels, "rgb"))


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
def _count(main: Any, sub: Any, truth: Any, triples: Any) -> None:
    classes = triples.shape[2]
    for y in range(truth.shape[0]):
        for x in range(truth.shape[1]):
            if truth[y, x] < classes:
                triples[main[y, x], sub[y, x], truth[y, x]] += 1


@_compiled
def _fuse(
    main: Any,
    sub: Any,
    table: Any,
    palette: Any,
    pixels: Any,
    red: Any,
    weight: Any,
    label: Any,
    color: Any,
    overlay: Any,
) -> None:
    height, width = main.shape
    rest = np.uint32(256) - weight
    half = np.uint32(128)
    for y in range(height):
        for x in range(width):
            label[y, x] = table[main[y, x], sub[y, x]]
        if color.shape[0] > 0:
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
