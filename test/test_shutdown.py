"""The end of the program: at once after a signal, and in bounded time whatever hangs."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
from support.programs import PROJECT

from classaug_ros.node.shutdown import LIMIT

MADE = "import sys, threading, time; from classaug_ros.node.shutdown import Shutdown; shutdown = Shutdown();"
HANGING = 60  # s
HANGS = f"threading.Thread(target=time.sleep, args=({HANGING},), name='classaug hanging').start();"
READY = "print('ready', flush=True);"


def ended(program: str, number: signal.Signals) -> tuple[int, float, str]:
    """Run a program, send a signal once it is ready; return its exit status, seconds and output."""
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        start = time.monotonic()
        process.send_signal(number)
        output = process.stdout.read()
        return process.wait(), time.monotonic() - start, output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_main_thread_that_hangs_is_left(number: signal.Signals) -> None:
    code, seconds, output = ended(f"{MADE}{HANGS}{READY}time.sleep({HANGING})", number)
    assert (code, output) == (0, "[WARN] [classaug_node]: left without waiting for classaug hanging\n")
    assert LIMIT <= seconds < HANGING / 2


def test_a_thread_that_hangs_is_left_at_the_end() -> None:
    unlimited = f"sys.modules[Shutdown.__module__].LIMIT = {HANGING};"
    program = f"{MADE}{unlimited}{HANGS}{READY}shutdown.requested.wait(); sys.exit(shutdown.leave(0))"
    code, seconds, output = ended(program, signal.SIGTERM)
    assert (code, output) == (0, "[WARN] [classaug_node]: left without waiting for classaug hanging\n")
    assert seconds < HANGING / 2


def test_where_nothing_hangs_nothing_is_said() -> None:
    program = f"{MADE}{READY}shutdown.requested.wait(); sys.exit(shutdown.leave(2))"
    assert ended(program, signal.SIGINT)[::2] == (2, "")
