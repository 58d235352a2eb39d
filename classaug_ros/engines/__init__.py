"""Engines: a loaded model behind one small interface."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from classaug_ros.engines.checked import CheckedEngine
from classaug_ros.errors import EngineError, first_line, missing
from classaug_ros.io.files import read_whole
from classaug_ros.models.card import Model
from classaug_ros.models.engine_manifest import ENGINE_SUFFIX, BuildOptions, EngineManifest, Machine, manifest_path

if TYPE_CHECKING:
    import torch

    from classaug_ros.engines.interface import DeviceEngine

__all__ = ["CPU", "BuildOptions", "CheckedEngine", "Where", "load_device_engine", "load_engine"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Where:
    """Where models run.

    Attributes:
        device: ``cpu`` or ``cuda``.
        options: how engines are built for a GPU.
    """

    device: str = "cpu"
    options: BuildOptions = BuildOptions()  # noqa: RUF009 (frozen)


CPU = Where()


def load_engine(model: Model, threads: int, where: Where = CPU) -> CheckedEngine:
    """Load a model for running on arrays: on the CPU with ONNX Runtime or, a .pt2, with PyTorch; or on a GPU.

    Args:
        model: the model file and its card.
        threads: CPU threads it may use, at least 1; see ``TorchEngine`` for what PyTorch makes of them.
        where: where it runs.

    Raises:
        ConfigError, EngineError: see ``load_device_engine``; or on the CPU, it is a TensorRT engine.
    """
    if where.device != "cpu":
        with needs(model, "PyTorch"):
            from classaug_ros.engines.device import torch_device
            from classaug_ros.engines.ondevice import OnDevice

        engine = load_device_engine(model, where.device, where.options, _log.info)
        return CheckedEngine(OnDevice(engine, model, torch_device(where.device)), model)
    if model.path.suffix == ENGINE_SUFFIX:
        raise EngineError(f"{model.path}: a TensorRT engine runs on a GPU only; use device cuda, or the ONNX model")
    if model.path.suffix == ".pt2":
        with needs(model, "PyTorch"):
            from classaug_ros.engines.pt import TorchEngine

        return CheckedEngine(TorchEngine(model, threads), model)
    from classaug_ros.engines.onnxrt import OnnxRuntimeEngine

    return CheckedEngine(OnnxRuntimeEngine(model, threads), model)


def load_device_engine(model: Model, device: str, options: BuildOptions, log: Callable[[str], None]) -> DeviceEngine:
    """Load a model for running on tensors of a device.

    Args:
        model: the model file and its card. Of an .onnx the TensorRT engine is taken from the cache, or built.
        device: ``cuda``; ``cpu`` for a .pt2.
        options: how an engine is built.
        log: told in one line which engine is used, or why it is built.

    Raises:
        ConfigError: an engine that was built cannot be written.
        EngineError: there is no such device, a library is missing, or the file is no model, or is not what its card
            says, or is an engine of another machine.
    """
    with needs(model, "PyTorch"):
        from classaug_ros.engines.device import torch_device

    is_engine = model.path.suffix == ENGINE_SUFFIX
    place = torch_device(device, otherwise="use the ONNX model, on the CPU" if is_engine else "use device cpu")
    if model.path.suffix == ".pt2":
        from classaug_ros.engines.pt import TorchProgram

        return TorchProgram(model, place)
    if place.type == "cpu":
        raise EngineError(f"{model.path}: device cpu takes no TensorRT engine; use a .pt2, or device cuda")
    return _tensorrt_engine(model, place, options, log)


def _tensorrt_engine(
    model: Model, device: torch.device, options: BuildOptions, log: Callable[[str], None]
) -> DeviceEngine:
    with needs(model, "TensorRT"):
        from classaug_ros.engines import trt

    if model.path.suffix == ENGINE_SUFFIX:
        return trt.load(model, _given(model, trt.machine(device)), device)
    with needs(model, "building engines"):
        from classaug_ros.engines.build import find_or_build

    _, plan = find_or_build(model, options, device, log)
    return trt.load(model, plan, device)


def _given(model: Model, here: Machine) -> bytes:
    """Return the content of an engine file, if it is of this machine and still what it was as the model was found."""
    manifest = EngineManifest.load(manifest_path(model.path))
    if reason := manifest.foreign(here):
        raise EngineError(f"{model.path}: {reason}; {manifest.remedy}")
    plan = read_whole(model.path)
    if manifest.model != model.fingerprint or manifest.engine != hashlib.sha256(plan).hexdigest():
        raise EngineError(f"{model.path}: has changed since it was checked; {manifest.remedy}")
    return plan


@contextmanager
def needs(model: Model, what: str) -> Iterator[None]:
    """Tell in one line which library is missing.

    Raises:
        EngineError: an import within fails.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise EngineError(f"{model.path}: {missing(error, what, 'gpu')}") from error
    except ImportError as error:  # of a library it needs, say
        raise EngineError(f"{model.path}: {what} cannot be loaded: {first_line(error)}") from error
