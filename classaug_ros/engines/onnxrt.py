"""ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from classaug_ros.engines.interface import Port
from classaug_ros.errors import EngineError, first_line
from classaug_ros.models.card import Model

_NUMPY_NAMES = {"float": "float32", "double": "float64"}  # the types ONNX names otherwise
FATAL_SEVERITY = 4  # on ONNX Runtime's scale; errors (3) are raised, printing them would tell them twice


class OnnxRuntimeEngine:
    """A model run by ONNX Runtime's CPU execution provider."""

    def __init__(self, model: Model, threads: int) -> None:
        """Load ``model`` for ``threads`` CPU threads.

        Raises:
            EngineError: the file is no ONNX model.
        """
        self._session = _session(model.path, threads)
        self._options = onnxruntime.RunOptions()
        self._path = model.path
        self._input = model.card.input.name
        self._outputs = [model.card.output.name]
        self.inputs = tuple(map(_port, self._session.get_inputs()))
        self.outputs = tuple(map(_port, self._session.get_outputs()))

    def run(self, image: NDArray[np.float32]) -> NDArray[Any]:
        """Run the model; see ``Engine.run``."""
        try:
            output: NDArray[Any] = self._session.run(self._outputs, {self._input: image}, self._options)[0]
        except Exception as error:  # as above
            raise EngineError(f"{self._path}: ONNX Runtime failed: {first_line(error)}") from error
        return output

    def cancel(self) -> None:
        """Ask a run in progress to end; ONNX Runtime does between two operators, also within a loop, not within one."""
        self._options.terminate = True

    def close(self) -> None:
        """Release the model."""
        vars(self).pop("_session", None)


def declared(path: Path) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Return the inputs and the outputs that a model file declares.

    Raises:
        EngineError: the file is no ONNX model.
    """
    session = _session(path, 1)
    return tuple(map(_port, session.get_inputs())), tuple(map(_port, session.get_outputs()))


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL_SEVERITY
    # A pool that spins while it waits would take the core that the other engine needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no public common base
        raise EngineError(f"{path}: ONNX Runtime cannot load it: {first_line(error)}") from error


def _port(node: onnxruntime.NodeArg) -> Port:
    shape = tuple(size if isinstance(size, int) else None for size in node.shape)  # a free size has a name, or none
    kind = node.type.removeprefix("tensor(").removesuffix(")")
    return Port(node.name, _NUMPY_NAMES.get(kind, kind), shape or None)
