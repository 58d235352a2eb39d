"""Says what the demo does, on standard output."""

from __future__ import annotations

import threading
import time

SILENCE = 3.0  # s, the longest that nothing is said


class Saying:
    """Prints what is done, and that it still is where that takes longer; a context manager."""

    def __init__(self) -> None:
        """Say nothing yet."""
        self._said = self._begun = time.monotonic()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._remind, name="saying", daemon=True)

    def __call__(self, text: str) -> None:
        """Print a text, at once."""
        print(text, flush=True)
        self._said = time.monotonic()

    def __enter__(self) -> Saying:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join()

    def _remind(self) -> None:
        while not self._left.wait(self._said + SILENCE - time.monotonic()):
            if time.monotonic() >= self._said + SILENCE:
                self(f"  still at it, {time.monotonic() - self._begun:.0f} s since the start")
