"""docs/faults.md, its tests and the proofs that they can fail are of one piece."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from support.faultlist import Fault, faults, removals
from support.programs import PROJECT

FAULTS = faults()
REMOVALS = removals()
PASSED, FAILED = 0, 1  # pytest's exit status
BROKEN = re.compile(r"\b(Name|UnboundLocal|Syntax|Indentation|Import|ModuleNotFound)Error\b")
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "build", "demo-output", ".hypothesis", ".*_cache", "__pycache__")
LIMIT = 100  # s until a test that waits for what comes no more is taken for failed


def test_every_fault_has_a_name_of_its_own_and_a_proof() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(names) == len(set(names))
    assert {fault.name for fault in FAULTS if fault.handled} == set(REMOVALS)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_names_a_test(fault: Fault) -> None:
    functions = {node.name for node in ast.parse(fault.test_file.read_text()).body if isinstance(node, ast.FunctionDef)}
    assert fault.test_function in functions


@pytest.mark.parametrize("name", REMOVALS)
def test_handling_can_be_taken_out(name: str) -> None:
    removal = REMOVALS[name]
    changed = removal.applied()
    if removal.source.endswith(".py"):
        ast.parse(changed)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project to spoil. Beside it lies what lies beside the project."""
    place = tmp_path_factory.mktemp("copy")
    shutil.copytree(PROJECT, place / "project", ignore=LEFT_OUT)
    if (shared := PROJECT.parent / "shared").is_dir():
        (place / "shared").symlink_to(shared)
    return place / "project"


@pytest.mark.slow
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.handled], ids=lambda fault: fault.name)
def test_with_its_handling_taken_out_a_fault_s_test_fails(fault: Fault, copy: Path) -> None:
    removal = REMOVALS[fault.name]
    source = copy / removal.source
    whole = source.read_text(encoding="utf-8")
    source.write_text(removal.applied(copy), encoding="utf-8")
    try:
        status, output = ran(copy, fault.test)
    finally:
        source.write_text(whole, encoding="utf-8")
    lines = ["", *output.splitlines()]
    if status == PASSED and " skipped" in lines[-1]:
        pytest.skip("its test is skipped here")
    assert status != PASSED, "the test passes without it"
    errors = [line for before, line in pairwise(lines) if line[:2] == "E " != before[:2]]
    assert (status, bool(errors)) == (FAILED, True), output
    assert not BROKEN.search(errors[-1]), output  # what was put in its place would fail anything


def ran(copy: Path, test: str) -> tuple[int, str]:
    """Return pytest's exit status and output of one test of the copy."""
    options = ["-p", "pytest_timeout", "-p", "no:cacheprovider", "-q", "--tb=short", f"--timeout={LIMIT}"]
    measured = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, f"test/{test}"],
        cwd=copy,
        env={**measured, "PYTHONPATH": str(copy), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr
