"""The specification of fusion by evidence, in plain NumPy. Every faster form must equal it, bit for bit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from classaug_ros.fusion.reference.table import interpolate, upsample
from classaug_ros.fusion.scores import WITHIN, Scores, grid_positions, posterior
from classaug_ros.models.labels import LabelMap
from classaug_ros.rules.evidence import Evidence, Prefer


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


def _main_is_finer(main: Scores, sub: Scores) -> bool:
    return bool(main.values[0].size >= sub.values[0].size)
