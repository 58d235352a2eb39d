"""The thread that turns frames into labels; it knows no ROS, only where messages come from and where results go."""

from __future__ import annotations

import math
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from classaug_ros.decision import Decision
from classaug_ros.errors import ClassaugError, ImageError, OutputError
from classaug_ros.images import Frame
from classaug_ros.inference import GRACE
from classaug_ros.node.cameras import Arrival, NewestFrames, Outcome, Turns
from classaug_ros.node.diagnostics import Finished, Recent
from classaug_ros.node.stages import Laps, Passage, Stages
from classaug_ros.node.watchdog import Watchdog
from classaug_ros.pipeline import Augmented, Inferred, Pipeline, Prepared
from classaug_ros.rules import RuleSet

LOG_PERIOD = 5.0
"""Seconds between two log lines about frames of one camera."""
PATIENCE = 1.0
"""Seconds that the frames being worked on have for being done when work is to stop."""


@dataclass(frozen=True)
class Wanted:
    """Which outputs of a camera somebody subscribes to."""

    label: bool
    overlay: bool
    color: bool
    confidence: bool

    def __bool__(self) -> bool:
        return self.label or self.overlay or self.color or self.confidence


@dataclass(frozen=True, eq=False)
class Terms:
    """On what terms frames are fused.

    Attributes:
        rules: the rules of every sub model.
        decision: how labels are decided for; the rules can do it.
        alpha: share of the colours in the overlay, 0..1.
    """

    rules: RuleSet
    decision: Decision
    alpha: float


class Camera(Protocol):
    """A camera's messages and outputs."""

    @property
    def turns(self) -> Turns:
        """Its share of the worker's time."""

    def wanted(self) -> Wanted:
        """Return which outputs somebody subscribes to now."""

    def decode(self, message: Any) -> Frame:
        """Return the image of a message; ImageError when it cannot be used."""

    def publish(self, message: Any, augmented: Augmented, wanted: Wanted) -> None:
        """Publish what is wanted, with the header of the message."""

    def age(self, message: Any) -> float:
        """Return the seconds since the stamp of a message; nan when it has none."""


@dataclass(frozen=True)
class Intake:
    """Where the messages of one camera go."""

    camera: str
    frames: NewestFrames
    recent: Recent

    def begin(self) -> None:
        """Note that messages may come from now on."""
        self.recent.began(time.monotonic())

    def receive(self, message: Any) -> None:
        """Take a message in; never waits for the models."""
        self.recent.arrived(time.monotonic())
        self.frames.put(self.camera, message)

    def lose(self, count: int) -> None:
        """Note messages that never came."""
        self.recent.lost(time.monotonic(), count)


