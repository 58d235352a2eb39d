"""Kernels in Triton's interpreter: memory that shows what they leave out, and what is launched."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import DTypeLike

from classaug_ros.fusion.gpu.fuse import Result

CPU = torch.device("cpu")
POISON = 77
PICTURES = ("confidence", "color", "overlay")


def poisoned(batch: int, size: tuple[int, int], dtype: DTypeLike, wanted: tuple[str, ...] = PICTURES) -> Result:
    """Return room for labels of a NumPy type and the pictures that are wanted, full of what none of it may keep."""

    def full(name: str, *channels: int) -> Any:
        return torch.full((batch, *size, *channels), POISON, dtype=torch.uint8) if name in wanted else None

    label = torch.from_numpy(np.full((batch, *size), POISON, dtype))
    fault = torch.zeros(batch, dtype=torch.int32)
    return Result(label, full("confidence"), full("color", 3), full("overlay", 3), fault)


class Launch(NamedTuple):
    """A launch of a kernel; ``fused`` tells whether multiplications and additions may become one."""

    name: str
    grid: tuple[int, ...]
    fused: bool


def note_launches(monkeypatch: pytest.MonkeyPatch, *kernels: Any) -> list[Launch]:
    """Return a list that every launch of these kernels is added to, which is made as ever."""
    noted: list[Launch] = []
    for kernel in kernels:

        def run(*arguments: Any, _kernel: Any = kernel, _run: Any = kernel.run, **options: Any) -> Any:
            noted.append(Launch(_kernel.__name__, options["grid"], options.get("enable_fp_fusion", True)))
            return _run(*arguments, **options)

        monkeypatch.setattr(kernel, "run", run)
    return noted
