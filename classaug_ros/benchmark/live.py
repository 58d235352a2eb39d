"""Measures the running node over ROS: frames published to it as cameras do, against the bare models in one process."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from classaug_ros.benchmark.cameras import Cameras, Load, names
from classaug_ros.benchmark.steps import PERCENTILES, both_engines, machine
from classaug_ros.errors import ClassaugError
from classaug_ros.imaging.images import Frame
from classaug_ros.models.card import Model
from classaug_ros.pipeline.cpu import Pipeline
from classaug_ros.rules import Rules, RuleSet
from classaug_ros.running.nodeprocess import NodeProcess, ros_environment
from classaug_ros.running.usage import UsageSampler

START_TIMEOUT = 60.0  # seconds; the first start of all compiles
SETTLE = 1.5  # seconds before and after the frames, for discovery and for the last diagnostics
BARE_ROUNDS = 30


def bench_node(
    main: Model,
    sub: Model,
    rules: Path,
    frames: Sequence[Frame],
    loads: Sequence[Load],
    seconds: float,
    threads: int = 0,
) -> dict[str, Any]:
    """Measure the node under each load, and before and after each the bare models, so that ratios hold.

    The frames are published from this process, raw and best effort, and labels and overlays come back to it.

    Args:
        main: the main model.
        sub: the sub model.
        rules: rules learned with both.
        frames: images to publish, in turn.
        loads: what to send.
        seconds: how long to send each.
        threads: CPU threads of both models; 0 means one per core.

    Returns:
        JSON-able ``loads``, ``bare`` and the ``machine``. Times are in ms, memory in MiB. ``transport out`` is the
        difference of two medians: latency at the subscriber, and at the end of publishing.

    Raises:
        ConfigError: the rules cannot be read, or are not of these models.
        ClassaugError: the node ends, or does not answer.
        EngineError: a model fails.
    """
    measured = []
    with ros_environment(), Pipeline(main, sub, threads=threads) as pipeline, tempfile.TemporaryDirectory() as folder:
        pipeline.check(RuleSet([Rules.load(rules)]))  # a mistake is told here, not by the node
        for load in tqdm(loads, desc="bench", unit="load", disable=None):
            before = both_engines(pipeline, frames, BARE_ROUNDS)
            parameters = {
                "main_model": main.path,
                "sub_model": sub.path,
                "rules_file": rules,
                "threads": threads,
                "cameras": f"[{', '.join(names(load))}]",
            }
            with NodeProcess(parameters, Path(folder) / "node.log") as node, Cameras(load, frames) as cameras:
                result = _measure(node, cameras, load, seconds)
            bare = [*before, *both_engines(pipeline, frames, BARE_ROUNDS)]
            measured.append({**result, **_against(bare, result)})
        described = machine(frames[0], main, sub, pipeline.threads)
    return {"loads": measured, "machine": described}


def to_text(result: Mapping[str, Any]) -> str:
    """Return the result as Markdown."""
    lines = [
        "| cameras | Hz, each | labels per s | of bare | latency p50 / p95 / p99 ms | bare ms | cores | memory MiB |",
        "|---" * 8 + "|",
    ]
    for load in result["loads"]:
        latency = " / ".join(f"{value:.0f}" for value in load["latency_ms"])
        memory = " to ".join(f"{load['memory_mib'][which][1]:.0f}" for which in (0, -1))
        lines.append(
            f"| {load['cameras']} | {load['rate']:g} | {load['labels_per_second']:.2f} | {load['of_bare_rate']:.3f} | "
            f"{latency} | {load['bare_ms']:.1f} | {load['cores']:.2f} | {memory} |"
        )
    steps = list(dict.fromkeys(step for load in result["loads"] for step in load["steps_ms"]))
    lines += ["", f"| p50 ms | {' | '.join(steps)} |", "|---" * (len(steps) + 1) + "|"]
    for load in result["loads"]:
        times = " | ".join(f"{load['steps_ms'].get(step, float('nan')):.1f}" for step in steps)
        lines.append(f"| {load['cameras']} at {load['rate']:g} Hz | {times} |")
    lines += [""] + [
        f"- {load['cameras']} at {load['rate']:g} Hz: "
        + ", ".join(f"{count} {name}" for name, count in load["frames"].items())
        for load in result["loads"]
    ]
    return "\n".join([*lines, *(f"- {name}: {value}" for name, value in result["machine"].items())])


def _measure(node: NodeProcess, cameras: Cameras, load: Load, seconds: float) -> dict[str, Any]:
    waiting = time.monotonic() + START_TIMEOUT
    while not cameras.read():
        node.check()
        if time.monotonic() > waiting:
            raise ClassaugError(f"classaug_node read no camera within {START_TIMEOUT:.0f} s: {node.last_line()}")
        time.sleep(0.02)
    time.sleep(SETTLE)
    with UsageSampler(node) as sampler:
        for number in _beats(load.rate, seconds):
            cameras.publish(number)
    time.sleep(SETTLE)  # the last frames, and diagnostics that tell of them
    if len(cameras.arrivals) < 2:
        raise ClassaugError(
            f"{len(cameras.arrivals)} labels came back in {seconds:g} s, of the node: {node.last_line()}"
        )
    arrivals, latency = cameras.arrivals, np.array(cameras.latencies) * 1000
    status = list(cameras.status.values())
    if not status:
        raise ClassaugError(f"no diagnostics came from the node: {node.last_line()}")
    return {
        "cameras": load.cameras,
        "rate": load.rate,
        "sent": load.cameras * (number + 1),
        "labels": len(arrivals),
        "labels_per_second": (len(arrivals) - 1) / (arrivals[-1] - arrivals[0]),
        "latency_ms": [float(np.percentile(latency, rank)) for rank in PERCENTILES],
        "cores": float(np.mean([usage.cpu for usage in sampler.samples])) / 100,
        "memory_mib": [(round(usage.seconds, 1), usage.memory) for usage in sampler.samples],
        "steps_ms": _steps(status, float(np.median(latency))),
        "frames": _counts(status),
    }


def _beats(rate: float, seconds: float) -> Iterator[int]:
    """Yield 0, 1, 2, ... at a rate in Hz for some seconds."""
    start = time.monotonic()
    for number in range(max(round(rate * seconds), 1)):
        time.sleep(max(0.0, start + number / rate - time.monotonic()))
        yield number


def _steps(status: Sequence[Mapping[str, str]], latency: float) -> dict[str, float]:
    """Return the median of each step over the cameras, and what is left of the latency at the subscriber."""
    marker = " p50 / p95 / p99 (ms)"
    steps: dict[str, list[float]] = {}
    for values in status:  # a camera that published nothing lately tells of no steps
        for key, times in values.items():
            if key.endswith(marker):
                steps.setdefault(key.removesuffix(marker), []).append(float(times.partition(" / ")[0]))
    published = float(np.nanmedian([float(values["latency from stamp p50 (ms)"]) for values in status]))
    return {**{step: float(np.median(times)) for step, times in steps.items()}, "transport out": latency - published}


def _counts(status: Sequence[Mapping[str, str]]) -> dict[str, int]:
    kinds = ("in", "out", "dropped", "refused", "failed")
    counts = {kind: sum(int(values[f"frames {kind}"]) for values in status) for kind in kinds}
    return {**counts, "lost on the way": sum(int(values["lost on the way"]) for values in status)}


def _against(bare: Sequence[float], result: Mapping[str, Any]) -> dict[str, float]:
    return {
        "bare_ms": float(np.median(bare)),
        "bare_per_second": 1000 / float(np.mean(bare)),
        "of_bare_rate": result["labels_per_second"] * float(np.mean(bare)) / 1000,
    }
