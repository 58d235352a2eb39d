"""The end of the program: asked for by a signal, and over within a bounded time whatever hangs."""

from __future__ import annotations

import os
import signal
import threading
import time

SIGNALS = (signal.SIGINT, signal.SIGTERM)
LIMIT = 2.0
"""Seconds from the first signal to the end at the latest."""
OURS = "classaug"
"""What the names of the program's own threads begin with."""


class Shutdown:
    """Takes the signals that end the program from when it is made on.

    Attributes:
        requested: set by the first signal, or by whoever wants the program to end.
    """

    def __init__(self) -> None:
        """Take the signals; in the main thread alone."""
        self.requested = threading.Event()
        # Python runs handlers in the main thread, when that comes to it; a byte in a pipe comes through at once.
        self._bytes, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)
        threading.Thread(target=self._wait, name="the end", daemon=True).start()

    def _wait(self) -> None:
        os.read(self._bytes, 1)
        self.requested.set()
        time.sleep(LIMIT)
        _leave(0)

    def leave(self, status: int) -> int:
        """Return the exit status at the end of the program; leave at once where a thread hangs.

        Python would wait for it, or take from it what it still uses.
        """
        # Python gives signals their default back as it ends; a second Ctrl-C would then make a clean end a death.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        for thread in _ours():
            thread.join(0.1)
        if _ours():
            _leave(status)
        return status


def _ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(OURS)]


def _leave(status: int) -> None:
    hanging = ", ".join(sorted(thread.name for thread in _ours())) or "its end"
    # Neither by ROS nor by sys.stderr: what hangs may hold their locks.
    os.write(2, f"[WARN] [classaug_node]: left without waiting for {hanging}\n".encode())
    os._exit(status)
