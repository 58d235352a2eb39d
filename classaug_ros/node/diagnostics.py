"""What the node tells of itself: rates and latencies over the last seconds, and how well each camera fares."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from classaug_ros.node.cameras import Counts, Outcome

WINDOW = 10.0
"""Seconds over which rates, latencies and recent trouble are told."""

PERCENTILES = (50, 95, 99)


class Level(IntEnum):
    """Levels of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2


@dataclass(frozen=True)
class Status:
    """One diagnostic status: how bad, in short, and details by name."""

    level: Level
    message: str
    values: dict[str, str]


@dataclass(frozen=True)
class Finished:
    """A frame that was dealt with.

    Attributes:
        time: monotonic seconds when it was done.
        outcome: what became of it.
        since_stamp: seconds since the stamp in its header; nan without a stamp or output.
        since_arrival: seconds since it came; nan without output.
        cause: why it was refused or failed.
        steps: seconds of each step of a published one.
    """

    time: float
    outcome: Outcome
    since_stamp: float = math.nan
    since_arrival: float = math.nan
    cause: str = ""
    steps: Mapping[str, float] = field(default_factory=dict)


class Recent:
    """The last seconds of one camera. Written by the receiving and the working thread, read by a third."""

    def __init__(self, started: float) -> None:
        """Begin at ``started``, monotonic seconds."""
        self._lock = threading.Lock()
        self._started = started
        self._last = started
        self._arrivals: deque[float] = deque()
        self._finished: deque[Finished] = deque()
        self._losses: deque[tuple[float, int]] = deque()
        self._lost = 0
        self._at_work = 0
        self._went_on = started  # monotonic seconds when work began, or a frame was last dealt with

    def began(self, now: float) -> None:
        """Note that the camera is read from now on: its rates and its silence count from here."""
        with self._lock:
            self._started = self._last = now
            self._arrivals.clear()

    def arrived(self, now: float) -> None:
        """Note a frame that came, at monotonic seconds."""
        with self._lock:
            self._last = now
            self._arrivals.append(now)
            self._forget(now)

    def lost(self, now: float, count: int) -> None:
        """Note frames that the middleware says never came, at monotonic seconds."""
        with self._lock:
            self._lost += count
            self._losses.append((now, count))
            self._forget(now)

    def taken(self, now: float) -> None:
        """Note that a frame is worked on from now on, monotonic seconds."""
        with self._lock:
            if not self._at_work:
                self._went_on = now
            self._at_work += 1

    def finished(self, frame: Finished) -> None:
        """Note a frame that was dealt with."""
        with self._lock:
            self._at_work = max(self._at_work - 1, 0)
            self._went_on = frame.time
            self._finished.append(frame)
            self._forget(frame.time)

    def summary(self, now: float) -> Summary:
        """Return what the window holds at ``now``, monotonic seconds."""
        with self._lock:
            self._forget(now)
            arrivals, finished = len(self._arrivals), tuple(self._finished)
            lost, lost_in_all = sum(count for _, count in self._losses), self._lost
            silent = now - self._last
            stuck = now - self._went_on if self._at_work else 0.0
            started = self._started
            span = min(max(now - started, 1.0), WINDOW)
        by_outcome = {outcome: [frame for frame in finished if frame.outcome is outcome] for outcome in Outcome}
        published = by_outcome[Outcome.PUBLISHED]
        trouble = by_outcome[Outcome.REFUSED] + by_outcome[Outcome.FAILED]
        return Summary(
            rate_in=arrivals / span,
            rate_out=sum(frame.time >= started for frame in published) / span,
            published=len(published),
            skipped=len(by_outcome[Outcome.SKIPPED]),
            refused=len(by_outcome[Outcome.REFUSED]),
            failed=len(by_outcome[Outcome.FAILED]),
            lost=lost,
            lost_in_all=lost_in_all,
            cause=max(trouble, key=lambda frame: frame.time).cause if trouble else "",
            silent=silent,
            stuck=stuck,
            since_stamp=percentiles(frame.since_stamp for frame in published),
            since_arrival=percentiles(frame.since_arrival for frame in published),
            steps={
                step: percentiles(frame.steps[step] for frame in published)
                for step in (published[-1].steps if published else ())
            },
        )

    def _forget(self, now: float) -> None:
        while self._arrivals and self._arrivals[0] <= now - WINDOW:
            self._arrivals.popleft()
        while self._losses and self._losses[0][0] <= now - WINDOW:
            self._losses.popleft()
        while self._finished and self._finished[0].time <= now - WINDOW:
            self._finished.popleft()


