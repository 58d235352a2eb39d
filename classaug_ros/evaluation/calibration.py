"""Calibration: whether rules are right as often as their confidence says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 15
LEVELS = 256  # of a confidence: v stands for v / 255


@dataclass(frozen=True)
class Bin:
    """Pixels of about the same confidence.

    Attributes:
        start, end: their confidences are above the one and not above the other, 0..1; the first bin has 0 as well.
        pixels: their number.
        confidence: its mean, 0..1; NaN without pixels.
        accuracy: the share of them that were right, 0..1; NaN without pixels.
    """

    start: float
    end: float
    pixels: int
    confidence: float
    accuracy: float


class Calibration:
    """Counts pixels, and those that were right, by confidence."""

    def __init__(self) -> None:
        """Start with no pixels."""
        self._pixels: NDArray[np.int64] = np.zeros(LEVELS, np.int64)
        self._right: NDArray[np.int64] = np.zeros(LEVELS, np.int64)

    def update(self, confidence: NDArray[np.uint8], right: NDArray[np.bool_]) -> None:
        """Add pixels: how sure the rules were, 0..255 for 0..1, and whether they were right."""
        self._pixels += np.bincount(confidence.ravel(), minlength=LEVELS)
        self._right += np.bincount(confidence[right], minlength=LEVELS)

    @property
    def pixels(self) -> int:
        """Number of all pixels."""
        return int(self._pixels.sum())

    def bins(self) -> tuple[Bin, ...]:
        """Return ``BINS`` bins of equal width."""
        levels = np.arange(LEVELS)
        of = np.maximum((levels * BINS + LEVELS - 2) // (LEVELS - 1) - 1, 0)  # rounded up, in whole numbers
        pixels, right, sure = (
            np.bincount(of, weights=counts, minlength=BINS)
            for counts in (self._pixels, self._right, self._pixels * levels / (LEVELS - 1))
        )
        with np.errstate(invalid="ignore"):
            confidence, accuracy = sure / pixels, right / pixels
        return tuple(
            Bin(b / BINS, (b + 1) / BINS, int(pixels[b]), float(confidence[b]), float(accuracy[b])) for b in range(BINS)
        )

    def error(self) -> float:
        """Return the expected calibration error, 0..1; NaN without pixels.

        It is how far confidence and accuracy are apart in a bin, in the mean over all pixels.

        Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3.
        """
        if not self.pixels:
            return float("nan")
        apart = sum(one.pixels * abs(one.accuracy - one.confidence) for one in self.bins() if one.pixels)
        return apart / self.pixels
