"""Frames one behind the other through three stages with room for one each, and the time each step takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Stage = Literal["prepare", "infer", "finish"]


class Stages:
    """The stages *prepare*, *infer* and *finish*, each with room for one frame.

    A frame that has entered a stage leaves the one before only then, so none overtakes another.
    """

    def __init__(self) -> None:
        self._rooms: dict[Stage, threading.Lock] = {
            "prepare": threading.Lock(),
            "infer": threading.Lock(),
            "finish": threading.Lock(),
        }

    @contextmanager
    def passage(self) -> Iterator[Passage]:
        """Take one frame through; at the end it leaves every stage it is in, whatever happened to it."""
        passage = Passage(self._rooms)
        try:
            yield passage
        finally:
            for stage in self._rooms:
                passage.leave(stage)


class Passage:
    """One frame's way through the stages."""

    def __init__(self, rooms: dict[Stage, threading.Lock]) -> None:
        self._rooms = rooms
        self._inside: set[Stage] = set()

    def enter(self, stage: Stage) -> None:
        """Wait until there is room."""
        self._rooms[stage].acquire()
        self._inside.add(stage)

    def inside(self, stage: Stage) -> bool:
        """Tell whether the frame is in a stage."""
        return stage in self._inside

    def leave(self, stage: Stage) -> None:
        """Make room; does nothing outside the stage."""
        if stage in self._inside:
            self._inside.remove(stage)
            self._rooms[stage].release()


class Laps:
    """Adds up the time of named steps that follow each other, in seconds."""

    def __init__(self, start: float) -> None:
        """Begin at ``start``, monotonic seconds."""
        self.time = start
        self.seconds: dict[str, float] = {}

    def lap(self, step: str) -> None:
        """Add the time since the last call, or since the start, to a step."""
        now = time.monotonic()
        self.seconds[step] = self.seconds.get(step, 0.0) + now - self.time
        self.time = now
