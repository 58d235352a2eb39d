"""The newest frame of each camera, handed to the worker in turns, with an account of every frame."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Outcome(Enum):
    """What became of a frame that was taken up."""

    PUBLISHED = "out"
    SKIPPED = "skipped"  # nobody subscribes to what it would give
    REFUSED = "refused"  # it cannot be used
    FAILED = "failed"  # a model failed on it
    DROPPED = "dropped"  # the models were loaded anew before its turn


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


@dataclass(frozen=True)
class Turns:
    """A camera's share of the worker.

    Attributes:
        priority: a camera of priority 2 has twice the turns of one of priority 1 while both have frames waiting.
        max_rate: frames per second at most, on average; 0 is no limit.
    """

    priority: int = 1
    max_rate: float = 0.0


class _Slot:
    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.turn = 0.0  # turns had, each divided by the priority
        self.due = 0.0  # monotonic seconds before which max_rate allows no frame
        self.arrival: Arrival | None = None
        self.received = 0
        self.dropped = 0
        self.working = 0
        self.done = dict.fromkeys(Outcome, 0)


class NewestFrames:
    """One slot per camera. ``put`` never waits; ``take`` waits for a frame and serves the cameras in turn.

    Turns are those of stride scheduling: of the cameras that have a frame, the one with the fewest turns had for its
    priority is next. A camera without frames saves up no turns.

    Source: Waldspurger and Weihl, Stride Scheduling, MIT/LCS/TM-528, 1995.
    """

    def __init__(self, cameras: Mapping[str, Turns]) -> None:
        self._slots = {camera: _Slot(turns) for camera, turns in cameras.items()}
        self._turn = 0.0  # the furthest that was served
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
                if slot.arrival is None:
                    slot.turn = max(slot.turn, self._turn)
                slot.arrival = arrival
                self._changed.notify()

    def take(self, most: int = 1) -> list[Arrival]:
        """Wait for a frame whose camera's rate allows it, and return it; nothing once closed.

        Args:
            most: how many are taken at once, where more of them wait.

        The taker says with ``finish`` what became of each.
        """
        with self._changed:
            while self._open:
                now = time.monotonic()
                waiting = [(slot, slot.arrival) for slot in self._slots.values() if slot.arrival is not None]
                ready = [(slot, arrival) for slot, arrival in waiting if slot.due <= now]
                if ready:
                    taken = sorted(ready, key=lambda each: each[0].turn)[:most]
                    for slot, _ in taken:
                        slot.arrival = None
                        slot.working += 1
                        self._count_turn(slot, now)
                    return [arrival for _, arrival in taken]
                self._changed.wait(min(slot.due for slot, _ in waiting) - now if waiting else None)
            return []

    def _count_turn(self, slot: _Slot, now: float) -> None:
        self._turn = max(self._turn, slot.turn)  # one that its rate held back may lag behind
        slot.turn += 1 / slot.turns.priority
        if slot.turns.max_rate:
            # Counted from when it was due, not from when it came, so that the rate holds on average; but a camera that
            # was silent may not make up for it.
            period = 1 / slot.turns.max_rate
            slot.due = slot.due + period if slot.due + period > now else now + period

    def finish(self, camera: str, outcome: Outcome) -> None:
        """Account for a frame that was taken."""
        with self._changed:
            slot = self._slots[camera]
            slot.working -= 1
            slot.done[outcome] += 1

    def close(self) -> None:
        """Drop what waits and let ``take`` return nothing."""
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
                dropped=slot.dropped + slot.done[Outcome.DROPPED],
                refused=slot.done[Outcome.REFUSED],
                skipped=slot.done[Outcome.SKIPPED],
                failed=slot.done[Outcome.FAILED],
                waiting=slot.working + (slot.arrival is not None),
            )
