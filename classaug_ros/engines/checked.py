"""The checks of a model's inputs and outputs, in one place above every engine."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from classaug_ros.engines.interface import DeviceEngine, Engine, Port
from classaug_ros.errors import EngineError, OutputError
from classaug_ros.models.card import Model, ModelCard
from classaug_ros.models.labels import LabelMap, LabelSpace

_SCORE_TYPES = ("float32", "float16")
_LABEL_TYPES = ("uint8", "int8", "uint16", "int16", "int32", "int64")


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
        self._output_shape = output_shape(card, 1)
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


def check_ports(inputs: tuple[Port, ...], outputs: tuple[Port, ...], model: Model) -> None:
    """Check what a model file declares against the card of ``model``. Its batch may have any size, or be free.

    Raises:
        EngineError: it declares another input or output than its card.
    """
    card = model.card
    shape = inputs[0].shape if inputs else None
    batch = (shape[0] if shape else None) or 1
    _check_input(inputs, model, (batch, 3, card.input.height, card.input.width))
    _check_output(outputs, model, output_shape(card, batch))


def check_device_input(engine: DeviceEngine, model: Model, shape: tuple[int, ...], dtype: str) -> None:
    """Refuse a tensor that an engine on a device cannot have as its input.

    Raises:
        EngineError: it is not float32 N x 3 x height x width, or of a batch that the engine is not for.
    """
    if dtype != "float32" or not engine.inputs[0].admits(shape):
        _check_batch(engine.inputs[0], model, shape)
        raise EngineError(
            f"{model.path}: expected input float32 {_text(engine.inputs[0].shape)}, found {dtype} {_text(shape)}"
        )


def check_device_output(model: Model, batch: int, shape: tuple[int, ...], dtype: str) -> None:
    """Refuse an output tensor on a device that is not what the card of ``model`` says.

    Raises:
        OutputError: it has another shape or type.
    """
    card, where = model.card, f"{model.path}: output {model.card.output.name!r}"
    if shape != output_shape(card, batch):
        raise OutputError(
            f"{where} has shape {shape}, the model card says {output_shape(card, batch)}; correct the card"
        )
    if card.output.kind == "labels" and dtype not in _LABEL_TYPES:
        raise OutputError(f"{where} is {dtype}, labels are integers; correct the card's `kind`")
    if card.output.kind != "labels" and dtype not in _SCORE_TYPES:
        raise OutputError(f"{where} is {dtype}, scores are {' or '.join(_SCORE_TYPES)}; correct the card's `kind`")


def output_shape(card: ModelCard, batch: int) -> tuple[int, ...]:
    """Return the shape of the output that a card says."""
    size = (card.output.height, card.output.width)
    return (batch, *size) if card.output.kind == "labels" else (batch, len(card.classes), *size)


def _check_input(inputs: tuple[Port, ...], model: Model, shape: tuple[int, ...]) -> None:
    name = model.card.input.name
    if [port.name for port in inputs] != [name]:
        names = ", ".join(repr(port.name) for port in inputs)
        raise EngineError(f"{model.path}: its inputs are {names}, the card says {name!r}; correct the card")
    if inputs[0].dtype != "float32" or not inputs[0].admits(shape):
        _check_batch(inputs[0], model, shape)
        raise EngineError(
            f"{model.path}: input {name!r} is {inputs[0].dtype} {_text(inputs[0].shape)}, the card says "
            f"float32 {_text(shape)}; correct the card"
        )


def _check_batch(port: Port, model: Model, shape: tuple[int, ...]) -> None:
    """Refuse an input of which nothing but the number of images differs, and say what to do about that."""
    fixed, found = port.shape[0] if port.shape else None, shape[0] if shape else 0
    if fixed is not None and port.dtype == "float32" and port.admits((fixed, *shape[1:])) and fixed != found:
        raise EngineError(
            f"{model.path}: takes batches of {fixed}, not of {found}: export it with a free batch, or build it by "
            "`classaug build-engine --batch`"
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
