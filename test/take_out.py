"""Takes the handling of each fault of docs/faults.md out of a copy of the project, and sees its test fail there.

    python test/take_out.py [--jobs N] [FAULT ...]

It prints a line per fault, with the last error of its test; the exit status is 1 when a test passed without the
handling or failed with it, or when what was put in its place is broken.
"""

from __future__ import annotations

import argparse
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

from faultlist import PROJECT, Fault, Removal, faults, removals

PASSED, FAILED = 0, 1  # pytest's exit status
BROKEN = re.compile(r"\b(Name|UnboundLocal|Syntax|Indentation|Import|ModuleNotFound)Error\b")
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "build", "demo-output", ".hypothesis", ".*_cache")


class Copies:
    """Copies of the project, each for one test at a time. Beside them lies what lies beside the project."""

    def __init__(self, folder: Path, count: int) -> None:
        self._free: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for number in range(count):
            place = folder / str(number)
            shutil.copytree(PROJECT, place / "project", ignore=LEFT_OUT)
            if (shared := PROJECT.parent / "shared").is_dir():
                (place / "shared").symlink_to(shared)
            self._free.put(place / "project")

    def run(self, tests: Iterable[str], removal: Removal | None = None) -> tuple[int, str]:
        """Return pytest's exit status and output of tests, with the handling of a fault taken out."""
        copy = self._free.get()
        try:
            if removal is None:
                return _pytest(copy, tests)
            source = copy / removal.source
            whole = source.read_text(encoding="utf-8")
            source.write_text(removal.applied(copy), encoding="utf-8")
            try:
                return _pytest(copy, tests)
            finally:
                source.write_text(whole, encoding="utf-8")
        finally:
            self._free.put(copy)


def _pytest(copy: Path, tests: Iterable[str]) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-p", "pytest_timeout", "-q", "--tb=short", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *(f"test/{test}" for test in tests)],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def prove(fault: Fault, removal: Removal, copies: Copies) -> bool:
    """Tell whether a fault's test fails once its handling is taken out; print a line."""
    start = time.monotonic()
    code, output = copies.run([fault.test], removal)
    lines = ["", *output.splitlines()]
    errors = [line[1:].strip() for before, line in pairwise(lines) if line[:2] == "E " != before[:2]]
    why = errors[-1] if errors else ""
    if proven := code == FAILED and not BROKEN.search(why):
        verdict = "proven"
    elif code == FAILED:
        verdict = "NOT PROVEN, the change is broken"
    else:
        verdict = "NOT PROVEN, its test passes" if code == PASSED else f"pytest ended with {code}"
    print(f"{verdict:12} {time.monotonic() - start:5.1f} s  {fault.name:40}  {why:.120}", flush=True)
    if code not in (PASSED, FAILED):
        print(output, flush=True)
    return proven


def main() -> int:
    """Prove the faults named, or all."""
    parser = argparse.ArgumentParser(description="Take the handling of faults out and see their tests fail.")
    parser.add_argument("names", nargs="*", metavar="FAULT", help="names in docs/faults.md (default: all)")
    parser.add_argument("--jobs", type=int, default=1, help="tests at once (default %(default)s)")
    options = parser.parse_args()
    known, how = {fault.name: fault for fault in faults() if fault.handled}, removals()
    if unknown := [name for name in options.names if name not in known or name not in how]:
        parser.error(f"not in docs/faults.md or test/faults: {', '.join(unknown)}")
    chosen = [known[name] for name in options.names or known]
    with tempfile.TemporaryDirectory(prefix="classaug-faults-") as folder, ThreadPoolExecutor(options.jobs) as pool:
        copies = Copies(Path(folder), options.jobs)
        code, output = copies.run(dict.fromkeys(fault.test for fault in chosen))
        if code != PASSED:
            print(f"with everything in place:\n{output}")
            return 1
        proven = list(pool.map(lambda fault: prove(fault, how[fault.name], copies), chosen))
    print(f"{sum(proven)} of {len(proven)} faults proven")
    return 0 if all(proven) else 1


if __name__ == "__main__":
    sys.exit(main())
