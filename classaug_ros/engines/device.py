"""CUDA devices, as parameters and options name them."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext

import torch

from classaug_ros.errors import EngineError, shown

_NAME = re.compile(r"cpu|cuda(:\d{1,3})?")


def torch_device(name: str) -> torch.device:
    """Return the device of a name: ``cpu``, ``cuda``, or ``cuda:1``, say.

    Raises:
        EngineError: it is no such name, or there is no such device here.
    """
    if not _NAME.fullmatch(name):
        raise EngineError(f"device {shown(name)}: expected cpu, cuda, or the number of a GPU, such as cuda:1")
    device = torch.device(name)
    if device.type == "cpu":
        return device
    try:
        torch.cuda.init()
    except (AssertionError, RuntimeError) as error:  # PyTorch without CUDA, no driver, no GPU
        reason = str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".")
        raise EngineError(f"device {name}: no CUDA device can be used here ({reason}); use device cpu") from error
    index, count = device.index or 0, torch.cuda.device_count()
    if index >= count:
        raise EngineError(f"device {name}: there is no such CUDA device here, expected cuda:0 to cuda:{count - 1}")
    return torch.device("cuda", index)


def first_device() -> torch.device:
    """Return the first GPU; where there is none, the CPU."""
    return torch.device("cuda", 0) if torch.cuda.device_count() else torch.device("cpu")


def on(device: torch.device) -> AbstractContextManager[object]:
    """Make a GPU the one that libraries use which are told none; of the CPU nothing is made."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def gpu(device: torch.device) -> tuple[str, str]:
    """Return a GPU's name and compute capability, such as ``8.7``."""
    found = torch.cuda.get_device_properties(device)
    return found.name, f"{found.major}.{found.minor}"
