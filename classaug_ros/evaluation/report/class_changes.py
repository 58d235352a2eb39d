"""What each main class was turned into."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from classaug_ros.data.examples import Example
from classaug_ros.evaluation.evaluate import Prediction
from classaug_ros.rules import RuleSet


class ClassChanges:
    """A watcher of an evaluation that counts pixels by main class and output class.

    Attributes:
        counts: m x (k + 1) int64; [i, o] is the number of pixels that main calls i and the rules in use call o, the
            last column those they left unlabelled.
    """

    def __init__(self, rules: RuleSet) -> None:
        """Start with no pixels of the rules' m main and k output classes."""
        shape = len(rules.rules[0].main_classes), len(rules.output) + 1
        self.counts: NDArray[np.int64] = np.zeros(shape, np.int64)

    def __call__(self, _: Example, prediction: Prediction) -> None:
        """Add an example."""
        columns = self.counts.shape[1]
        output = np.minimum(prediction.output, columns - 1)  # unlabelled is the greatest id
        cells = prediction.main.astype(np.int64) * columns + output
        self.counts += np.bincount(cells.ravel(), minlength=self.counts.size).reshape(self.counts.shape)
