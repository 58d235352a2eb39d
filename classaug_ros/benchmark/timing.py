"""How long a device takes: by CUDA events on a GPU, by the clock on torch's CPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from classaug_ros.benchmark.steps import PERCENTILES

Work: TypeAlias = Callable[[], object]

FLUSHED = 2**29
"""Bytes that are written on the device before each measurement.

They drive what the one before left out of its caches. And they keep it busy for longer than the host needs to enqueue a
few launches, so that these are measured and not the host; of many launches one by one, it is the host after all.
"""


AWAKE = 1.0
"""Seconds of work before a measurement: a GPU that has nothing to do lowers its clocks."""


def wake(device: torch.device, work: Work, least: int = 1) -> None:
    """Keep a GPU at work for a while, with so many runs of it at least; there is no need to on torch's CPU."""
    if device.type != "cuda":
        return
    end, count = time.perf_counter() + AWAKE, 0
    while count < least or time.perf_counter() < end:
        work()
        torch.cuda.synchronize(device)
        count += 1


class Timer:
    """Times work on a device, as often as asked for."""

    def __init__(self, device: torch.device, rounds: int) -> None:
        """Measure on a device, ``rounds`` times each."""
        self.device, self.rounds = device, rounds
        self._flushed = torch.empty(FLUSHED if device.type == "cuda" else 0, dtype=torch.uint8, device=device)

    def captured(self, work: Work, stream: Any) -> Work:
        """Return work as one launch of a CUDA graph; as it is on torch's CPU.

        Args:
            work: what it enqueues on other streams is to begin after, and end before, what it does on ``stream``.
            stream: which is current while it is captured, and while it is run once before that: for what allocates.
        """
        if self.device.type != "cuda":
            return work
        with torch.cuda.stream(stream):
            work()
        torch.cuda.synchronize(self.device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            work()
        replay: Work = graph.replay
        return replay

    def device_times(self, work: Work, stream: Any) -> list[float]:
        """Return how long the device takes, in ms, from when it is free for the work until it is through with it."""
        if self.device.type != "cuda":
            return self.host_times(work, stream)
        with torch.cuda.stream(stream):
            work()
            marks = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(self.rounds)]
            for first, last in marks:
                self._flushed.zero_()
                first.record()
                work()
                last.record()
        torch.cuda.synchronize(self.device)
        return [first.elapsed_time(last) for first, last in marks]

    def host_times(self, work: Work, stream: Any) -> list[float]:
        """Return how long the host waits, in ms, from when it begins to enqueue the work until the work is done."""
        if self.device.type == "cuda":
            self._host_time(work, stream)
        return [self._host_time(work, stream) for _ in range(self.rounds)]

    def _host_time(self, work: Work, stream: Any) -> float:
        start = time.perf_counter()
        if self.device.type == "cuda":
            with torch.cuda.stream(stream):
                work()
            stream.synchronize()
        else:
            work()
        return 1000 * (time.perf_counter() - start)


def percentiles(times: Sequence[float]) -> dict[str, float]:
    """Return p50, p95 and p99 of times."""
    return {f"p{rank}": float(np.percentile(times, rank)) for rank in PERCENTILES}


def table(head: str, rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return times by name as lines of a Markdown table."""
    lines = [f"| {head} | p50 ms | p95 ms | p99 ms |", "|---|---|---|---|"]
    return lines + [
        f"| {name} | " + " | ".join(f"{each[f'p{rank}']:.3f}" for rank in PERCENTILES) + " |"
        for name, each in rows.items()
    ]
