"""The thread that turns frames into labels; it knows no ROS, only where messages come from and where results go."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from classaug_ros.errors import GRACE, ImageError, OutputError
from classaug_ros.imaging.images import Frame
from classaug_ros.node.cameras import Arrival, NewestFrames, Outcome, Turns
from classaug_ros.node.diagnostics import Finished, Recent
from classaug_ros.node.framelog import ThrottledLog, cause_of
from classaug_ros.node.stages import Laps, Passage, Stages
from classaug_ros.node.watchdog import Watchdog
from classaug_ros.pipeline.cpu import Augmented
from classaug_ros.pipeline.frame_path import FramePath, FusionConfig, RequestedOutputs

PATIENCE = 1.0
"""Seconds that the frames being worked on have for being done when work is to stop."""


class Camera(Protocol):
    """A camera's messages and outputs."""

    @property
    def turns(self) -> Turns:
        """Its share of the worker's time."""

    def wanted(self) -> RequestedOutputs:
        """Return which outputs somebody subscribes to now."""

    def decode(self, message: Any) -> Frame:
        """Return the image of a message; ImageError when it cannot be used."""

    def publish(self, message: Any, augmented: Augmented, wanted: RequestedOutputs) -> None:
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


class _Job:
    """One frame from when it is taken until ``finished`` tells what became of it."""

    frame: Frame
    wanted: RequestedOutputs
    finished: Finished | None = None

    def __init__(self, arrival: Arrival) -> None:
        self.arrival = arrival
        self.camera = arrival.camera
        self.laps = Laps(arrival.time)

    def finish(self, outcome: Outcome, cause: str = "") -> None:
        """Note that nothing is published."""
        self.finished = Finished(time.monotonic(), outcome, cause=cause)


def _lap(jobs: Sequence[_Job], step: str) -> None:
    for job in jobs:
        job.laps.lap(step)


def _drop(jobs: Sequence[_Job]) -> None:
    for job in jobs:
        job.finish(Outcome.DROPPED)


