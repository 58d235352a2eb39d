"""Contour quality: how well labels do near the edges of the ground truth, where models of coarse output do worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from classaug_ros.evaluation.confusion import ConfusionMatrix

WITHIN = (1, 3, 5)
"""Pixels from an edge."""


class Contours:
    """Confusion matrices of the pixels near edges of the ground truth, summed over images.

    Attributes:
        matrices: by method and distance, one of ``WITHIN``.
    """

    def __init__(self, methods: Sequence[str], classes: int) -> None:
        """Start with no pixels of so many scored classes."""
        self.matrices = {method: {within: ConfusionMatrix(classes) for within in WITHIN} for method in methods}

    def update(self, truth: NDArray[np.int64], predictions: Mapping[str, NDArray[np.integer]]) -> None:
        """Add an image.

        Args:
            truth: H x W scored classes; negative where not scored.
            predictions: by method H x W scored classes, as ``ConfusionMatrix.update`` takes them.
        """
        away = distance(truth)
        near = (away <= max(WITHIN)) & (truth >= 0)
        away, truth = away[near], truth[near]
        for method, prediction in predictions.items():
            own = prediction[near]
            for within, matrix in self.matrices[method].items():
                chosen = away <= within
                matrix.update(truth[chosen], own[chosen])


def distance(truth: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return how far the middle of each pixel is from an edge, in pixels.

    An edge is where two pixels side by side or one above the other have different classes, and both are scored; it
    runs between them, half a pixel from either.

    Args:
        truth: H x W scored classes; negative where not scored.

    Returns:
        H x W float32, 0.5 and more; infinite where there is no edge.
    """
    edge = np.zeros(truth.shape, np.bool_)
    for one, other in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        differ = (truth[one] != truth[other]) & (truth[one] >= 0) & (truth[other] >= 0)
        edge[one] |= differ
        edge[other] |= differ
    if not edge.any():
        return np.full(truth.shape, np.inf, np.float32)
    away = cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    distance: NDArray[np.float32] = np.asarray(away, np.float32) + np.float32(0.5)
    return distance
