"""docs/faults.md, its tests and the proofs that they can fail are of one piece; `test/take_out.py` runs the proofs."""

from __future__ import annotations

import ast

import pytest
from faultlist import Fault, faults, removals

FAULTS = faults()
REMOVALS = removals()


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
