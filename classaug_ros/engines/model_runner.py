"""One model's way from frame to label map, and how cores are divided among several."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classaug_ros import fusion
from classaug_ros.engines import CPU, Where, load_engine
from classaug_ros.engines.preprocess import Preprocessor
from classaug_ros.fusion.scores import LEAST_PROBABILITY
from classaug_ros.imaging.images import Frame
from classaug_ros.models.card import Model
from classaug_ros.models.labels import LabelMap


class ModelRunner:
    """One model's way from frame to label map, in its three steps."""

    def __init__(self, model: Model, threads: int, where: Where = CPU) -> None:
        """Load ``model`` for ``threads`` CPU threads, or onto a GPU; EngineError when it cannot be."""
        self._model = model
        self._where = where
        self._card = model.card
        self._preprocess = Preprocessor(model.card.input)
        self._engine = load_engine(model, threads, where)

    def reload(self, threads: int) -> None:
        """Load the model again, for ``threads`` CPU threads, in place of the one there is, which is not closed."""
        self._engine = load_engine(self._model, threads, self._where)

    def prepare(self, frame: Frame) -> NDArray[np.float32]:
        """Return the model's input, 1 x 3 x height x width float32; see ``Preprocessor``."""
        return self._preprocess(frame)

    def hand_over(self) -> None:
        """Leave the last input to the model; the one handed over before it is used for the next frame."""
        self._preprocess.hand_over()

    def infer(self, image: NDArray[np.float32]) -> NDArray[Any]:
        """Return the model's output: scores classes x h x w float32, or labels h x w."""
        output: NDArray[Any] = self._engine.run(image)[0]
        return output

    def label(self, output: NDArray[Any], size: tuple[int, int]) -> LabelMap:
        """Return the label map, H x W, of an output."""
        if self._card.output.kind == "labels":
            return fusion.nearest(output, size)
        return fusion.label_map(output, size, self._card.output.upsample, self._card.classes.dtype)

    def scores(self, output: NDArray[Any]) -> fusion.Scores:
        """Return the logits, or the logarithms of the probabilities, of an output that is no labels."""
        values = output if self._card.output.kind == "logits" else np.log(np.maximum(output, LEAST_PROBABILITY))
        return fusion.Scores(values, self._card.output.upsample)

    def seconds(self) -> float:
        """Measure the time of one inference, on a grey image."""
        image = self.prepare(Frame(np.full((64, 64, 3), 128, np.uint8), "rgb"))
        self.infer(image)  # the first run allocates
        start = time.perf_counter()
        self.infer(image)
        return time.perf_counter() - start

    def cancel(self) -> None:
        """Ask the model to end a run in progress; it runs no more until it is loaded again."""
        self._engine.cancel()

    def close(self) -> None:
        """Release the model."""
        self._engine.close()


def divide(threads: int, costs: Sequence[float]) -> tuple[int, ...]:
    """Divide threads among models that run at once, so that the last one ends soonest.

    Args:
        threads: how many; a model has one at least, so that few threads serve several.
        costs: seconds each model takes on one thread; on k threads it is taken to need a k-th of that.
    """
    shares = [1] * len(costs)
    for _ in range(threads - len(costs)):
        slowest = max(range(len(costs)), key=lambda model: costs[model] / shares[model])
        shares[slowest] += 1
    return tuple(shares)
