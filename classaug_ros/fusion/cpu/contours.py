"""Labels that follow the image's edges, compiled by Numba; equal to ``reference.guided_label_map`` bit for bit."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classaug_ros.fusion.cpu.compiled import compiled
from classaug_ros.fusion.cpu.evidence import interpolated
from classaug_ros.fusion.cpu.table import LEAST, bilinear, cell_starts, in_halves, winners
from classaug_ros.fusion.geometry import nearest_pixels, source_coordinates
from classaug_ros.fusion.scores import EDGE, Scores, guide_grid
from classaug_ros.models.labels import LabelMap


def guided_label_map(
    scores: Scores, brightness: NDArray[np.uint8], dtype: np.dtype[Any], workers: Executor | None = None
) -> LabelMap:
    """Return labels that follow the image's edges; see ``reference.guided`` and ``guided_label_map``."""
    best, _ = winners(scores.values, workers)
    ids = np.unique(best)
    height, width = brightness.shape
    won = Scores(scores.values[ids], scores.convention)
    grid = guide_grid(won, (height, width))
    values = interpolated(won, grid, (height, width), workers)
    guide = _guide(brightness, grid, workers)
    black, white = np.empty_like(values), np.empty_like(values)
    in_halves(lambda part: _bend(values, guide, EDGE, black, white, part.start, part.stop), len(ids), workers)
    _, h, w = black.shape
    row, down = source_coordinates(height, h, grid.convention)
    column, right = source_coordinates(width, w, grid.convention)
    rows, columns = cell_starts(row, max(h - 1, 1)), cell_starts(column, max(w - 1, 1))
    labels = np.empty((height, width), dtype)
    in_halves(
        lambda part: _fill_guided(
            *(black, white, ids, brightness, rows, columns, down, right, labels, part.start, part.stop)
        ),
        rows.size - 1,
        workers,
    )
    return labels


def _guide(brightness: NDArray[np.uint8], grid: Scores, workers: Executor | None) -> NDArray[np.float32]:
    """Return the mean brightness around each sample of a grid; see ``reference.averaged``."""
    height, width = brightness.shape
    result = np.empty((grid.values.shape[1], grid.values.shape[2]), np.float32)
    top, bottom = nearest_pixels(height, result.shape[0], grid.convention)
    columns = nearest_pixels(width, result.shape[1], grid.convention)
    in_halves(lambda part: _average(brightness, top[part], bottom[part], *columns, result[part]), len(result), workers)
    return result


@compiled
def _average(brightness: Any, top: Any, bottom: Any, left: Any, right: Any, result: Any) -> None:
    """Set result to the mean brightness, 0..1, of each cell of pixels."""
    for r in range(top.size):
        for c in range(left.size):
            total = 0
            for y in range(top[r], bottom[r]):
                for x in range(left[c], right[c]):
                    total += brightness[y, x]
            result[r, c] = np.float32(total / (255 * (bottom[r] - top[r]) * (right[c] - left[c])))


@compiled
def _bend(values: Any, guide: Any, edge: Any, black: Any, white: Any, first: Any, last: Any) -> None:
    """Set what scores would be where the image is black and white, for the classes from ``first`` up to ``last``."""
    h, w = guide.shape
    mean, spread = np.empty((h, w), np.float32), np.empty((h, w), np.float32)
    means, slope = np.empty((h, w), np.float32), np.empty((h, w), np.float32)
    rows, product = np.empty((h, w), np.float32), np.empty((h, w), np.float32)
    _multiply(guide, guide, product)
    _box(guide, rows, mean)
    _box(product, rows, spread)
    for y in range(h):
        for x in range(w):
            spread[y, x] = spread[y, x] - mean[y, x] * mean[y, x] + edge
    for k in range(first, last):
        _multiply(guide, values[k], product)
        _box(values[k], rows, means)
        _box(product, rows, slope)
        for y in range(h):
            for x in range(w):
                slope[y, x] = (slope[y, x] - mean[y, x] * means[y, x]) / spread[y, x]
                product[y, x] = means[y, x] - slope[y, x] * mean[y, x]
        _box(product, rows, black[k])
        _box(slope, rows, means)
        for y in range(h):
            for x in range(w):
                white[k, y, x] = black[k, y, x] + means[y, x]


