"""Scores of models on their sampling grids, and constants of fusion that all its forms share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classaug_ros.fusion.geometry import Positions, sample_coordinates
from classaug_ros.models.card import Upsampling

WITHIN = np.float32(1 / 64)
"""Weight of the main model's own scores within a group: small, so that they decide there, and only there."""

EDGE = np.float32(3e-4)  # variance of brightness (0..1) within 3 x 3 samples from which the image bends the scores

APART = 4
"""Pixels between two samples at most when scores follow the image; coarser ones are interpolated first."""

LEAST_PROBABILITY = np.float32(1e-6)
"""Probabilities below it count as this, so that 0 has a logarithm."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores on one sampling grid.

    Attributes:
        values: classes or groups x h x w float32.
        convention: where the samples lie among the pixels of the image.
    """

    values: NDArray[np.float32]
    convention: Upsampling


def posterior(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the softmax of scores over their first axis."""
    powers: NDArray[np.float32] = np.exp(scores - scores.max(axis=0))
    shares: NDArray[np.float32] = powers / powers.sum(axis=0)
    return shares


def grid_positions(scores: Scores, grid: Scores, size: tuple[int, int]) -> tuple[Positions, Positions]:
    """Return where the rows and columns of samples of ``grid`` lie among those of ``scores``."""
    rows, columns = (
        sample_coordinates(samples, grid.convention, pixels, among, scores.convention)
        for samples, pixels, among in zip(grid.values.shape[1:], size, scores.values.shape[1:], strict=True)
    )
    return rows, columns


def guide_grid(scores: Scores, size: tuple[int, int]) -> Scores:
    """Return scores themselves, or where their samples are further apart than ``APART`` pixels, a finer grid (of 0)."""
    height, width = (-(-pixels // APART) for pixels in size)
    _, h, w = scores.values.shape
    if h >= height and w >= width:
        return scores
    return Scores(np.zeros((len(scores.values), max(h, height), max(w, width)), np.float32), "half_pixel")
