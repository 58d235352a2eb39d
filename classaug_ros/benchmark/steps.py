"""Measures where a frame's time goes, and what concurrency, compiled fusion and either kind of rules cost or gain."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from classaug_ros import __version__, fusion
from classaug_ros.imaging.images import Frame, image_files, read_image
from classaug_ros.models.card import Model
from classaug_ros.models.labels import LabelMap
from classaug_ros.pipeline.cpu import Inferred, Pipeline
from classaug_ros.rules import KINDS, Kind, Rules, RuleSet
from classaug_ros.rules.decision import Decision

PERCENTILES = (50, 95, 99)
WARM_UP = 3  # rounds
BOTH_ENGINES = "engines alone, both at once"

_CPUINFO = Path("/proc/cpuinfo")

T = TypeVar("T")


@dataclass
class Stopwatch:
    """Collects the time of named steps, in milliseconds."""

    times: dict[str, list[float]] = field(default_factory=dict)

    def measure(self, step: str, work: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Run ``work``, add its time to ``step`` and return its result."""
        start = time.perf_counter()
        result = work(*arguments, **options)
        self.times.setdefault(step, []).append(1000 * (time.perf_counter() - start))
        return result

    def percentiles(self) -> dict[str, dict[str, float]]:
        """Return p50, p95 and p99 of each step in ms."""
        return {
            step: {f"p{rank}": float(np.percentile(times, rank)) for rank in PERCENTILES}
            for step, times in self.times.items()
        }


def bench(
    main: Model, sub: Model, rules: Rules, frames: Sequence[Frame], rounds: int, threads: int = 0
) -> dict[str, Any]:
    """Measure every step and the whole, all of it in each round, so that figures of one run compare.

    Whole frames and single steps go by the rules' table, whatever kind is in use. Fusion by each kind there is comes
    straight after the models, as in use, when they have the caches for themselves.

    Args:
        main: the main model.
        sub: the sub model.
        rules: rules learned with both.
        frames: images to run, in turn.
        rounds: how often each step is measured.
        threads: CPU threads; 0 means one per core.

    Returns:
        JSON-able ``steps`` (ms), ``ratios`` of their medians and the ``machine``.

    Raises:
        ConfigError: the rules are not of these models.
        EngineError: a model fails.
    """
    watch = Stopwatch()
    kinds = {kind: RuleSet([replace(rules, kind=kind)]) for kind in KINDS if kind == "table" or rules.evidence}
    with (
        Pipeline(main, sub, threads=threads) as concurrent,
        Pipeline(main, sub, threads=threads, concurrent=False) as serial,
        ThreadPoolExecutor(1) as pool,
    ):
        for number in tqdm(range(rounds + WARM_UP), desc="bench", unit="round", disable=None):
            if number == WARM_UP:
                watch.times.clear()
            frame = frames[number % len(frames)]
            _whole(watch, frame, kinds["table"], concurrent, serial)
            _engines(watch, frame, concurrent, pool)
            _steps(watch, frame, rules, serial)
            for kind, each in kinds.items():
                _fusion(watch, frame, kind, each, concurrent)
    steps = watch.percentiles()
    return {"steps": steps, "ratios": _ratios(steps), "machine": machine(frames[0], main, sub, concurrent.threads)}


def to_text(result: Mapping[str, Any]) -> str:
    """Return the result as Markdown."""
    lines = ["| step | p50 ms | p95 ms | p99 ms |", "|---|---|---|---|"]
    lines += [
        f"| {step} | {times['p50']:.2f} | {times['p95']:.2f} | {times['p99']:.2f} |"
        for step, times in result["steps"].items()
    ]
    lines += ["", "| ratio of medians | |", "|---|---|"]
    lines += [f"| {name} | {value:.2f} |" for name, value in result["ratios"].items()]
    lines += ["", *(f"- {name}: {value}" for name, value in result["machine"].items())]
    return "\n".join(lines)