@dataclass(frozen=True)
class Summary:
    """The last ``WINDOW`` seconds of one camera: Hz, frames, the newest trouble's cause, latencies in seconds.

    ``lost`` frames never reached the node, in the window and since the start (``lost_in_all``).
    ``silent`` is the time in seconds since the last frame, or since the camera was begun to be read; ``stuck`` that for
    which frames were worked on and none was done; latencies and
    ``steps``, seconds by step, follow ``PERCENTILES``.
    """

    rate_in: float
    rate_out: float
    published: int
    skipped: int
    refused: int
    failed: int
    lost: int
    lost_in_all: int
    cause: str
    silent: float
    stuck: float
    since_stamp: tuple[float, ...]
    since_arrival: tuple[float, ...]
    steps: Mapping[str, tuple[float, ...]]


def percentiles(samples: Iterable[float]) -> tuple[float, ...]:
    """Return the ``PERCENTILES`` of the samples that are not nan; nan where there is none."""
    values = np.fromiter(samples, np.float64)
    values = values[~np.isnan(values)]
    if not values.size:
        return (math.nan,) * len(PERCENTILES)
    return tuple(float(value) for value in np.percentile(values, PERCENTILES))


def camera_status(counts: Counts, recent: Summary, stale_after: float, late_after: float, *, read: bool) -> Status:
    """Judge one camera of an active node.

    Args:
        counts: its frames since the start.
        recent: its last seconds.
        stale_after: seconds without a frame that are too long.
        late_after: seconds of work without a frame done that are too long.
        read: whether somebody wants its results, so that the node subscribes to it.
    """
    level, message = _judge(counts, recent, stale_after if read else math.inf, late_after)
    if level is Level.OK and not read:
        message = "not read: nobody subscribes to this camera's label, overlay, label_color or confidence"
    values = {
        "frames in": str(counts.received),
        "frames out": str(counts.published),
        "frames dropped": str(counts.dropped),
        "frames refused": str(counts.refused),
        "frames skipped": str(counts.skipped),
        "frames failed": str(counts.failed),
        "frames waiting": str(counts.waiting),
        "lost on the way": str(recent.lost_in_all),
        "rate in (Hz)": f"{recent.rate_in:.2f}",
        "rate out (Hz)": f"{recent.rate_out:.2f}",
    }
    for origin, latencies in (("stamp", recent.since_stamp), ("arrival", recent.since_arrival)):
        for percent, seconds in zip(PERCENTILES, latencies, strict=True):
            values[f"latency from {origin} p{percent} (ms)"] = f"{seconds * 1e3:.1f}"
    for step, times in recent.steps.items():
        values[f"{step} p50 / p95 / p99 (ms)"] = " / ".join(f"{1e3 * seconds:.1f}" for seconds in times)
    return Status(level, message, values)


def _judge(counts: Counts, recent: Summary, stale_after: float, late_after: float) -> tuple[Level, str]:
    rates = f"{recent.rate_in:.1f} Hz in, {recent.rate_out:.1f} Hz out"
    within = f"in the last {WINDOW:.0f} s"
    remedy = "give Fast DDS shared memory for images (config/fastdds.xml), or set image_reliability to reliable"
    judgements = (
        (
            recent.stuck > late_after,
            Level.ERROR,
            f"frames are worked on, but none was done for {recent.stuck:.0f} s",
        ),
        (recent.failed, Level.ERROR, f"{recent.failed} frames failed {within}: {recent.cause}"),
        (
            recent.refused and not recent.published and not recent.skipped,
            Level.ERROR,
            f"every frame {within} was refused: {recent.cause}",
        ),
        (
            recent.silent > stale_after,
            Level.WARN,
            f"no frame {'' if counts.received else 'yet, '}for {recent.silent:.1f} s",
        ),
        (recent.refused, Level.WARN, f"{recent.refused} frames refused {within}: {recent.cause}"),
        (
            recent.lost,
            Level.WARN,
            f"{recent.lost} images lost on the way here {within}; {remedy}",
        ),
    )
    return next(((level, message) for holds, level, message in judgements if holds), (Level.OK, rates))
