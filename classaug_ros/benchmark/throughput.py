"""Whole frames on a GPU, as the node takes them: how long one takes, and how many a second."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from itertools import product
from typing import Any

from classaug_ros.benchmark.timing import percentiles, wake
from classaug_ros.engines.device import torch_device
from classaug_ros.imaging.images import Frame
from classaug_ros.models.card import Model
from classaug_ros.pipeline.frame_path import FusionConfig, RequestedOutputs
from classaug_ros.pipeline.gpu import GpuPath
from classaug_ros.pipeline.gpu_options import GpuOptions

WARM_UP = 6  # frames: two for each place that one can be in

COMBINATIONS = tuple(
    GpuOptions(graph=graph, concurrent=concurrent, frames_in_flight=in_flight)
    for graph, concurrent, in_flight in product((True, False), (True, False), (1, 2))
)


def whole_frames(
    models: Sequence[Model],
    device: str,
    options: GpuOptions,
    frames: Sequence[Frame],
    config: FusionConfig,
    wanted: RequestedOutputs,
    rounds: int,
) -> dict[str, Any]:
    """Measure frames from their bytes on the host to their results on the host.

    Args:
        models: main first.
        device: torch's name of it.
        options: how frames are run.
        frames: run in turn.
        config: what they are fused by.
        wanted: what is made of them.
        rounds: frames that are measured one by one, and again as many as they come.

    Returns:
        ``how`` they were run, ``latency_ms`` of a frame while there is no other, what of it is ``staging_ms``: copying
        to where the device takes it from, and ``frames_per_second`` when the next one always waits.

    Raises:
        EngineError: the device refuses.
    """
    path = GpuPath(models, device, options, lambda _: None)
    try:
        wake(torch_device(device), lambda: one_by_one(path, frames[0], config, wanted), WARM_UP)
        times = [one_by_one(path, frames[number % len(frames)], config, wanted) for number in range(rounds)]
        rate = rounds / stream(path, frames, config, wanted, rounds)
    finally:
        path.close()
    staging, latency = zip(*times, strict=True)
    return {
        "how": in_words(options),
        "latency_ms": percentiles(latency),
        "staging_ms": percentiles(staging),
        "frames_per_second": rate,
    }


def in_words(options: GpuOptions) -> str:
    """Return how frames are run."""
    graph = "CUDA graph" if options.graph else "no graph"
    return f"{graph}, {'at once' if options.concurrent else 'serial'}, {options.frames_in_flight} in flight"


def one_by_one(path: GpuPath, frame: Frame, config: FusionConfig, wanted: RequestedOutputs) -> tuple[float, float]:
    """Take a frame through a path that has no other; return ms until it is staged, and until its results are there."""
    start = time.perf_counter()
    prepared = path.prepare([frame])
    staged = time.perf_counter()
    path.fuse(path.infer(prepared, config, wanted, _do_nothing))
    return 1000 * (staged - start), 1000 * (time.perf_counter() - start)


def stream(path: GpuPath, frames: Sequence[Frame], config: FusionConfig, wanted: RequestedOutputs, count: int) -> float:
    """Take frames through a path as fast as it takes them; return the seconds until all results are there."""
    start = time.perf_counter()
    fused: Future[Any] | None = None
    for number in range(count):
        inferred = path.infer(path.prepare([frames[number % len(frames)]]), config, wanted, _do_nothing)
        if fused is not None:
            fused.result()
        fused = path.spare.submit(path.fuse, inferred)
    if fused is not None:
        fused.result()
    return time.perf_counter() - start


def _do_nothing() -> None:
    """The next frame is prepared when this one's step is over."""
