"""The thread that turns frames into labels; it knows no ROS, only where messages come from and where results go."""

from __future__ import annotations

import math
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from classaug_ros.errors import ClassaugError, ImageError
from classaug_ros.images import Frame
from classaug_ros.node.cameras import Arrival, NewestFrames, Outcome
from classaug_ros.node.diagnostics import Finished, Recent
from classaug_ros.pipeline import Augmented, Pipeline
from classaug_ros.rules import Rules

LOG_PERIOD = 5.0
"""Seconds between two log lines about frames of one camera."""


@dataclass(frozen=True)
class Wanted:
    """Which outputs of a camera somebody subscribes to."""

    label: bool
    overlay: bool
    color: bool

    def __bool__(self) -> bool:
        return self.label or self.overlay or self.color


class Camera(Protocol):
    """A camera's messages and outputs."""

    def wanted(self) -> Wanted:
        """Return which outputs somebody subscribes to now."""

    def decode(self, message: Any) -> Frame:
        """Return the image of a message; ImageError when it cannot be used."""

    def publish(self, message: Any, augmented: Augmented, wanted: Wanted) -> None:
        """Publish what is wanted, with the header of the message."""

    def age(self, message: Any) -> float:
        """Return the seconds since the stamp of a message; nan when it has none."""


class Worker:
    """One thread: takes the newest frames in turn, augments them, publishes.

    ``rules`` and ``alpha`` may be replaced at any time: each frame is worked on with one value of them.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        rules: Rules,
        alpha: float,
        cameras: Mapping[str, Camera],
        log: Callable[[str], None],
    ) -> None:
        """Start working.

        Args:
            pipeline: used by this worker alone, and left open when it stops.
            rules: the rules to begin with.
            alpha: share of the colours in the overlay, 0..1.
            cameras: where messages go and come from, by name.
            log: takes a line about frames refused or failed.
        """
        self.rules = rules
        self.alpha = alpha
        self.frames = NewestFrames(cameras)
        self.recent = {camera: Recent(time.monotonic()) for camera in cameras}
        self._pipeline = pipeline
        self._cameras = cameras
        self._log = {camera: ThrottledLog(camera, log) for camera in cameras}
        self._thread = threading.Thread(target=self._run, name="classaug worker")
        self._thread.start()

    def receive(self, camera: str, message: Any) -> None:
        """Take a message in; never waits for the models."""
        self.recent[camera].arrived(time.monotonic())
        self.frames.put(camera, message)

    def lose(self, camera: str, count: int) -> None:
        """Note messages that never came."""
        self.recent[camera].lost(time.monotonic(), count)

    def stop(self) -> None:
        """Finish the frame being worked on, drop the others, end the thread."""
        self.frames.close()
        self._thread.join()

    def _run(self) -> None:
        while (arrival := self.frames.take()) is not None:
            finished = self._process(arrival)
            self.recent[arrival.camera].finished(finished)
            self.frames.finish(arrival.camera, finished.outcome)

    def _process(self, arrival: Arrival) -> Finished:
        try:
            return self._augment(arrival)
        except ImageError as error:
            outcome, cause = Outcome.REFUSED, str(error)
        except ClassaugError as error:
            outcome, cause = Outcome.FAILED, str(error)
        except Exception as error:  # noqa: BLE001 (a defect on one frame must not end a vehicle's perception unseen)
            outcome, cause = Outcome.FAILED, f"{type(error).__name__}: {error} ({_place(error)})"
        now = time.monotonic()
        self._log[arrival.camera].add(now, f"frame {outcome.value}: {cause}")
        return Finished(now, outcome, cause=cause)

    def _augment(self, arrival: Arrival) -> Finished:
        camera = self._cameras[arrival.camera]
        wanted = camera.wanted()
        if not wanted:
            return Finished(time.monotonic(), Outcome.SKIPPED)
        frame = camera.decode(arrival.message)
        augmented = self._pipeline.augment(
            frame, self.rules, color=wanted.color, overlay=wanted.overlay, alpha=self.alpha
        )
        camera.publish(arrival.message, augmented, wanted)
        now = time.monotonic()
        return Finished(now, Outcome.PUBLISHED, camera.age(arrival.message), now - arrival.time)


class ThrottledLog:
    """At most one line a period; it tells how many others there were."""

    def __init__(self, camera: str, log: Callable[[str], None]) -> None:
        self._camera = camera
        self._log = log
        self._last = -math.inf
        self._held_back = 0

    def add(self, now: float, line: str) -> None:
        """Log a line at ``now``, monotonic seconds, or count it."""
        if now - self._last < LOG_PERIOD:
            self._held_back += 1
            return
        others = f" ({self._held_back} more since the last line)" if self._held_back else ""
        self._log(f"camera {self._camera}: {line}{others}")
        self._last, self._held_back = now, 0


def _place(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}:{frame.lineno}"
