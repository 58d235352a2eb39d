"""ONNX Runtime on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from classaug_ros.errors import EngineError
from classaug_ros.models import Model

FATAL_SEVERITY = 4  # on ONNX Runtime's scale; errors (3) are raised, printing them would tell them twice


class OnnxRuntimeEngine:
    """A model run by ONNX Runtime's CPU execution provider."""

    def __init__(self, model: Model, threads: int) -> None:
        """Load ``model`` for ``threads`` CPU threads.

        Raises:
            EngineError: the file is no ONNX model, or its input or output is not the card's.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = FATAL_SEVERITY
        # A pool that spins while it waits would take the core that the other engine needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions have no public common base
            raise EngineError(f"{model.path}: ONNX Runtime cannot load it: {_first_line(error)}") from error
        self._path = model.path
        self._input = model.card.input.name
        self._outputs = [model.card.output.name]
        _check_input(self._session, model)
        _check_output(self._session, model)

    def run(self, image: NDArray[np.float32]) -> NDArray[Any]:
        """Run the model; see ``Engine.run``."""
        try:
            output: NDArray[Any] = self._session.run(self._outputs, {self._input: image})[0]
        except Exception as error:  # as above
            raise EngineError(f"{self._path}: ONNX Runtime failed: {_first_line(error)}") from error
        return output

    def close(self) -> None:
        """Release the model."""
        del self._session


def _check_input(session: onnxruntime.InferenceSession, model: Model) -> None:
    spec = model.card.input
    inputs = session.get_inputs()
    if [node.name for node in inputs] != [spec.name]:
        names = ", ".join(repr(node.name) for node in inputs)
        raise EngineError(f"{model.path}: its inputs are {names}, the card says {spec.name!r}; correct the card")
    expected = [1, 3, spec.height, spec.width]
    if inputs[0].type != "tensor(float)" or not _fits(inputs[0].shape, expected):
        raise EngineError(
            f"{model.path}: input {spec.name!r} is {inputs[0].type} {inputs[0].shape}, the card says "
            f"tensor(float) {expected}; correct the card"
        )


def _check_output(session: onnxruntime.InferenceSession, model: Model) -> None:
    card = model.card
    outputs = {node.name: node for node in session.get_outputs()}
    if card.output.name not in outputs:
        names = ", ".join(map(repr, outputs))
        raise EngineError(
            f"{model.path}: its outputs are {names}, the card says {card.output.name!r}; correct the card"
        )
    size = [card.output.height, card.output.width]
    expected = [1, *size] if card.output.kind == "labels" else [1, len(card.classes), *size]
    shape = outputs[card.output.name].shape
    if not _fits(shape, expected):
        raise EngineError(
            f"{model.path}: output {card.output.name!r} is {shape}, the card says {expected} "
            f"({len(card.classes)} classes); correct the card"
        )


def _fits(shape: list[int | str | None], expected: list[int]) -> bool:
    """Tell whether a declared shape, in which a free dimension has a name or None, admits ``expected``."""
    if not shape:
        return True  # an unknown rank is checked when the model runs
    if len(shape) != len(expected):
        return False
    return all(not isinstance(have, int) or have == want for have, want in zip(shape, expected, strict=True))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
