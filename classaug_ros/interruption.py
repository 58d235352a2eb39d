"""Ctrl-C as an event, for work that may only stop between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interruption() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C sets.

    Raised wherever Python happens to be, KeyboardInterrupt could leave a step half done, and is lost in a finaliser.
    In a thread other than the main one, which gets no signals, the event is never set.
    """
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    before = signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
