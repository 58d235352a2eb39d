"""TensorRT, or TensorRT-RTX: engines on a GPU.

Only what TensorRT 10.3 to 11.4 and TensorRT-RTX have in common is used; a test compares the names.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import torch

from classaug_ros.engines.checked import check_device_input, check_device_output, check_ports
from classaug_ros.engines.device import dtype_name, gpu, on
from classaug_ros.engines.interface import Port
from classaug_ros.errors import EngineError, first_line
from classaug_ros.models.card import Model
from classaug_ros.models.engine_manifest import Machine

try:
    import tensorrt as trt
except ModuleNotFoundError as error:
    if error.name != "tensorrt":
        raise
    import tensorrt_rtx as trt

__all__ = ["ALONE", "TensorRTContext", "TensorRTEngine", "call", "load", "logger", "machine", "ports", "trt"]

T = TypeVar("T")

ALIGNMENT = 256
"""Bytes that TensorRT wants addresses of tensors to be multiples of; torch's own allocations are."""

ALONE = threading.Lock()
"""Held by whoever builds or loads an engine: what TensorRT logs meanwhile, in any thread, is of that."""

# TensorRT's names of types, where NumPy and torch have others.
_TYPES = {"float": "float32", "half": "float16", "bf16": "bfloat16"}

_messages = logging.getLogger(__name__)


class Logger(trt.ILogger):  # type: ignore[misc]
    """TensorRT's messages, passed on to ``logging``. Errors that somebody waits for are raised, not logged."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self._waiting: dict[int, list[str]] = {}
        self._warns_at = logging.WARNING

    def log(self, severity: Any, msg: str) -> None:
        """Take a message; TensorRT calls it, in any thread."""
        if severity in {trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR}:
            waiting = list(self._waiting.values())
            for errors in waiting:
                errors.append(msg)
            _messages.log(logging.DEBUG if waiting else logging.ERROR, "TensorRT: %s", msg)
        elif severity == trt.ILogger.Severity.WARNING:
            _messages.log(self._warns_at, "TensorRT: %s", msg)
        elif severity == trt.ILogger.Severity.INFO:
            _messages.debug("TensorRT: %s", msg)

    @contextmanager
    def errors(self) -> Iterator[list[str]]:
        """Yield a list of the errors that are logged from now on, whichever thread they come from."""
        errors: list[str] = []
        self._waiting[id(errors)] = errors
        try:
            yield errors
        finally:
            del self._waiting[id(errors)]

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Keep warnings for those who look for them: of a build they are about what it tries."""
        self._warns_at = logging.DEBUG
        try:
            yield
        finally:
            self._warns_at = logging.WARNING


@cache
def logger() -> Logger:
    """Return the logger. TensorRT keeps the first it is given for as long as the process lives."""
    return Logger()


def call(what: str, function: Callable[..., T], *arguments: Any, forgiving: bool = False) -> T:
    """Call a function of TensorRT.

    Args:
        what: what could not be done, if it fails.
        function: what to call.
        arguments: its arguments.
        forgiving: errors that are logged are none if it succeeds all the same: of tactics that a build tries in vain.

    Raises:
        EngineError: it raises something, returns None or False, or TensorRT logs an error, whose first line it tells.
    """
    with logger().errors() as errors:
        try:
            result = function(*arguments)
        except Exception as error:  # noqa: BLE001 (what pybind11 makes of C++'s exceptions)
            result = None
            errors.append(str(error) or type(error).__name__)
    if result is None or result is False or (errors and not forgiving):
        causes = [error for error in errors if "Skipping tactic" not in error] or errors or ["it does not say why"]
        raise EngineError(f"{what}: {first_line(causes[0])}")
    return result


def machine(device: torch.device) -> Machine:
    """Return what engines built here for a device, a GPU or none, are bound to."""
    version = f"{trt.__name__} {trt.__version__}"
    return Machine(version, *gpu(device)) if device.type == "cuda" else Machine(version)


