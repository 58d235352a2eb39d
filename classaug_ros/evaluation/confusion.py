"""Confusion matrices and intersection over union."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


class ConfusionMatrix:
    """Pixels by truth and prediction, summed over images in int64.

    Attributes:
        counts: classes x (classes + 1); [t, p] is the number of pixels of class t predicted as p, the last column
            those predicted as none of the classes.
    """

    def __init__(self, classes: int) -> None:
        """Start with no pixels of ``classes`` classes."""
        self.counts: NDArray[np.int64] = np.zeros((classes, classes + 1), np.int64)

    def update(self, truth: NDArray[np.integer], prediction: NDArray[np.integer]) -> None:
        """Add an image.

        Args:
            truth: H x W class ids; pixels with a negative id are not scored.
            prediction: H x W class ids, or the number of classes for none of them.
        """
        classes, columns = self.counts.shape
        scored = truth >= 0
        cells = truth[scored].astype(np.int64) * columns + prediction[scored]
        self.counts += np.bincount(cells, minlength=classes * columns).reshape(classes, columns)

    def iou(self) -> list[float]:
        """Return TP / (TP + FP + FN) per class, 0..1; NaN for a class neither in the truth nor predicted.

        Source: Everingham et al., The Pascal Visual Object Classes Challenge, section 4.4.
        """
        hit = self.counts.diagonal().astype(np.float64)
        union = self.counts.sum(axis=1) + self.counts[:, :-1].sum(axis=0) - hit
        with np.errstate(invalid="ignore"):
            ratio: list[float] = (hit / union).tolist()
        return ratio


def mean_iou(values: Iterable[float]) -> float:
    """Return the mean of the IoUs that are defined; NaN if none is."""
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan
