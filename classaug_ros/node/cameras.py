"""The newest frame of each camera, handed to one worker in fair turns, with an account of every frame."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Outcome(Enum):
    """What became of a frame that was taken up."""

    PUBLISHED = "out"
    SKIPPED = "skipped"  # nobody subscribes to what it would give
    REFUSED = "refused"  # it cannot be used
    FAILED = "failed"  # a model failed on it


@dataclass(frozen=True)
class Arrival:
    """A frame as it came: its camera, the message and the monotonic time in seconds."""

    camera: str
    message: Any
    time: float


@dataclass(frozen=True)
class Counts:
    """Frames of one camera since it was started.

    ``received`` is always the sum of the others: ``waiting`` ones lie in the slot or are being worked on,
    ``dropped`` ones were replaced by a newer one before their turn.
    """

    received: int = 0
    published: int = 0
    dropped: int = 0
    refused: int = 0
    skipped: int = 0
    failed: int = 0
    waiting: int = 0


class _Slot:
    def __init__(self) -> None:
        self.arrival: Arrival | None = None
        self.received = 0
        self.dropped = 0
        self.working = 0
        self.done = dict.fromkeys(Outcome, 0)


class NewestFrames:
    """One slot per camera. ``put`` never waits; ``take`` waits for a frame and serves the cameras in turn."""

    def __init__(self, cameras: Iterable[str]) -> None:
        self._slots = {camera: _Slot() for camera in cameras}
        self._turns = deque(self._slots)
        self._changed = threading.Condition()
        self._open = True

    def put(self, camera: str, message: Any) -> None:
        """Make a message its camera's newest frame; one still waiting there is dropped. Closed: it is dropped too."""
        arrival = Arrival(camera, message, time.monotonic())
        with self._changed:
            slot = self._slots[camera]
            slot.received += 1
            if slot.arrival is not None or not self._open:
                slot.dropped += 1
            if self._open:
                slot.arrival = arrival
                self._changed.notify()

    def take(self) -> Arrival | None:
        """Wait for a frame and return it, of the camera whose turn is longest ago; None once closed.

        The taker says with ``finish`` what became of it.
        """
        with self._changed:
            while self._open:
                for camera in self._turns:
                    slot = self._slots[camera]
                    if slot.arrival is not None:
                        arrival, slot.arrival = slot.arrival, None
                        slot.working += 1
                        self._turns.remove(camera)
                        self._turns.append(camera)
                        return arrival
                self._changed.wait()
            return None

    def finish(self, camera: str, outcome: Outcome) -> None:
        """Account for a frame that was taken."""
        with self._changed:
            slot = self._slots[camera]
            slot.working -= 1
            slot.done[outcome] += 1

    def close(self) -> None:
        """Drop what waits and let ``take`` return None."""
        with self._changed:
            self._open = False
            for slot in self._slots.values():
                if slot.arrival is not None:
                    slot.arrival = None
                    slot.dropped += 1
            self._changed.notify_all()

    def counts(self, camera: str) -> Counts:
        """Return the account of one camera, consistent at this moment."""
        with self._changed:
            slot = self._slots[camera]
            return Counts(
                received=slot.received,
                published=slot.done[Outcome.PUBLISHED],
                dropped=slot.dropped,
                refused=slot.done[Outcome.REFUSED],
                skipped=slot.done[Outcome.SKIPPED],
                failed=slot.done[Outcome.FAILED],
                waiting=slot.working + (slot.arrival is not None),
            )