def load(model: Model, plan: bytes, device: torch.device) -> TensorRTEngine:
    """Load an engine onto a GPU.

    Args:
        model: whose card it is checked against.
        plan: the engine file's content.
        device: the GPU.

    Raises:
        EngineError: TensorRT refuses it, or it is not what the card says.
    """
    what = f"{model.path}: {trt.__name__} {trt.__version__} cannot load its engine"
    with ALONE, on(device):
        runtime = call(what, trt.Runtime, logger())
        engine = call(what, runtime.deserialize_cuda_engine, plan)
    return TensorRTEngine(model, runtime, engine, device)


class TensorRTEngine:
    """A TensorRT engine on a GPU; see ``DeviceEngine``."""

    description = f"{trt.__name__} {trt.__version__}"

    def __init__(self, model: Model, runtime: Any, engine: Any, device: torch.device) -> None:
        self.inputs, self.outputs = ports(engine)
        check_ports(self.inputs, self.outputs, model)
        self._model, self._device = model, device
        self._engine, self._runtime = engine, runtime

    def bind(self, image: torch.Tensor) -> TensorRTContext:
        """Prepare for running on one tensor; see ``DeviceEngine.bind``."""
        check_device_input(self, self._model, tuple(image.shape), dtype_name(image.dtype))
        if image.device != self._device or not image.is_contiguous() or image.data_ptr() % ALIGNMENT:
            raise EngineError(
                f"{self._model.path}: expected a contiguous tensor on {self._device} at a multiple of {ALIGNMENT} bytes"
            )
        with on(self._device):
            return TensorRTContext(self._model, self._runtime, self._engine, image)

    def close(self) -> None:
        """Release the model; see ``DeviceEngine.close``."""
        vars(self).pop("_engine", None)  # before the runtime, which is to outlive it
        vars(self).pop("_runtime", None)


class TensorRTContext:
    """A TensorRT execution context, with a place for each tensor; see ``Context``."""

    def __init__(self, model: Model, runtime: Any, engine: Any, image: torch.Tensor) -> None:
        self._what = f"{model.path}: {trt.__name__} {trt.__version__} failed"
        context = call(self._what, engine.create_execution_context)
        name = model.card.input.name
        call(self._what, context.set_input_shape, name, tuple(image.shape))
        call(self._what, context.set_tensor_address, name, image.data_ptr())
        if missing := call(self._what, context.infer_shapes):
            raise EngineError(f"{model.path}: the sizes of {', '.join(missing)} are not known before it runs")
        tensors = {port.name: _output(model, context, port, image.device) for port in ports(engine)[1]}
        output = tensors[model.card.output.name]
        check_device_output(model, len(image), tuple(output.shape), dtype_name(output.dtype))
        for name, tensor in tensors.items():
            call(self._what, context.set_tensor_address, name, tensor.data_ptr())
        # As they are to be let go of: what runs before what it runs on.
        self._context, self._kept = context, (engine, runtime, image, tensors)
        self._output, self._device = output, image.device

    def enqueue(self, stream: torch.cuda.Stream | None) -> torch.Tensor:
        """Run the model; see ``Context.enqueue``. The output is the same tensor each time."""
        with on(self._device):
            used = torch.cuda.current_stream() if stream is None else stream
            call(self._what, self._context.execute_async_v3, used.cuda_stream)
        return self._output


def ports(engine: Any) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Return the inputs and the outputs of an engine, in its order."""
    names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    return (
        tuple(_port(engine, name) for name in inputs),
        tuple(_port(engine, name) for name in names if name not in inputs),
    )


def _port(engine: Any, name: str) -> Port:
    kind = engine.get_tensor_dtype(name).name.lower()
    shape = tuple(None if size < 0 else int(size) for size in engine.get_tensor_shape(name))
    return Port(name, _TYPES.get(kind, kind), shape)


def _output(model: Model, context: Any, port: Port, device: torch.device) -> torch.Tensor:
    shape = tuple(int(size) for size in context.get_tensor_shape(port.name))
    if min(shape, default=1) < 0 or not hasattr(torch, port.dtype):
        raise EngineError(
            f"{model.path}: output {port.name!r} is {port.dtype} {shape}, expected a tensor whose size is known"
        )
    return torch.empty(shape, dtype=getattr(torch, port.dtype), device=device)
