"""A worker and its cameras, outside ROS."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import numpy as np

from classaug_ros.errors import ImageError
from classaug_ros.imaging.images import Frame
from classaug_ros.node.cameras import Counts, Turns
from classaug_ros.node.watchdog import Watchdog
from classaug_ros.node.worker import Worker
from classaug_ros.pipeline.cpu import Augmented
from classaug_ros.pipeline.frame_path import FramePath, FusionConfig, RequestedOutputs
from support.programs import PATIENCE


class Listener:
    """A camera outside ROS: its messages are the pixels, its results are kept."""

    turns = Turns()

    def __init__(self) -> None:
        self.results: list[tuple[Any, Augmented]] = []
        self.listening = True
        self.asking = True
        self.publishing: Callable[[], object] = lambda: None
        self.decoding: Callable[[], object] = lambda: None

    def wanted(self) -> RequestedOutputs:
        return RequestedOutputs(self.listening, self.listening, self.listening, self.listening and self.asking)

    def decode(self, message: Any) -> Frame:
        self.decoding()
        if not isinstance(message, np.ndarray):
            raise ImageError(f"message is {message!r}")
        return Frame(message, "rgb")

    def publish(self, message: Any, augmented: Augmented, wanted: RequestedOutputs) -> None:  # noqa: ARG002
        self.publishing()
        self.results.append((message, deepcopy(augmented)))  # a path may use its arrays again

    def age(self, message: Any) -> float:  # noqa: ARG002
        return 0.5


@contextmanager
def started(
    path: FramePath,
    terms: FusionConfig,
    cameras: Iterable[str],
    log: Callable[[str], None] = print,
    reloads: int = 3,
    ended: Callable[[], object] = lambda: None,
) -> Iterator[Worker]:
    """Run a worker; it is stopped at the end, lest it work on beside the tests that follow."""
    watchdog = Watchdog(path, reloads, log)
    worker = Worker(path, terms, {name: Listener() for name in cameras}, log, watchdog, ended)
    try:
        yield worker
    finally:
        worker.stop()


def listener(worker: Worker, name: str) -> Listener:
    found = worker._cameras[name]
    assert isinstance(found, Listener)
    return found


def settled(worker: Worker, camera: str) -> Counts:
    """Wait until no frame of a camera waits; return what became of them."""
    until(lambda: not worker.frames.counts(camera).waiting)
    return worker.frames.counts(camera)


def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE} s in vain"
        time.sleep(0.001)