class Worker:
    """Takes the newest frames in turn, augments them, publishes.

    Three threads, so that while a frame is with the models the one before is fused and published and the one after
    is decoded. Each of these three steps has one frame at a time, and no frame overtakes another. The next frame is
    taken only when a core is free for it: one taken earlier would be an older one.

    ``terms`` may be replaced at any time: each frame is fused wholly on one of them.

    Where the models hang or fail again and again, the thread whose frame is with them loads them anew; the others wait
    for it as they do for every frame, so that nobody uses the models meanwhile and nothing else stands still.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        terms: Terms,
        cameras: Mapping[str, Camera],
        log: Callable[[str], None],
        watchdog: Watchdog,
        ended: Callable[[], object],
    ) -> None:
        """Start working.

        Args:
            pipeline: used by this worker alone, and left open when it stops.
            terms: those to begin with.
            cameras: where messages go and come from, by name.
            log: takes a line about frames refused or failed.
            watchdog: judges the models of the pipeline.
            ended: called, by a thread of the worker, when the watchdog has ended and no frame is worked on any more.
        """
        self.watchdog = watchdog
        self.terms = terms
        self.frames = NewestFrames({name: camera.turns for name, camera in cameras.items()})
        self.recent = {camera: Recent(time.monotonic()) for camera in cameras}
        self._pipeline = pipeline
        self._cameras = cameras
        self._log = {camera: ThrottledLog(camera, log) for camera in cameras}
        self._stages = Stages()
        self._ended = ended
        self._stopping = False
        self._way_in = threading.Lock()  # to the models' inputs, until it is shut
        self._shut = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name=f"classaug worker {number}", daemon=True) for number in (1, 2, 3)
        ]
        for thread in self._threads:
            thread.start()

    def intake(self, camera: str) -> Intake:
        """Return where messages of a camera go."""
        return Intake(camera, self.frames, self.recent[camera])

    def stop(self) -> None:
        """Finish the frames being worked on, drop the others, end the threads.

        Models that have not answered within ``PATIENCE`` are given up, and their frame fails. A thread that does not
        end even then, as it is decoding, publishing or loading models, is left to itself, and comes near them no more:
        whoever works with them next has them for himself.
        """
        self._stopping = True
        self.frames.close()
        if self._join(PATIENCE):
            return
        with self._way_in:
            self._shut.set()
        if self._pipeline.inference.busy:
            self._pipeline.inference.give_up("the node stopped before the models answered")
        self._join(GRACE)

    def _join(self, seconds: float) -> bool:
        """Wait for the threads to end, and tell whether they have."""
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        with self._stages.passage() as passage:
            passage.enter("infer")
            self._mend(self.watchdog.start)
        while True:
            with self._stages.passage() as passage:
                passage.enter("prepare")
                arrival = self.frames.take()
                if arrival is None:
                    return
                self.recent[arrival.camera].taken(time.monotonic())
                finished = self._process(arrival, passage)
                self.recent[arrival.camera].finished(finished)
                self.frames.finish(arrival.camera, finished.outcome)
                if passage.inside("infer"):  # it came no further
                    self._mend(self.watchdog.mend)

    def _mend(self, load: Callable[[], None]) -> None:
        """Have the models loaded anew where they need it, while no other frame can be with them."""
        if self._stopping:
            return
        load()
        if self.watchdog.ended:
            self.frames.close()
            self._ended()

    def _process(self, arrival: Arrival, passage: Passage) -> Finished:
        try:
            return self._augment(arrival, passage)
        except ImageError as error:
            outcome, cause = Outcome.REFUSED, _cause(error)
        except Exception as error:  # noqa: BLE001 (a defect on one frame must not end a vehicle's perception unseen)
            outcome, cause = Outcome.FAILED, _cause(error)
        now = time.monotonic()
        self._log[arrival.camera].add(now, f"frame {outcome.value}: {cause}")
        return Finished(now, outcome, cause=cause)

    def _augment(self, arrival: Arrival, passage: Passage) -> Finished:
        camera = self._cameras[arrival.camera]
        wanted = camera.wanted()
        if not wanted:
            return Finished(time.monotonic(), Outcome.SKIPPED)
        laps = Laps(arrival.time)
        laps.lap("wait")
        given_up = self._pipeline.inference.given_up
        frame = camera.decode(arrival.message)
        with self._way_in:
            if self._shut.is_set():
                return Finished(time.monotonic(), Outcome.DROPPED)
            prepared = self._pipeline.prepare(frame)
        laps.lap("prepare")
        passage.enter("infer")
        laps.lap("wait")
        if self._shut.is_set() or self._pipeline.inference.given_up != given_up:
            # It is old by now, and newer ones wait.
            return Finished(laps.time, Outcome.DROPPED)
        inferred = self._infer(prepared, room=partial(passage.leave, "prepare"))
        laps.lap("engines")
        passage.enter("finish")
        finishing = self._pipeline.spare.submit(self._finish, arrival, inferred, wanted, laps)
        passage.leave("infer")
        return finishing.result()

    def _infer(self, prepared: Prepared, room: Callable[[], None]) -> Inferred:
        try:
            inferred = self._pipeline.infer(prepared, room)
        except OutputError:  # the models run, and would give the same loaded anew
            raise
        except Exception as error:
            self.watchdog.failed(_cause(error), time.monotonic())
            raise
        self.watchdog.answered()
        return inferred

    def _finish(self, arrival: Arrival, inferred: Inferred, wanted: Wanted, laps: Laps) -> Finished:
        camera, terms = self._cameras[arrival.camera], self.terms
        laps.lap("wait")
        augmented = self._pipeline.fuse(
            inferred,
            terms.rules,
            terms.decision,
            confidence=wanted.confidence,
            color=wanted.color,
            overlay=wanted.overlay,
            alpha=terms.alpha,
        )
        laps.lap("fusion")
        camera.publish(arrival.message, augmented, wanted)
        laps.lap("publish")
        since_arrival, since_stamp = laps.time - arrival.time, camera.age(arrival.message)
        steps = {"transport in": since_stamp - since_arrival, **laps.seconds}
        return Finished(laps.time, Outcome.PUBLISHED, since_stamp, since_arrival, steps=steps)


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


def _cause(error: Exception) -> str:
    """Return an error in one line; of one that nobody foresaw, with its kind and where it came from."""
    if isinstance(error, ClassaugError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"out of memory: {error}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    said = " ".join(str(error).split())  # OpenCV's end with a line break
    return f"{type(error).__name__}: {said:.300} ({frame.filename}:{frame.lineno})"
