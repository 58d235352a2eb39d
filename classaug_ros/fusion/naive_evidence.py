"""The specification of fusion by evidence, in plain NumPy. Every faster form must equal it, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classaug_ros.fusion.geometry import Positions, sample_coordinates, source_coordinates
from classaug_ros.fusion.naive import interpolate, upsample
from classaug_ros.labels import LabelMap
from classaug_ros.models import Upsampling
from classaug_ros.rules.evidence import Evidence, Prefer

WITHIN = np.float32(1 / 64)
"""Weight of the main model's own scores within a group: small, so that they decide there, and only there."""

EDGE = np.float32(3e-4)  # variance of brightness (0..1) within 3 x 3 samples from which the image bends the scores

APART = 4
"""Pixels between two samples at most when scores follow the image; coarser ones are interpolated first."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores on one sampling grid.

    Attributes:
        values: classes or groups x h x w float32.
        convention: where the samples lie among the pixels of the image.
    """

    values: NDArray[np.float32]
    convention: Upsampling


def group_scores(main: Scores, sub: Scores, evidence: Evidence, size: tuple[int, int]) -> Scores:
    """Return log P(group), up to a constant per sample, on the finer of the two grids (main's, where they are equal).

    As the weights are linear, the coarser model's scores are weighted on its own grid and the result is interpolated,
    not its classes.

    Args:
        main: scores of the main model, m x h x w logits or logarithms of probabilities.
        sub: of the sub model, n x h' x w'.
        evidence: the weights.
        size: (H, W) of the image that both cover.
    """
    bias = evidence.bias[:, np.newaxis, np.newaxis]
    if _main_is_finer(main, sub):
        fine = pool(main.values, evidence.main, bias)
        coarse, grid = Scores(pool(sub.values, evidence.sub, 0 * bias), sub.convention), main
    else:
        fine = pool(sub.values, evidence.sub, bias)
        coarse, grid = Scores(pool(main.values, evidence.main, 0 * bias), main.convention), sub
    return Scores(fine + on_grid(coarse, grid, size), grid.convention)


def pool(values: NDArray[np.float32], weights: NDArray[np.float32], start: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return start + weights @ values, summed up in the order of the classes; G x h x w float32."""
    total = np.broadcast_to(start, (len(weights), *values.shape[1:])).astype(np.float32)
    for number, plane in enumerate(values):
        total += weights[:, number, np.newaxis, np.newaxis] * plane
    return total


def on_grid(scores: Scores, grid: Scores, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return scores at the samples of another grid; the same samples as they are."""
    rows, columns = grid_positions(scores, grid, size)
    same = scores.convention == grid.convention and scores.values.shape[1:] == grid.values.shape[1:]
    return scores.values if same else interpolate(scores.values, rows, columns)


def grid_positions(scores: Scores, grid: Scores, size: tuple[int, int]) -> tuple[Positions, Positions]:
    """Return where the rows and columns of samples of ``grid`` lie among those of ``scores``."""
    rows, columns = (
        sample_coordinates(samples, grid.convention, pixels, among, scores.convention)
        for samples, pixels, among in zip(grid.values.shape[1:], size, scores.values.shape[1:], strict=True)
    )
    return rows, columns


def output_scores(groups: Scores, main: Scores, evidence: Evidence, prefer: Prefer, size: tuple[int, int]) -> Scores:
    """Return scores of the output classes, of which the greatest of a pixel, interpolated, is its label.

    A class has its group's score, boosted; among main classes of one group those that the main model scores lower
    are lowered by a little. ``prefer`` = ``main`` makes one group of all main classes, with the score of the best: the
    main model alone decides among them, and the evidence whether an added class replaces it.

    Args:
        groups: from ``group_scores``.
        main: scores of the main model, m x h x w.
        evidence: the weights.
        prefer: who decides among main classes.
        size: (H, W) of the image.

    Returns:
        Output classes x h x w, on the grid of ``groups``.
    """
    raised = groups.values + evidence.boost[:, np.newaxis, np.newaxis]
    result = raised[evidence.groups]
    mains = evidence.main.shape[1]
    own = on_grid(main, groups, size)
    teams = evidence.groups[:mains]
    if prefer == "main":
        teams = np.zeros_like(teams)
        result[:mains] = result[:mains].max(axis=0)
    for team in np.unique(teams):
        members = np.flatnonzero(teams == team)
        result[members] += WITHIN * (own[members] - own[members].max(axis=0))
    return Scores(result, groups.convention)


def confidence(label: LabelMap, groups: Scores, of: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Return P(group of the label) of each pixel, interpolated, as 0..255 for 0..1.

    Args:
        label: H x W output ids.
        groups: from ``group_scores``.
        of: group of each output class.

    Returns:
        H x W uint8.
    """
    height, width = label.shape
    upsampled = upsample(posterior(groups.values), (height, width), groups.convention)
    chosen = np.take_along_axis(upsampled, of[label][np.newaxis], axis=0)[0]
    rounded: NDArray[np.uint8] = (chosen * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return rounded


def posterior(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the softmax of scores over their first axis."""
    powers: NDArray[np.float32] = np.exp(scores - scores.max(axis=0))
    shares: NDArray[np.float32] = powers / powers.sum(axis=0)
    return shares


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


def guide_grid(scores: Scores, size: tuple[int, int]) -> Scores:
    """Return scores themselves, or where their samples are further apart than ``APART`` pixels, a finer grid (of 0)."""
    height, width = (-(-pixels // APART) for pixels in size)
    _, h, w = scores.values.shape
    if h >= height and w >= width:
        return scores
    return Scores(np.zeros((len(scores.values), max(h, height), max(w, width)), np.float32), "half_pixel")


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


def _main_is_finer(main: Scores, sub: Scores) -> bool:
    return bool(main.values[0].size >= sub.values[0].size)


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


def nearest_pixels(pixels: int, samples: int, convention: Upsampling) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the first of the pixels nearest to each sample along an axis, and the one after the last."""
    before, weight = source_coordinates(pixels, samples, convention)
    starts = np.searchsorted(before + (weight >= 0.5), np.arange(samples + 1))
    first = np.minimum(starts[:-1], pixels - 1)
    return first, np.maximum(starts[1:], first + 1)  # with more samples than pixels, one pixel serves several
