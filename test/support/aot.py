"""Kernels compiled for GPUs that are not here: what launchers would launch, and the registers that takes.

Interpreted, a kernel shows what it computes, not whether it compiles. So a process of its own, without the interpreter,
calls the real launchers with tensors on the CPU; Triton's own hook notes down each launch in place of doing it, with
the types, alignments and constants it would be compiled for, and the compiler then does that for every target.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

OLDEST_AND_NEWEST, BETWEEN = (80, 120), (87, 89, 90)
"""Compute capabilities: A100 and RTX 50; Jetson Orin, RTX 40, H100 and H200."""

all_targets = pytest.mark.parametrize(
    "targets",
    [OLDEST_AND_NEWEST, pytest.param(BETWEEN, marks=pytest.mark.slow)],
    ids=["oldest and newest GPU", "GPUs between"],
)

_OPTIONS = ("num_warps", "num_ctas", "num_stages", "maxnreg", "enable_fp_fusion")
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")
_TEST = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Compiled:
    """One kernel as compiled for one target.

    Attributes:
        kernel: name of the Triton function.
        constants: its constexpr arguments by name.
        target: compute capability, 90 for sm_90.
        registers: per thread.
        shared: bytes of shared memory per block.
        spilled: bytes of stack and local memory per thread, where registers were spilled to; 0 is what it must be.
        warps: of a block.
        fused: multiply-adds of float32, which round once where the reference rounds twice.
        accesses: PTX instructions on global memory, like ``st.global.v2.b32``, and how many there are of each.
    """

    kernel: str
    constants: dict[str, Any]
    target: int
    registers: int
    shared: int
    spilled: int
    warps: int
    fused: int
    accesses: dict[str, int]


def compile_launches(source: Callable[[], object], targets: Sequence[int]) -> list[Compiled]:
    """Compile what launchers would launch, in a process of its own.

    Args:
        source: a function of a test module, which makes launchers and calls them with tensors on the CPU; nothing is
            written to them. Constants that differ make kernels that differ, so a few calls should do.
        targets: compute capabilities.

    Returns:
        Each kernel for each target, in the order of the launches.
    """
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    folders = [str(_TEST), str(_TEST.parent), *filter(None, [environment.get("PYTHONPATH")])]
    command = [sys.executable, "-m", __name__, source.__module__, source.__name__, *map(str, targets)]
    done = subprocess.run(
        command,
        env={**environment, "PYTHONPATH": os.pathsep.join(folders)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    compiled = [Compiled(**each) for each in json.loads(done.stdout.splitlines()[-1])]
    assert compiled, f"{source.__name__} launched nothing"
    return compiled


class _NoDevice:
    """As much of a GPU driver as a launch asks for before its kernel is compiled."""

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return device

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", OLDEST_AND_NEWEST[0], 32)


def _launches(source: Callable[[], object]) -> list[tuple[Any, dict[str, Any]]]:
    """Return the Triton function of each launch that ``source`` asks for, and what it would be compiled with."""
    from triton import knobs
    from triton.runtime.driver import driver

    noted: dict[str, tuple[Any, dict[str, Any]]] = {}

    def note(*, key: str, fn: Any, **more: Any) -> bool:
        noted.setdefault(f"{fn.name}{key}", (fn.jit_function, more["compile"]))
        return True  # there is no need to compile, says this; so nothing is, nor launched

    driver.set_active(_NoDevice())
    knobs.runtime.jit_cache_hook = note
    source()
    return list(noted.values())


def _compiled(function: Any, call: dict[str, Any], target: int) -> Compiled:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    options = json.loads(call["specialization_data"])["options"]
    kernel = triton.compile(
        ASTSource(function, call["signature"], call["constants"], call["configs"][0]),
        target=GPUTarget("cuda", target, 32),
        options={name: options[name] for name in _OPTIONS},
    )
    registers, stack, shared, local = _usage(kernel.asm["cubin"])
    ptx = kernel.asm["ptx"]
    constants = {
        function.arg_names[path[0]]: value if isinstance(value, (int, str)) else str(value)
        for path, value in call["constants"].items()
    }
    return Compiled(
        function.__name__,
        constants,
        target,
        registers,
        max(shared, kernel.metadata.shared),
        stack + local,
        options["num_warps"],
        len(re.findall(r"fma\.rn\.(?:ftz\.)?f32", ptx)),
        dict(Counter(re.findall(r"\b(?:ld|st|atom|red)\.[\w.]*global[\w.:]*", ptx))),
    )


def _usage(cubin: bytes) -> tuple[int, ...]:
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    found = _USAGE.search(text)
    assert found, text
    return tuple(map(int, found.groups()))


if __name__ == "__main__":
    module, name, *capabilities = sys.argv[1:]
    launches = _launches(getattr(importlib.import_module(module), name))
    results = [_compiled(*launch, int(target)) for launch in launches for target in capabilities]
    sys.stdout.write(json.dumps([asdict(result) for result in results]) + "\n")
