"""The names in TensorRT's Python bindings, got from the bindings themselves, and those that our modules use.

The bindings of a TensorRT that is not installed import all the same, beside stand-ins for its libraries: what they
define is then there to be looked at, and nothing of it can be called. ``tensorrt-names.txt`` holds what came of it for
versions that cannot be installed side by side; it is written by::

    python -m pip download --no-deps tensorrt-cu12-bindings==10.3.0      # and the others; they are 1 MB each
    python test/support/tensorrtnames.py tensorrt_cu1*.whl > test/support/tensorrt-names.txt
"""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

NAMES = Path(__file__).with_name("tensorrt-names.txt")
CLASSES = (
    "Builder",
    "BuilderFlag",
    "DataType",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "IHostMemory",
    "ILogger",
    "ILogger.Severity",
    "IOptimizationProfile",
    "IProgressMonitor",
    "ITimingCache",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "Runtime",
    "TensorIOMode",
)
# What our modules call the objects of these classes.
OBJECTS = {
    "builder": "Builder",
    "config": "IBuilderConfig",
    "context": "IExecutionContext",
    "_context": "IExecutionContext",
    "engine": "ICudaEngine",
    "parser": "OnnxParser",
    "profile": "IOptimizationProfile",
    "runtime": "Runtime",
    "get_tensor_dtype": "DataType",
    "get_timing_cache": "ITimingCache",
}
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
_LOOK = f"""
import functools, sys
module = __import__(sys.argv[1])
print(module.__version__, "module:", *(name for name in dir(module) if not name.startswith("_")))
for name in {CLASSES!r}:
    found = functools.reduce(getattr, name.split("."), module)
    print(module.__version__, name + ":", *(each for each in dir(found) if not each.startswith("_")))
"""


def in_bindings(module: str, *, folder: Path | None = None, libraries: Path | None = None) -> str:
    """Return the names in the bindings as lines ``version class: name name ...``.

    Args:
        module: the bindings' Python module.
        folder: where it is, if it is not installed.
        libraries: where the libraries are that it needs, see ``stand_ins``.
    """
    environment = {"PYTHONPATH": str(folder or ""), "LD_LIBRARY_PATH": str(libraries or "")}
    command = [sys.executable, "-c", _LOOK, module]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def stand_ins(folder: Path, major: str) -> Path:
    """Make shared libraries that define the functions TensorRT's bindings link to, and do nothing."""
    source = folder / "nothing.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in FUNCTIONS))
    for library in LIBRARIES:
        path = folder / f"lib{library}.so.{major}"
        subprocess.run(["cc", "-shared", "-fPIC", f"-Wl,-soname,{path.name}", "-o", path, source], check=True)
    return folder


def parsed(text: str) -> dict[str, dict[str, set[str]]]:
    """Return the names by version and class, from lines as ``in_bindings`` returns them."""
    found: dict[str, dict[str, set[str]]] = {}
    for line in text.splitlines():
        head, _, names = line.partition(":")
        version, _, name = head.partition(" ")
        found.setdefault(version, {})[name] = set(names.split())
    return found


def used(*modules: Path) -> set[tuple[str, str]]:
    """Return the names of TensorRT that Python modules use, as (class, name); of the module itself as ("module", name).

    Names of the module may stand in chains (``trt.ILogger.Severity.ERROR``); objects are known by what they are called.
    """
    return {pair for path in modules for pair in _used(ast.parse(path.read_text(encoding="utf-8")))}


def _used(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            bases = [ast.unparse(base) for base in node.bases]
            parents = [base.removeprefix("trt.") for base in bases if base.startswith("trt.")]
            methods = [each.name for each in node.body if isinstance(each, ast.FunctionDef) and each.name[0] != "_"]
            yield from ((parent, name) for parent in parents for name in methods if name not in OURS)
        if not isinstance(node, ast.Attribute) or node.attr.startswith("__"):
            continue
        chain = ast.unparse(node.value).split(".")
        if chain[0] == "trt":
            yield (".".join(chain[1:]) or "module", node.attr)
        last = node.value
        if isinstance(last, ast.Call):  # what a method returns
            last = last.func
        name = last.id if isinstance(last, ast.Name) else last.attr if isinstance(last, ast.Attribute) else ""
        if name in OBJECTS:
            yield (OBJECTS[name], node.attr)


OURS = {"errors", "quiet"}
"""Methods of ours in classes derived from TensorRT's."""


def missing(names: set[tuple[str, str]], there: Mapping[str, set[str]]) -> list[str]:
    """Return which names are not in the bindings."""
    return sorted(f"{parent}.{name}" for parent, name in names if name not in there[parent])


def _write(wheels: list[Path]) -> None:
    with TemporaryDirectory() as scratch:
        for wheel in wheels:
            folder = Path(scratch) / wheel.stem
            zipfile.ZipFile(wheel).extractall(folder)
            major = wheel.name.split("-")[1].partition(".")[0]
            sys.stdout.write(in_bindings("tensorrt_bindings", folder=folder, libraries=stand_ins(folder, major)))


if __name__ == "__main__":
    _write([Path(argument) for argument in sys.argv[1:]])
