from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import classaug_ros

PROJECT = Path(__file__).resolve().parents[1]
PACKAGE = "classaug_ros"
NOT_OURS = (".git", ".venv*", ".ruff_cache", ".mypy_cache", ".pytest_cache", ".hypothesis", "__pycache__")
BUILT = ("build", "install", "log", "demo-output", "*.egg-info")

ROSDEP_KEYS = {
    "numba": "python3-numba",
    "numpy": "python3-numpy",
    "onnxruntime": "python3-onnxruntime-pip",
    "opencv-python-headless": "python3-opencv",
    "PyYAML": "python3-yaml",
    "rosbags": "python3-rosbags-pip",
    "scipy": "python3-scipy",
    "tqdm": "python3-tqdm",
}
TEST_ROSDEP_KEYS = {
    "hypothesis": "python3-hypothesis",
    "pytest": "python3-pytest",
    "pytest-timeout": "python3-pytest-timeout",
    "scikit-learn": "python3-sklearn",
}
WITHOUT_ROSDEP_KEY = {"onnx"}
ROS = {
    "ament_index_python",
    "builtin_interfaces",
    "diagnostic_msgs",
    "launch",
    "launch_ros",
    "lifecycle_msgs",
    "rcl_interfaces",
    "rclpy",
    "rosgraph_msgs",
    "sensor_msgs",
    "std_msgs",
    "std_srvs",
}
PART_OF_RCLPY = {"builtin_interfaces"}


def modules() -> dict[str, Path]:
    """Modules of the package by name, the package's own name left out."""
    found = {}
    for path in sorted((PROJECT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(PROJECT / PACKAGE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


@cache
def imports(path: Path, *, running: bool = False) -> frozenset[str]:
    """Dotted names a file imports, at its top or within functions; when ``running``, without those for types alone."""
    names: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    left_out = {each for node in typing for each in ast.walk(node)} if running else set()
    for node in set(ast.walk(tree)) - left_out:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


def libraries(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path, running=True)}


NOT_EVERYWHERE = {"av", "tensorrt", "tensorrt_rtx", "torch", "torch.nn.functional", "transformers", "triton"}
HEAVY = {
    *("cv2", "numba", "onnx", "onnxruntime", "rclpy", "rosbags"),
    *("tensorrt", "tensorrt_rtx", "torch", "transformers", "triton"),
}


@cache
def setup_arguments() -> dict[str, Any]:
    """Keyword arguments of setup() in setup.py that are written out there."""
    tree = ast.parse((PROJECT / "setup.py").read_text(encoding="utf-8"))
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "setup")
    written = (ast.Constant, ast.Dict, ast.List)
    return {
        str(keyword.arg): ast.literal_eval(keyword.value)
        for keyword in next(calls).keywords
        if isinstance(keyword.value, written)
        and not any(isinstance(part, ast.Name) for part in ast.walk(keyword.value))
    }


def manifest(tag: str) -> list[str]:
    return [element.text or "" for element in ET.parse(PROJECT / "package.xml").getroot().iterfind(tag)]


def requirement_names(lines: list[str]) -> set[str]:
    return {re.split(r"[=<>; ]", line)[0] for line in lines}


def test_names_versions_and_licences_agree() -> None:
    arguments = setup_arguments()
    assert manifest("version") == [arguments["version"]] == [classaug_ros.__version__]
    assert manifest("license") == [arguments["license"]] == ["Apache-2.0"]
    assert manifest("name") == [PACKAGE]
    assert (PROJECT / "resource" / PACKAGE).is_file()
    assert manifest("export/build_type") == ["ament_python"]


def test_python_dependencies_agree() -> None:
    required = requirement_names(setup_arguments()["install_requires"])
    assert required == set(ROSDEP_KEYS)
    assert {key for key in manifest("exec_depend") if key.startswith("python3-")} == set(ROSDEP_KEYS.values())
    tests = requirement_names(setup_arguments()["extras_require"]["test"])
    assert tests == set(TEST_ROSDEP_KEYS) | WITHOUT_ROSDEP_KEY
    assert {key for key in manifest("test_depend") if key.startswith("python3-")} == set(TEST_ROSDEP_KEYS.values())


def ros_packages(paths: Iterable[Path]) -> set[str]:
    optional = {"cv_bridge", "vision_msgs"}
    return {name for path in paths for name in libraries(path)} & (ROS | optional) - PART_OF_RCLPY


def test_ros_dependencies_are_those_imported() -> None:
    used = ros_packages([*modules().values(), *(PROJECT / "launch").glob("*.py")])
    tested = ros_packages((PROJECT / "test").rglob("*.py")) - used
    assert {key for key in manifest("exec_depend") if not key.startswith("python3-")} == used
    assert {key for key in manifest("test_depend") if not key.startswith("python3-")} == tested


def locked(*names: str) -> set[str]:
    """Names of what locks hold."""
    text = "\n".join((PROJECT / "requirements" / f"{name}.txt").read_text() for name in names)
    return set(re.findall(r"^[\w.-]+(?===)", text, re.MULTILINE))


@pytest.mark.parametrize("extra", ["export", "fast", "gpu", "quantize", "test"])
def test_locks_hold_what_extras_ask_for(extra: str) -> None:
    asked = requirement_names(setup_arguments()["extras_require"][extra])
    assert asked
    assert asked <= locked("kilted-dev", "export", "gpu", "torch")


@pytest.mark.parametrize("ros", ["jazzy", "kilted", "system"])
def test_locks_hold_what_setup_asks_for(ros: str) -> None:
    assert {name.lower() for name in ROSDEP_KEYS} <= locked(ros)


@pytest.mark.parametrize("entry_point", setup_arguments()["entry_points"]["console_scripts"])
def test_console_scripts_exist(entry_point: str) -> None:
    _, module, function = re.split(r" = |:", entry_point)
    tree = ast.parse(modules()[module.removeprefix(f"{PACKAGE}.")].read_text(encoding="utf-8"))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(
    "module", ["classaug_ros", "classaug_ros.cli", "classaug_ros.node.parameters", "classaug_ros.rules"]
)
def test_imports_no_heavy_library(module: str) -> None:
    program = f"import sys, {module}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []


def imported_with(module: str) -> set[str]:
    """Modules that one of this package imports at once, not in a function; of this package without its name."""
    tree = ast.parse(modules()[module].read_text(encoding="utf-8"))
    at_once = {str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom)}
    at_once.update(alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names)
    return {name.removeprefix(f"{PACKAGE}.") for name in at_once}


