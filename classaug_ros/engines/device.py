"""CUDA devices, as parameters and options name them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from classaug_ros.errors import EngineError, first_line, quoted

_CUDA = ("cuda", "cuda:0")  # the second is how torch writes the first


def torch_device(name: str, *, otherwise: str = "use device cpu") -> torch.device:
    """Return the device of a name.

    Args:
        name: ``cpu``, or ``cuda``: the first GPU there is; of several CUDA_VISIBLE_DEVICES chooses.
        otherwise: what to do where there is no GPU.

    Raises:
        EngineError: it is no such name, or there is no such device here.
    """
    if name == "cpu":
        return torch.device("cpu")
    if name not in _CUDA:
        raise EngineError(f"device {quoted(name)}: expected cpu or cuda; of several GPUs CUDA_VISIBLE_DEVICES chooses")
    try:
        torch.cuda.init()
    except (AssertionError, RuntimeError) as error:  # PyTorch without CUDA, no driver, no GPU
        reason = first_line(error).partition(". ")[0].rstrip(".")
        raise EngineError(f"device cuda: no CUDA device can be used here ({reason}); {otherwise}") from error
    return torch.device("cuda", 0)


def check_triton() -> None:
    """Let Triton compile what it runs kernels by, which takes a C compiler and Python's headers the first time.

    Raises:
        EngineError: it cannot.
    """
    from triton.runtime import driver

    try:
        _ = driver.active.utils
    except Exception as error:  # no compiler, one that fails, no library: they have no common base
        raise EngineError(
            f"Triton cannot compile for this GPU: {first_line(error)}; install gcc and python3-dev"
        ) from error


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


def dtype_name(dtype: torch.dtype) -> str:
    """Return a type's name without the library's, such as ``float32``."""
    return str(dtype).removeprefix("torch.")
