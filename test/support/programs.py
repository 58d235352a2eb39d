"""Programs that tests start: nothing of them outlives the test, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0
"""Seconds to wait for what comes at once on a quiet machine: a wait ends when it comes, so a long one is free."""


def environment() -> dict[str, str]:
    """Return the environment of a program that imports the package from this project."""
    path = os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


@contextmanager
def program(command: Sequence[object], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Run a program, with ``options`` for ``Popen``; at the end it and all that it started are killed.

    Where the tests themselves are killed it gets a SIGINT, as by Ctrl-C, and ends what it started.
    """
    tethered = ["setpriv", "--pdeathsig", "INT", *map(str, command)]
    with subprocess.Popen(tethered, start_new_session=True, **{"env": environment(), **options}) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
