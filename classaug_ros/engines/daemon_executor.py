"""A thread that does one piece of work after the other, and that nobody has to wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, InvalidStateError
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any


class DaemonExecutor(Executor):
    """One thread, as that of ``ThreadPoolExecutor(1)``, but one that holds up no program's end.

    Who waits for a piece of work that does not end may give it up by failing its future: ``future.set_exception``.
    """

    def __init__(self, name: str) -> None:
        """Start the thread."""
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._open = True
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a function called after those before it."""
        if not self._open:
            raise RuntimeError("the executor is closed")
        future: Future[Any] = Future()
        self._work.put((future, partial(function, *args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002 (Executor's)
        """Take no more work; end after that which there is."""
        self._open = False
        self._work.put(None)
        if wait:
            self._thread.join()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            _fulfil(*work)
            del work  # with its result, which may be large


def _fulfil(future: Future[Any], function: Callable[[], Any]) -> None:
    if future.done():  # given up
        return
    try:
        done = partial(future.set_result, function())
    except BaseException as error:  # noqa: BLE001 (told to the one who waits)
        done = partial(future.set_exception, error)
    with suppress(InvalidStateError):  # given up meanwhile
        done()
