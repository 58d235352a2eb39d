"""What each main class was turned into."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from classaug_ros.data.examples import Example
from classaug_ros.evaluation.evaluate import Prediction
from classaug_ros.rules import Rules


class Turned:
    """A watcher of an evaluation that counts pixels by main class and output class.

    Attributes:
        counts: m x k int64; [i, o] is the number of pixels that main calls i and the rules call o.
    """

    def __init__(self, rules: Rules) -> None:
        """Start with no pixels of the rules' m main and k output classes."""
        self.counts: NDArray[np.int64] = np.zeros((len(rules.main_classes), len(rules.output)), np.int64)

    def __call__(self, _: Example, prediction: Prediction) -> None:
        """Add an example."""
        cells = prediction.main.astype(np.int64) * self.counts.shape[1] + prediction.output
        self.counts += np.bincount(cells.ravel(), minlength=self.counts.size).reshape(self.counts.shape)
