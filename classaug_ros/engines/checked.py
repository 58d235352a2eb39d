"""The checks of a model's inputs and outputs, in one place above every engine."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from classaug_ros.engines.interface import Engine, Port
from classaug_ros.errors import EngineError, OutputError
from classaug_ros.labels import LabelMap, LabelSpace
from classaug_ros.models import Model


class CheckedEngine:
    """An engine that refuses input of a wrong shape or type, and output that is not what the card says.

    Labels come out as uint8 or uint16, scores as float32.
    """

    def __init__(self, engine: Engine, model: Model) -> None:
        """Check ``engine`` against the card of ``model``, now and at every run.

        Raises:
            EngineError: the model file declares another input or output than its card.
        """
        card = model.card
        self._engine = engine
        self._labels = card.classes if card.output.kind == "labels" else None
        self._where = f"{model.path}: output {card.output.name!r}"
        self._input_shape = (1, 3, card.input.height, card.input.width)
        size = (card.output.height, card.output.width)
        self._output_shape = (1, *size) if card.output.kind == "labels" else (1, len(card.classes), *size)
        _check_input(engine.inputs, model, self._input_shape)
        _check_output(engine.outputs, model, self._output_shape)

    def run(self, image: NDArray[np.float32]) -> NDArray[Any]:
        """Run the model; see ``Engine.run``.

        Raises:
            EngineError: the model failed.
            OutputError: what it gives is not what the card says.
        """
        if image.shape != self._input_shape or image.dtype != np.float32:
            raise EngineError(f"expected input {self._input_shape} float32, found {image.shape} {image.dtype}")
        output = self._engine.run(image)
        if output.shape != self._output_shape:
            raise OutputError(
                f"{self._where} has shape {output.shape}, the model card says {self._output_shape}; correct the card"
            )
        return self._scores(output) if self._labels is None else self._ids(output, self._labels)

    def _scores(self, output: NDArray[Any]) -> NDArray[np.float32]:
        if not (np.isfinite(output.min()) and np.isfinite(output.max())):  # either is NaN where one score is
            raise OutputError(f"{self._where} has NaN or infinity in it: the model is broken, or its precision too low")
        return output.astype(np.float32, copy=False)

    def _ids(self, output: NDArray[Any], classes: LabelSpace) -> LabelMap:
        if not np.issubdtype(output.dtype, np.integer):
            raise OutputError(f"{self._where} is {output.dtype}, labels are integers; correct the card's `kind`")
        if output.min() < 0 or output.max() >= len(classes):
            raise OutputError(
                f"{self._where} has labels {output.min()}..{output.max()}, the card's classes are "
                f"0..{len(classes) - 1}; correct the card"
            )
        return output.astype(classes.dtype, copy=False)

    def cancel(self) -> None:
        """Ask a run in progress to end, and fail every later one; see ``Engine.cancel``."""
        self._engine.cancel()

    def close(self) -> None:
        """Release the model."""
        self._engine.close()


def _check_input(inputs: tuple[Port, ...], model: Model, shape: tuple[int, ...]) -> None:
    name = model.card.input.name
    if [port.name for port in inputs] != [name]:
        names = ", ".join(repr(port.name) for port in inputs)
        raise EngineError(f"{model.path}: its inputs are {names}, the card says {name!r}; correct the card")
    if inputs[0].dtype != "float32" or not inputs[0].admits(shape):
        raise EngineError(
            f"{model.path}: input {name!r} is {inputs[0].dtype} {_text(inputs[0].shape)}, the card says "
            f"float32 {_text(shape)}; correct the card"
        )


def _check_output(outputs: tuple[Port, ...], model: Model, shape: tuple[int, ...]) -> None:
    name = model.card.output.name
    port = next((port for port in outputs if port.name == name), None)
    if port is None:
        names = ", ".join(repr(port.name) for port in outputs)
        raise EngineError(f"{model.path}: its outputs are {names}, the card says {name!r}; correct the card")
    if not port.admits(shape):
        raise EngineError(
            f"{model.path}: output {name!r} is {_text(port.shape)}, the card says {_text(shape)} "
            f"({len(model.card.classes)} classes); correct the card"
        )


def _text(shape: tuple[int | None, ...] | None) -> str:
    return "of any shape" if shape is None else " x ".join("N" if size is None else str(size) for size in shape)
