"""The specification of labels that follow the image's edges, in plain NumPy. Faster forms equal it, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from classaug_ros.fusion.geometry import nearest_pixels
from classaug_ros.fusion.reference.evidence import on_grid
from classaug_ros.fusion.reference.table import upsample
from classaug_ros.fusion.scores import EDGE, Scores, guide_grid
from classaug_ros.models.card import Upsampling
from classaug_ros.models.labels import LabelMap


def guided(scores: Scores, brightness: NDArray[np.uint8]) -> tuple[Scores, Scores, NDArray[np.intp]]:
    """Let scores follow the image's edges: linear in its brightness around each sample.

    The fast guided filter (He and Sun, Fast Guided Filter, arXiv:1505.00996, 2015), its coefficients taken from
    3 x 3 samples, at most ``APART`` pixels apart, and averaged over 3 x 3. Only classes that are greatest at some
    sample take part.

    Args:
        scores: classes x h x w.
        brightness: H x W uint8, the image in grey.

    Returns:
        What the scores would be where the image is black, and where it is white; and the ids of their classes.
    """
    ids = np.unique(scores.values.argmax(axis=0))
    scores = Scores(scores.values[ids], scores.convention)
    grid = guide_grid(scores, (brightness.shape[0], brightness.shape[1]))
    values = on_grid(scores, grid, (brightness.shape[0], brightness.shape[1]))
    guide = averaged(brightness, values.shape[1:], grid.convention)
    mean, means = _box(guide), _box(values)
    slope = (_box(guide * values) - mean * means) / (_box(guide * guide) - mean * mean + EDGE)
    black = _box(means - slope * mean)
    return Scores(black, grid.convention), Scores(black + _box(slope), grid.convention), ids


def guided_label_map(
    black: Scores, white: Scores, ids: NDArray[np.intp], brightness: NDArray[np.uint8], dtype: np.dtype[Any]
) -> LabelMap:
    """Return the class of the greatest guided score of each pixel, the lowest id of equals.

    Args:
        black: what the scores would be where the image is black, from ``guided``.
        white: where it is white.
        ids: of their classes.
        brightness: H x W uint8, the image in grey.
        dtype: uint8 or uint16.
    """
    height, width = brightness.shape
    light = brightness.astype(np.float32) / np.float32(255)
    dark = upsample(black.values, (height, width), black.convention)
    bright = upsample(white.values, (height, width), white.convention)
    labels: LabelMap = ids[(dark * (1 - light) + bright * light).argmax(axis=0)].astype(dtype)
    return labels


def _box(values: NDArray[Any]) -> NDArray[Any]:
    """Return the mean of 3 x 3 samples around each, those outside being the nearest inside."""
    for axis in (-2, -1):
        length = values.shape[axis]
        before = values.take(np.maximum(np.arange(length) - 1, 0), axis)
        after = values.take(np.minimum(np.arange(length) + 1, length - 1), axis)
        values = (before + values + after) * np.float32(1 / 3)
    return values


def averaged(brightness: NDArray[np.uint8], shape: tuple[int, ...], convention: Upsampling) -> NDArray[np.float32]:
    """Return the mean brightness, 0..1, of the pixels nearest to each sample."""
    height, width = brightness.shape
    rows, columns = nearest_pixels(height, shape[0], convention), nearest_pixels(width, shape[1], convention)
    sums = np.pad(brightness.cumsum(axis=0, dtype=np.int64).cumsum(axis=1), ((1, 0), (1, 0)))
    (top, bottom), (left, right) = (tuple(part[:, np.newaxis] for part in rows), columns)
    total = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return np.asarray(total / (255 * (bottom - top) * (right - left)), np.float32)
