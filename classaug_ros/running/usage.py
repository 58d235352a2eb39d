"""What a node takes of the machine over time."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from classaug_ros.errors import ClassaugError
from classaug_ros.running.nodeprocess import NodeProcess

PERIOD = 0.5  # s between two samples


@dataclass(frozen=True)
class Usage:
    """One sample.

    Attributes:
        seconds: time since the first one.
        cpu: processor time in per cent of one core, since the sample before.
        memory: resident memory in MiB.
    """

    seconds: float
    cpu: float
    memory: float


class UsageSampler:
    """Samples a node until the end of its context."""

    def __init__(self, node: NodeProcess) -> None:
        """Prepare to watch a node."""
        self._node = node
        self._samples: list[Usage] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="usage")

    @property
    def samples(self) -> tuple[Usage, ...]:
        """The samples so far."""
        return tuple(self._samples)

    def __enter__(self) -> UsageSampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        start = before = time.monotonic()
        try:
            used = self._node.cpu_seconds()
            while not self._ended.wait(PERIOD):
                now, total = time.monotonic(), self._node.cpu_seconds()
                cpu = 100 * (total - used) / (now - before)
                self._samples.append(Usage(now - start, cpu, self._node.footprint().memory / 2**20))
                before, used = now, total
        except (ClassaugError, OSError):  # it has ended, which is told where its answers are waited for
            return
