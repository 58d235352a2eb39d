"""Engines: a loaded model behind one small interface, with its input and output checked in one place, above it."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from classaug_ros.errors import EngineError
from classaug_ros.labels import LabelMap, LabelSpace
from classaug_ros.models import Model


class Engine(Protocol):
    """A model that runs. One call at a time; several engines may run at once in threads of their own."""

    def run(self, image: NDArray[np.float32]) -> NDArray[Any]:
        """Run the model.

        Args:
            image: 1 x 3 x height x width float32 of the card's input.

        Returns:
            1 x classes x height x width scores, or 1 x height x width labels, of the card's output.

        Raises:
            EngineError: the model failed.
        """

    def close(self) -> None:
        """Release the model."""


class CheckedEngine:
    """An engine that refuses input of a wrong shape or type, and output that is not what the card says.

    Labels come out as uint8 or uint16, scores as float32.
    """

    def __init__(self, engine: Engine, model: Model) -> None:
        """Check every run of ``engine`` against the card of ``model``."""
        card = model.card
        self._engine = engine
        self._labels = card.classes if card.output.kind == "labels" else None
        self._where = f"{model.path}: output {card.output.name!r}"
        self._input_shape = (1, 3, card.input.height, card.input.width)
        size = (card.output.height, card.output.width)
        self._output_shape = (1, *size) if card.output.kind == "labels" else (1, len(card.classes), *size)

    def run(self, image: NDArray[np.float32]) -> NDArray[Any]:
        """Run the model; see ``Engine.run``."""
        if image.shape != self._input_shape or image.dtype != np.float32:
            raise EngineError(f"expected input {self._input_shape} float32, found {image.shape} {image.dtype}")
        output = self._engine.run(image)
        if output.shape != self._output_shape:
            raise EngineError(
                f"{self._where} has shape {output.shape}, the model card says {self._output_shape}; correct the card"
            )
        return self._scores(output) if self._labels is None else self._ids(output, self._labels)

    def _scores(self, output: NDArray[Any]) -> NDArray[np.float32]:
        if not (np.isfinite(output.min()) and np.isfinite(output.max())):  # either is NaN where one score is
            raise EngineError(f"{self._where} has NaN or infinity in it: the model is broken, or its precision too low")
        return output.astype(np.float32, copy=False)

    def _ids(self, output: NDArray[Any], classes: LabelSpace) -> LabelMap:
        if not np.issubdtype(output.dtype, np.integer):
            raise EngineError(f"{self._where} is {output.dtype}, labels are integers; correct the card's `kind`")
        if output.min() < 0 or output.max() >= len(classes):
            raise EngineError(
                f"{self._where} has labels {output.min()}..{output.max()}, the card's classes are "
                f"0..{len(classes) - 1}; correct the card"
            )
        return output.astype(classes.dtype, copy=False)

    def close(self) -> None:
        """Release the model."""
        self._engine.close()


def load_engine(model: Model, threads: int) -> Engine:
    """Load a model for running on the CPU with ONNX Runtime.

    Args:
        model: the model file and its card.
        threads: CPU threads it may use, at least 1.

    Raises:
        EngineError: the file is no model, or is not what its card says.
    """
    from classaug_ros.engines.onnxrt import OnnxRuntimeEngine

    return CheckedEngine(OnnxRuntimeEngine(model, threads), model)