class Worker:
    """Takes the newest frames in turn, augments them, publishes.

    Three threads, so that while a frame is with the models the one before is fused and published and the one after
    is decoded. Each of these three steps has one frame at a time, and no frame overtakes another. The next frame is
    taken only when a core is free for it: one taken earlier would be an older one.

    ``config`` may be replaced at any time: each frame is fused wholly by one.

    Where the models hang or fail again and again, the thread whose frame is with them loads them anew; the others wait
    for it as they do for every frame, so that nobody uses the models meanwhile and nothing else stands still.
    """

    def __init__(
        self,
        path: FramePath,
        config: FusionConfig,
        cameras: Mapping[str, Camera],
        log: Callable[[str], None],
        watchdog: Watchdog,
        ended: Callable[[], object],
    ) -> None:
        """Start working.

        Args:
            path: used by this worker alone, and left open when it stops.
            config: the one to begin with.
            cameras: where messages go and come from, by name.
            log: takes a line about frames refused or failed.
            watchdog: judges the models of the path.
            ended: called, by a thread of the worker, when the watchdog has ended and no frame is worked on any more.
        """
        self.watchdog = watchdog
        self.config = config
        self.frames = NewestFrames({name: camera.turns for name, camera in cameras.items()})
        self.recent = {camera: Recent(time.monotonic()) for camera in cameras}
        self._path = path
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
        inside = self._way_in.acquire(timeout=GRACE)
        self._shut.set()
        if inside:
            self._way_in.release()
        if self._path.busy:
            self._path.give_up("the node stopped before the models answered")
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
                jobs = [_Job(arrival) for arrival in self.frames.take(self._path.batch)]
                if not jobs:
                    return
                for job in jobs:
                    self.recent[job.camera].taken(time.monotonic())
                for job, finished in self._process(jobs, passage):
                    self.recent[job.camera].finished(finished)
                    self.frames.finish(job.camera, finished.outcome)
                if passage.inside("infer"):  # they came no further
                    self._mend(self.watchdog.mend)

    def _mend(self, load: Callable[[], None]) -> None:
        """Have the models loaded anew where they need it, while no other frame can be with them."""
        if self._stopping:
            return
        load()
        if self.watchdog.ended:
            self.frames.close()
            self._ended()

    def _process(self, jobs: Sequence[_Job], passage: Passage) -> list[tuple[_Job, Finished]]:
        """Take frames through; return what became of each."""
        given_up = self._path.given_up
        for job in jobs:
            with self._caught(job):
                self._decode(job)
        if usable := [job for job in jobs if job.finished is None]:
            with self._caught(*usable):
                self._augment(usable, passage, given_up)
        return [(job, job.finished) for job in jobs if job.finished is not None]

    @contextmanager
    def _caught(self, *jobs: _Job) -> Iterator[None]:
        """Finish frames that an error comes of, if they are not finished yet."""
        try:
            yield
        except ImageError as error:
            self._fail(jobs, Outcome.REFUSED, cause_of(error))
        except Exception as error:  # noqa: BLE001 (a defect on one frame must not end a vehicle's perception unseen)
            self._fail(jobs, Outcome.FAILED, cause_of(error))

    def _fail(self, jobs: Sequence[_Job], outcome: Outcome, cause: str) -> None:
        for job in jobs:
            if job.finished is None:
                self._log[job.camera].add(time.monotonic(), f"frame {outcome.value}: {cause}")
                job.finish(outcome, cause)

    def _decode(self, job: _Job) -> None:
        camera = self._cameras[job.camera]
        job.wanted = camera.wanted()
        if not job.wanted:
            job.finish(Outcome.SKIPPED)
            return
        job.laps.lap("wait")
        job.frame = camera.decode(job.arrival.message)

    def _augment(self, jobs: Sequence[_Job], passage: Passage, given_up: int) -> None:
        with self._way_in:
            if self._shut.is_set():
                return _drop(jobs)
            prepared = self._path.prepare([job.frame for job in jobs])
        _lap(jobs, "prepare")
        passage.enter("infer")
        _lap(jobs, "wait")
        if self._shut.is_set() or self._path.given_up != given_up:
            # They are old by now, and newer ones wait.
            return _drop(jobs)
        wanted = RequestedOutputs.union(job.wanted for job in jobs)
        inferred = self._infer(prepared, wanted, on_free=partial(passage.leave, "prepare"))
        _lap(jobs, self._path.steps[0])
        passage.enter("finish")
        finishing = self._path.spare.submit(self._fuse, jobs, inferred)
        passage.leave("infer")
        finishing.result()
        return None

    def _infer(self, prepared: Any, wanted: RequestedOutputs, on_free: Callable[[], None]) -> Any:
        try:
            inferred = self._path.infer(prepared, self.config, wanted, on_free)
        except OutputError:  # the models run, and would give the same loaded anew
            raise
        except Exception as error:
            self.watchdog.failed(cause_of(error), time.monotonic())
            raise
        self.watchdog.answered()
        return inferred

    def _fuse(self, jobs: Sequence[_Job], inferred: Any) -> None:
        _lap(jobs, "wait")
        results = self._path.fuse(inferred)
        _lap(jobs, self._path.steps[1])
        for job, result in zip(jobs, results, strict=True):
            with self._caught(job):
                if isinstance(result, OutputError):
                    raise result
                self._publish(job, result)

    def _publish(self, job: _Job, augmented: Augmented) -> None:
        camera = self._cameras[job.camera]
        camera.publish(job.arrival.message, augmented, job.wanted)
        job.laps.lap("publish")
        since_arrival, since_stamp = job.laps.time - job.arrival.time, camera.age(job.arrival.message)
        steps = {"transport in": since_stamp - since_arrival, **job.laps.seconds}
        job.finished = Finished(job.laps.time, Outcome.PUBLISHED, since_stamp, since_arrival, steps=steps)