def test_every_module_imports() -> None:
    left_out = {name for name in modules() if imported_with(name) & NOT_EVERYWHERE}
    while more := {name for name in modules() if imported_with(name) & left_out} - left_out:
        left_out |= more
    names = [f"{PACKAGE}.{name}".rstrip(".") for name in modules() if name not in left_out]
    assert {"node.worker", "engines", "pipeline.cpu", "cli.bench", "fusion.reference"} <= set(modules()) - left_out
    program = f"import importlib; [importlib.import_module(name) for name in {names!r}]"
    command = [sys.executable, "-W", "error", "-c", program]
    ran = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def text_files() -> Iterator[tuple[Path, str]]:
    ignored = shutil.ignore_patterns(*NOT_OURS, *BUILT)
    for path in sorted(PROJECT.rglob("*")):
        parts = path.relative_to(PROJECT).parts
        if path.is_file() and not any(ignored("", [part]) for part in parts):
            try:
                yield path, path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


def test_no_file_names_a_place_on_one_machine() -> None:
    private = re.compile(rf"(?<![\w.~])/(home|root|Users|work)/\w|{re.escape(str(PROJECT))}/")
    found = [
        f"{path.relative_to(PROJECT)}:{number}"
        for path, text in text_files()
        for number, line in enumerate(text.splitlines(), start=1)
        if private.search(line)
    ]
    assert found == []


@pytest.mark.slow
def test_colcon_builds_and_tests_the_package(tmp_path: Path) -> None:
    colcon = Path(sys.executable).with_name("colcon")
    if not colcon.exists():
        pytest.skip("colcon is not installed")
    source = tmp_path / "src" / PACKAGE
    shutil.copytree(PROJECT, source, ignore=shutil.ignore_patterns(*NOT_OURS, *BUILT))

    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}

    def run(*command: str) -> str:
        ran = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    run(str(colcon), "build")
    installed = tmp_path / "install" / PACKAGE
    share = installed / "share" / PACKAGE
    for folder in ("config", "launch", "rviz"):
        shipped = {path.relative_to(source) for path in (source / folder).rglob("*") if path.is_file()}
        assert {path.relative_to(share) for path in (share / folder).rglob("*") if path.is_file()} == shipped
    assert (installed / "lib" / PACKAGE / "classaug_node").is_file()
    version = run("sh", "-c", f". install/setup.sh && install/{PACKAGE}/lib/{PACKAGE}/classaug --version")
    assert version.split() == [PACKAGE, classaug_ros.__version__]
    find = f"from {PACKAGE}.io.shipped import shipped; print(shipped('classes/camvid.csv'))"
    found = run("sh", "-c", f'. install/setup.sh && "{sys.executable}" -c "{find}"')
    assert found.strip() == str(share / "config/classes/camvid.csv")

    run(str(colcon), "test", "--pytest-args", "test/test_labels.py")
    assert re.search(r"Summary: [1-9]\d* tests, 0 errors, 0 failures", run(str(colcon), "test-result"))
