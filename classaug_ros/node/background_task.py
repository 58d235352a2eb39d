"""Work beside the executor's thread, for callbacks that are coroutines."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")

PACE = 0.002
"""Seconds between two looks at whether the work is done: rclpy asks a coroutine that waits again without a pause."""


class BackgroundTask(Generic[T]):
    """A function called in a thread of its own; ``await`` gives what it returns, or raises what it raises."""

    def __init__(self, function: Callable[[], T]) -> None:
        """Begin at once."""
        self._done: Future[T] = Future()
        self._function = function
        # Nothing waits for it at the program's end.
        self._thread = threading.Thread(target=self._run, name="background task", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._done.set_result(self._function())
        except BaseException as error:  # noqa: BLE001 (raised where it is waited for)
            self._done.set_exception(error)

    def __await__(self) -> Generator[None, None, T]:
        """Let the executor do other work until the function has returned."""
        while self._thread.is_alive():
            self._thread.join(PACE)
            yield
        return self._done.result()