@compiled
def _multiply(values: Any, others: Any, result: Any) -> None:
    h, w = values.shape
    for y in range(h):
        for x in range(w):
            result[y, x] = values[y, x] * others[y, x]


@compiled
def _box(values: Any, rows: Any, result: Any) -> None:
    """Set result to the mean of 3 x 3 samples around each; ``rows`` is room for the means of three rows."""
    h, w = values.shape
    third = np.float32(1 / 3)
    for y in range(h):
        above, below = max(y - 1, 0), min(y + 1, h - 1)
        for x in range(w):
            rows[y, x] = (values[above, x] + values[y, x] + values[below, x]) * third
    for y in range(h):
        result[y, 0] = (rows[y, 0] + rows[y, 0] + rows[y, min(1, w - 1)]) * third
        for x in range(1, w - 1):
            result[y, x] = (rows[y, x - 1] + rows[y, x] + rows[y, x + 1]) * third
        if w > 1:
            result[y, w - 1] = (rows[y, w - 2] + rows[y, w - 1] + rows[y, w - 1]) * third


@compiled
def _fill_guided(
    black: Any,
    white: Any,
    ids: Any,
    brightness: Any,
    rows: Any,
    columns: Any,
    down: Any,
    right: Any,
    labels: Any,
    first: Any,
    last: Any,
) -> None:
    classes, h, w = black.shape
    one = np.float32(1)
    whole = np.float32(255)
    corners = np.empty((classes, 8), np.float32)
    kept = np.empty(classes, np.int64)
    for r in range(first, last):
        below = min(r + 1, h - 1)
        for c in range(columns.size - 1):
            beside = min(c + 1, w - 1)
            for k in range(classes):
                corners[k, 0], corners[k, 1] = black[k, r, c], black[k, r, beside]
                corners[k, 2], corners[k, 3] = black[k, below, c], black[k, below, beside]
                corners[k, 4], corners[k, 5] = white[k, r, c], white[k, r, beside]
                corners[k, 6], corners[k, 7] = white[k, below, c], white[k, below, beside]
            count = _contenders(corners, kept)
            for y in range(rows[r], rows[r + 1]):
                v = down[y]
                for x in range(columns[c], columns[c + 1]):
                    if count == 1:
                        labels[y, x] = ids[kept[0]]
                        continue
                    u = right[x]
                    light = np.float32(brightness[y, x]) / whole
                    best = np.float32(-np.inf)
                    for i in range(count):
                        four = corners[kept[i]]
                        dark = bilinear(four[0], four[1], four[2], four[3], u, v)
                        bright = bilinear(four[4], four[5], four[6], four[7], u, v)
                        score = dark * (one - light) + bright * light
                        if score > best:
                            best = score
                            labels[y, x] = ids[kept[i]]


@compiled
def _contenders(corners: Any, kept: Any) -> int:
    """Keep the classes that can be greatest somewhere in a cell: those that no other is clearly above at all corners.

    Inside, scores are convex combinations of the eight corner values, so one above another by more than rounding at
    all of them stays above it.
    """
    classes = corners.shape[0]
    floor = np.float32(-np.inf)
    for k in range(classes):  # the class whose least corner is greatest is the one that most others are below
        least = corners[k, 0]
        for i in range(1, 8):
            least = min(least, corners[k, i])
        floor = max(floor, least)
    count = 0
    for k in range(classes):
        most = corners[k, 0]
        for i in range(1, 8):
            most = max(most, corners[k, i])
        if most >= floor - np.float32(1e-4) * (abs(most) + abs(floor)) - LEAST:
            kept[count] = k
            count += 1
    return count