def synthetic_frames(size: tuple[int, int], count: int = 4) -> list[Frame]:
    """Return ``count`` frames of (H, W) of smooth random colours, the same each time."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (count, 12, 16, 3), np.uint8)
    return [_resized(Frame(picture, "rgb"), size) for picture in coarse]


def frames_of(folder: Path, size: tuple[int, int], count: int = 16) -> list[Frame]:
    """Return the first ``count`` images of a folder, resized to (H, W).

    Raises:
        ConfigError: the folder has no images.
        ImageError: an image cannot be read.
    """
    return [_resized(read_image(path), size) for path in image_files(folder)[:count]]


def _resized(frame: Frame, size: tuple[int, int]) -> Frame:
    pixels = cv2.resize(frame.pixels, size[::-1], interpolation=cv2.INTER_CUBIC)
    return Frame(pixels.astype(np.uint8, copy=False), frame.order)


def _whole(watch: Stopwatch, frame: Frame, rules: RuleSet, concurrent: Pipeline, serial: Pipeline) -> None:
    watch.measure("frame: label and overlay", concurrent.augment, frame, rules, overlay=True)
    watch.measure("frame: label alone", concurrent.augment, frame, rules)
    watch.measure("frame, models one after the other", serial.augment, frame, rules, overlay=True)


def _engines(watch: Stopwatch, frame: Frame, pipeline: Pipeline, pool: Executor) -> None:
    main, sub = pipeline.runners
    images = main.prepare(frame), sub.prepare(frame)

    def both() -> None:
        beside = pool.submit(sub.infer, images[1])
        main.infer(images[0])
        beside.result()

    watch.measure(BOTH_ENGINES, both)


def _steps(watch: Stopwatch, frame: Frame, rules: Rules, serial: Pipeline) -> None:
    outputs, labels = [], []
    for role, runner in zip(("main", "sub"), serial.runners, strict=True):
        image = watch.measure(f"{role}: preprocess", runner.prepare, frame)
        outputs.append(watch.measure(f"{role}: engine, all threads", runner.infer, image))
        labels.append(watch.measure(f"{role}: upsample and argmax", runner.label, outputs[-1], frame.size))
    palette = rules.output.palette()
    watch.measure("rules, colours and overlay, one thread", _painted, *labels, rules.table, palette, frame)
    table = RuleSet([replace(rules, kind="table")])
    inferred = Inferred(frame, tuple(outputs))
    watch.measure("fusion, all of it, two threads", serial.fuse, inferred, table, overlay=True)
    watch.measure("fusion by NumPy and OpenCV", _composed, outputs, frame, rules, palette)


def _fusion(watch: Stopwatch, frame: Frame, kind: Kind, rules: RuleSet, pipeline: Pipeline) -> None:
    """Measure all of the fusion, on two threads, with each thing that may be asked of it."""
    asked: dict[str, dict[str, Any]] = {
        "label and overlay": {"overlay": True},
        "label": {},
        "label and confidence": {"confidence": True},
    }
    if kind == "probability":
        asked["label along contours"] = {"decision": Decision(contours=True)}
    for what, options in asked.items():
        inferred = pipeline.infer(pipeline.prepare(frame))
        watch.measure(_after(kind, what), pipeline.fuse, inferred, rules, **options)


def _after(kind: Kind, what: str) -> str:
    return f"after the models, {kind} fusion: {what}"


def _painted(main: LabelMap, sub: LabelMap, table: LabelMap, palette: NDArray[np.uint8], frame: Frame) -> object:
    return fusion.paint(fusion.look_up(main, sub, table), palette, frame)


def _composed(outputs: Sequence[NDArray[Any]], frame: Frame, rules: Rules, palette: NDArray[np.uint8]) -> object:
    """Fuse as usual code does: resize each channel, argmax, table, palette, blend."""
    height, width = frame.size
    labels = []
    for output in outputs:
        planes = output if output.ndim == 3 else output[np.newaxis].astype(np.float32)
        labels.append(np.stack([cv2.resize(plane, (width, height)) for plane in planes]).argmax(axis=0))
    color = palette[rules.table[labels[0], labels[1]]]
    return cv2.addWeighted(frame.rgb(), 0.5, color, 0.5, 0)


def _ratios(steps: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    median = {step: times["p50"] for step, times in steps.items()}
    fusion_steps = ("main: upsample and argmax", "sub: upsample and argmax", "rules, colours and overlay, one thread")
    one_after_the_other = median["main: engine, all threads"] + median["sub: engine, all threads"]
    return {
        "engines one after the other / at once": one_after_the_other / median[BOTH_ENGINES],
        "whole frame with overlay / engines alone": median["frame: label and overlay"] / median[BOTH_ENGINES],
        "fusion by NumPy and OpenCV / ours on one thread": median["fusion by NumPy and OpenCV"]
        / sum(median[step] for step in fusion_steps),
        "fusion by NumPy and OpenCV / ours": median["fusion by NumPy and OpenCV"]
        / median["fusion, all of it, two threads"],
        **{
            f"probability fusion / table fusion: {what}": median[_after("probability", what)]
            / median[_after("table", what)]
            for what in ("label and overlay", "label", "label and confidence")
            if _after("probability", what) in median
        },
    }


def both_engines(pipeline: Pipeline, frames: Sequence[Frame], rounds: int) -> list[float]:
    """Return the time, in ms, that both bare models take at once, for each of so many rounds."""
    watch = Stopwatch()
    with ThreadPoolExecutor(1) as pool:
        for number in range(rounds + WARM_UP):
            _engines(watch, frames[number % len(frames)], pipeline, pool)
    return watch.times[BOTH_ENGINES][WARM_UP:]


def machine(frame: Frame, main: Model, sub: Model, threads: Sequence[int]) -> dict[str, str]:
    """Return what was measured on, in words."""
    return {
        "frame": f"{frame.size[1]} x {frame.size[0]}",
        "models": " and ".join(
            f"{model.card.name} (input {model.card.input.width} x {model.card.input.height}, output "
            f"{len(model.card.classes)} x {model.card.output.height} x {model.card.output.width})"
            for model in (main, sub)
        ),
        "processor": processor(),
        "threads": f"{threads[0]} and {threads[1]} at once, {sum(threads)} one after the other",
        "versions": f"classaug_ros {__version__}, Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in ("numpy", "onnxruntime", "numba")),
    }


def processor() -> str:
    """Return what this process may use of the machine's processor, in words."""
    cpus = [line.partition(":")[2].strip() for line in _CPUINFO.read_text().splitlines() if "model name" in line]
    return f"{len(os.sched_getaffinity(0))} cores of {cpus[0] if cpus else platform.machine()}"
