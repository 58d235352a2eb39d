"""torch.export programs (.pt2): on any CUDA GPU without TensorRT, and on the CPU."""

from __future__ import annotations

import logging
import os
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export.passes import move_to_device_pass
from torch.utils import _pytree

from classaug_ros.engines.checked import check_device_input, check_device_output, check_ports
from classaug_ros.engines.device import dtype_name, on
from classaug_ros.engines.interface import Port
from classaug_ros.errors import EngineError, first_line, quoted
from classaug_ros.models.card import Model

# Parts of an archive that are no tensors and no graph: pickled objects, and programs in machine code.
_CODE = ("custom_obj_", "opaque_obj_", "aotinductor")

# torch.export reads one program at a time; models are loaded in threads of their own.
_LOADING = threading.Lock()


class TorchProgram:
    """A torch.export program on a device; see ``DeviceEngine``. What is float32 in it is computed so, not in TF32."""

    description = f"PyTorch {torch.__version__}"

    def __init__(self, model: Model, device: torch.device) -> None:
        """Load ``model`` onto a device.

        Raises:
            EngineError: the file is no such program, has other things in it, or is not what its card says.
        """
        self._model, self._device = model, device
        if device.type == "cuda":  # else cuDNN may round float32 to TF32's ten bits
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        program = _load(model.path, device)
        self.inputs, self.outputs = _ports(program, model)
        check_ports(self.inputs, self.outputs, model)
        self._module: Any = program.module()

    def run(self, image: torch.Tensor) -> torch.Tensor:
        """Run the model on a tensor on its device and torch's current stream; return the card's output."""
        with torch.inference_mode():
            try:
                result = self._module(image)
            except Exception as error:  # torch's exceptions have no common base
                raise EngineError(f"{self._model.path}: PyTorch failed: {first_line(error)}") from error
        output: torch.Tensor = result[self._model.card.output.name] if isinstance(result, Mapping) else result
        kept = output.float() if output.dtype in {torch.bfloat16, torch.float64} else output
        return kept.contiguous()

    def bind(self, image: torch.Tensor) -> TorchContext:
        """Prepare for running on one tensor; see ``DeviceEngine.bind``."""
        check_device_input(self, self._model, tuple(image.shape), dtype_name(image.dtype))
        if image.device != self._device or not image.is_contiguous():
            raise EngineError(f"{self._model.path}: expected a contiguous tensor on {self._device}")
        return TorchContext(self, self._model, image)

    def close(self) -> None:
        """Release the model; see ``DeviceEngine.close``."""
        vars(self).pop("_module", None)


class TorchContext:
    """A program and the tensor it runs on; see ``Context``."""

    def __init__(self, program: TorchProgram, model: Model, image: torch.Tensor) -> None:
        self._program, self._model, self._image = program, model, image
        self._output: torch.Tensor | None = None

    def enqueue(self, stream: torch.cuda.Stream | None) -> torch.Tensor:
        """Run the model; see ``Context.enqueue``. The output is another tensor each time."""
        with ExitStack() as stack:
            stack.enter_context(on(self._image.device))
            if stream is not None:
                stack.enter_context(torch.cuda.stream(stream))
            output = self._program.run(self._image)
        check_device_output(self._model, len(self._image), tuple(output.shape), dtype_name(output.dtype))
        self._output = output  # until the next run: its memory must not go to others while the stream works on it
        return output


class TorchEngine:
    """A torch.export program on the CPU, with arrays; see ``Engine``."""

    def __init__(self, model: Model, threads: int) -> None:
        """Load ``model``.

        Args:
            model: the model.
            threads: CPU threads. PyTorch has one number of them, which each run sets before it begins: it holds for the
                thread that runs the model, and beside it for what else the process computes with PyTorch.

        Raises:
            EngineError: see ``TorchProgram``.
        """
        self._program = TorchProgram(model, torch.device("cpu"))
        self._where, self._threads, self._cancelled = model.path, threads, False
        self.inputs, self.outputs = self._program.inputs, self._program.outputs

    def run(self, image: NDArray[np.float32]) -> NDArray[Any]:
        """Run the model; see ``Engine.run``."""
        if self._cancelled:
            raise EngineError(f"{self._where}: PyTorch failed: it was told to terminate")
        torch.set_num_threads(self._threads)
        output: NDArray[Any] = self._program.run(torch.from_numpy(image)).numpy()
        return output

    def cancel(self) -> None:
        """Fail every later run. PyTorch ends one in progress when it is through."""
        self._cancelled = True

    def close(self) -> None:
        """Release the model."""
        self._program.close()


def _load(path: Path, device: torch.device) -> torch.export.ExportedProgram:
    causes: list[BaseException] = []
    try:
        with zipfile.ZipFile(path) as archive:
            code = [name for name in archive.namelist() if any(part in name for part in _CODE)]
        if not code:
            with _LOADING, _nothing_unpickled(), _heard(causes):
                return move_to_device_pass(torch.export.load(str(path)), device)
    except Exception as error:  # torch's exceptions have no common base
        if type(error).__name__ == "UnpicklingError":
            raise EngineError(f"{path}: has pickled objects in it; save a program of tensors alone") from error
        why = first_line(causes[0] if causes else error)
        raise EngineError(f"{path}: PyTorch {torch.__version__} cannot load it: {why}") from error
    raise EngineError(
        f"{path}: has pickled objects or machine code in it ({quoted(code[0])}); save a program of tensors alone"
    )


@contextmanager
def _heard(causes: list[BaseException]) -> Iterator[None]:
    """Keep torch.export from printing why a file will not load, which is not in what it raises then."""
    logger = logging.getLogger(torch.export.__name__)

    def hear(record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1]:
            causes.append(record.exc_info[1])
        return False

    logger.addFilter(hear)
    try:
        yield
    finally:
        logger.removeFilter(hear)


@contextmanager
def _nothing_unpickled() -> Iterator[None]:
    """Let torch.load make tensors only, whatever torch.export asks it for: of objects it would run what they say."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _ports(program: torch.export.ExportedProgram, model: Model) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Return a program's inputs and outputs. One that is not named has the card's name."""
    values = {node.name: node.meta["val"] for node in program.graph.nodes if "val" in node.meta}
    signature = program.graph_signature
    inputs = tuple(_port(str(name), values.get(name)) for name in signature.user_inputs)
    results = [values.get(name) for name in signature.user_outputs]
    result = _pytree.tree_unflatten(results, program.call_spec.out_spec)
    if isinstance(result, Mapping):
        return inputs, tuple(_port(str(name), value) for name, value in result.items())
    if not isinstance(result, torch.Tensor):
        raise EngineError(
            f"{model.path}: gives a {type(result).__name__}, expected a tensor, or tensors by their names"
        )
    return inputs, (_port(model.card.output.name, result),)


def _port(name: str, value: object) -> Port:
    if not isinstance(value, torch.Tensor):
        return Port(name, type(value).__name__, None)
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)  # a free size is a symbol
    return Port(name, dtype_name(value.dtype), shape)
