"""What is said in the log about frames that come to nothing: seldom, and in one line each."""

from __future__ import annotations

import math
import threading
import traceback
from collections.abc import Callable

from classaug_ros.errors import ClassaugError

LOG_PERIOD = 5.0
"""Seconds between two log lines about frames of one camera."""


class ThrottledLog:
    """At most one line a period; it tells how many others there were."""

    def __init__(self, camera: str, log: Callable[[str], None]) -> None:
        self._camera = camera
        self._log = log
        self._lock = threading.Lock()
        self._last = -math.inf
        self._held_back = 0

    def add(self, now: float, line: str) -> None:
        """Log a line at ``now``, monotonic seconds, or count it."""
        with self._lock:
            if now - self._last < LOG_PERIOD:
                self._held_back += 1
                return
            others = f" ({self._held_back} more since the last line)" if self._held_back else ""
            self._last, self._held_back = now, 0
        self._log(f"camera {self._camera}: {line}{others}")


def cause_of(error: Exception) -> str:
    """Return an error in one line; of one that nobody foresaw, with its kind and where it came from."""
    if isinstance(error, ClassaugError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"out of memory: {error}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    said = " ".join(str(error).split())  # OpenCV's end with a line break
    return f"{type(error).__name__}: {said:.300} ({frame.filename}:{frame.lineno})"
