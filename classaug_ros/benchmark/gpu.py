"""Measures where a frame's time goes on a GPU, and what streams, CUDA graphs and the kernels gain there.

Each stage is measured as one launch of a CUDA graph of its own, with the device's caches cold. On torch's CPU, where
kernels are interpreted, the same runs by the clock, so that tests can: those times mean nothing.
"""

from __future__ import annotations

import logging
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
import triton
from tqdm import tqdm

from classaug_ros import __version__
from classaug_ros.benchmark.gpu_stages import Stages
from classaug_ros.benchmark.steps import processor
from classaug_ros.benchmark.throughput import COMBINATIONS, in_words, whole_frames
from classaug_ros.benchmark.timing import Timer, percentiles, table, wake
from classaug_ros.benchmark.torchfusion import TorchWork
from classaug_ros.engines import BuildOptions, load_device_engine
from classaug_ros.engines.device import torch_device
from classaug_ros.errors import EngineError
from classaug_ros.imaging.images import Frame
from classaug_ros.models.card import Model, ModelCard
from classaug_ros.pipeline.cpu import check_rules
from classaug_ros.pipeline.frame_path import FusionConfig, RequestedOutputs
from classaug_ros.pipeline.gpu_options import GpuOptions
from classaug_ros.rules import KINDS, Kind, Rules, RuleSet
from classaug_ros.rules.decision import Decision

ALPHA = 0.5
WANTED = RequestedOutputs(label=True, overlay=True, color=False, confidence=False)
KERNELS = ("preprocess", "fusion, table")
"""The stages that are kernels of ours, in the frames that are measured."""
BARE = "engines at once"

_messages = logging.getLogger(__name__)

_BLOCK = 2**28  # bytes that copies are measured with


def bench(
    models: Sequence[Model],
    rules: Rules,
    frames: Sequence[Frame],
    rounds: int,
    device: str,
    combinations: Sequence[GpuOptions] = COMBINATIONS,
) -> dict[str, Any]:
    """Measure the stages of a frame and whole frames: label and overlay, by the rules' table.

    Args:
        models: the main and the sub model.
        rules: rules learned with both.
        frames: images to run, in turn; all of one size.
        rounds: how often each stage, and each whole frame, is measured.
        device: ``cuda``, or ``cpu``, where kernels are interpreted.
        combinations: how whole frames are run.

    Returns:
        JSON-able ``machine``, ``copies`` and ``bytes``, ``stages``, ``engines``, ``operations``, ``frames``, ``failed``
        (why frames could not be run in some combination), and ``figures``, which follow from them; see ``to_text``.

    Raises:
        ConfigError: the rules are not of these models.
        EngineError: the device or a library is not there, or a model cannot be loaded or run by itself.
    """
    place = torch_device(device)
    check_rules(models, RuleSet([rules]))
    kinds = {kind: config_of(rules, kind) for kind in KINDS if kind == "table" or rules.evidence}
    cards = [model.card for model in models]
    timer = Timer(place, rounds)
    with tqdm(total=4 + len(combinations), desc="bench", unit="part", disable=None) as bar:
        copies = copy_bandwidth(timer)
        bar.update()
        engines = [load_device_engine(model, device, BuildOptions(), _messages.info) for model in models]
        stages = Stages(cards, engines, place, frames[0], kinds["table"], WANTED)
        wake(place, partial(stages.engines, concurrent=True))
        bar.update()
        result: dict[str, Any] = {
            "machine": machine(place, frames[0], models, [engine.description for engine in engines]),
            "copies": copies,
            "stages": _stages(timer, stages, kinds),
            "engines": _engines(timer, stages),
        }
        bar.update()
        result["operations"] = _operations(timer, stages, cards, rules, frames[0])
        result["bytes"] = {"upload": stages.uploaded, "download": stages.downloaded}
        del stages
        for engine in engines:
            engine.close()
        bar.update()
        result["frames"], result["failed"] = [], {}
        for options in combinations:
            try:
                result["frames"].append(whole_frames(models, device, options, frames, kinds["table"], WANTED, rounds))
            except EngineError as error:  # the others may run
                result["failed"][in_words(options)] = str(error)
            bar.update()
    return {**result, "figures": figures(result)}


def config_of(rules: Rules, kind: Kind) -> FusionConfig:
    """Return what frames are fused by while they are measured: one kind of rules."""
    return FusionConfig(RuleSet([replace(rules, kind=kind)]), Decision(), ALPHA)


def copy_bandwidth(timer: Timer) -> dict[str, float]:
    """Return the bytes a second that copies of one large block reach, up to the device and down."""
    cuda = timer.device.type == "cuda"
    host = torch.empty(_BLOCK if cuda else _BLOCK // 2**8, dtype=torch.uint8, pin_memory=cuda)
    there = torch.empty_like(host, device=timer.device)
    stream = torch.cuda.Stream(timer.device) if cuda else None
    short = Timer(timer.device, min(timer.rounds, 10))
    up = short.device_times(lambda: there.copy_(host, non_blocking=True), stream)
    down = short.device_times(lambda: host.copy_(there, non_blocking=True), stream)
    return {"upload": 1000 * host.numel() / np.median(up), "download": 1000 * host.numel() / np.median(down)}


def _stages(timer: Timer, stages: Stages, kinds: Mapping[Kind, FusionConfig]) -> dict[str, dict[str, float]]:
    """Measure each stage by itself."""
    works: dict[str, Any] = {
        "upload": stages.upload,
        "preprocess": stages.preprocess,
        "main engine": partial(stages.engine, 0),
        "sub engine": partial(stages.engine, 1),
    }
    for kind, config in kinds.items():
        decider = stages.decider(config)
        works[f"fusion, {kind}"] = partial(stages.fuse, None, decider)
        for content, outputs in _contents(stages).items():
            works[f"fusion, {kind}, {content}"] = partial(stages.fuse, outputs, decider)
    works["download"] = stages.download
    times = {}
    for name, work in works.items():
        launch = timer.captured(work, stages.stream)
        times[name] = percentiles(timer.device_times(launch, stages.stream))
    return times


def _contents(stages: Stages) -> dict[str, list[torch.Tensor]]:
    """Return outputs that fusion finds easy and hard: how much it computes depends on how often classes change."""
    if any(output.dim() != 4 or not output.is_floating_point() for output in stages.outputs):
        return {}
    random = torch.Generator().manual_seed(0)
    contents: dict[str, list[torch.Tensor]] = {"large areas": [], "noise": []}
    for output in stages.outputs:
        batch, classes, h, w = output.shape
        coarse = torch.randn((batch, classes, 5, 8), generator=random)
        areas = torch.nn.functional.interpolate(coarse, (h, w), mode="bilinear", align_corners=True)
        noise = torch.randn((batch, classes, h, w), generator=random)
        for name, scores in (("large areas", areas), ("noise", noise)):
            contents[name].append(scores.to(output).contiguous())
    return contents


def _engines(timer: Timer, stages: Stages) -> dict[str, dict[str, float]]:
    """Measure the bare engines together, as the host sees it: from the launch until they are done."""
    times = {}
    for name, concurrent in ((BARE, True), ("engines one after the other", False)):
        work = partial(stages.engines, concurrent=concurrent)
        times[f"{name}, no graph"] = percentiles(timer.host_times(work, stages.stream))
        launch = timer.captured(work, stages.stream)
        times[name] = percentiles(timer.host_times(launch, stages.stream))
        times[f"{name}, on the device"] = percentiles(timer.device_times(launch, stages.stream))
    return times


def _operations(timer: Timer, stages: Stages, cards: Sequence[ModelCard], rules: Rules, frame: Frame) -> dict[str, Any]:
    """Measure kernels and PyTorch's operations, both launched one by one, on the same frame and outputs."""
    try:
        work = TorchWork(cards[0], cards[1], rules, frame.size, ALPHA, timer.device)
        return _compared(timer, stages, work, frame)
    except (ValueError, torch.OutOfMemoryError) as error:
        return {"left out": str(error).partition("\n")[0]}


def _compared(timer: Timer, stages: Stages, work: TorchWork, frame: Frame) -> dict[str, Any]:
    stream = stages.stream
    pixels = torch.from_numpy(np.ascontiguousarray(frame.rgb())[np.newaxis].copy()).to(timer.device)
    if timer.device.type == "cuda":
        torch.cuda.synchronize(timer.device)
    with stages.entered():
        label, overlay = work.fuse(stages.outputs, pixels)
        stages.fuse()
        stages.download()
        theirs = label.cpu().numpy(), overlay.cpu().numpy()
    shares = [float((ours != other).mean()) for ours, other in zip(_painted(stages), theirs, strict=True)]
    del label, overlay
    times = {
        "preprocess, kernel": timer.device_times(stages.preprocess, stream),
        "preprocess, PyTorch": timer.device_times(lambda: work.prepare(pixels), stream),
        "fusion, kernel": timer.device_times(stages.fuse, stream),
        "fusion, PyTorch": timer.device_times(lambda: work.fuse(stages.outputs, pixels), stream),
    }
    return {
        "times": {name: percentiles(each) for name, each in times.items()},
        "share of labels that differ": shares[0],
        "share of overlay values that differ": shares[1],
    }


def _painted(stages: Stages) -> tuple[Any, Any]:
    return stages.host["label"], stages.host["overlay"]


def figures(result: Mapping[str, Any]) -> dict[str, float]:
    """Return what follows from the medians."""
    stage = {name: times["p50"] for name, times in result["stages"].items()}
    engines = {name: times["p50"] for name, times in result["engines"].items()}
    found = {
        "both kernels, ms": sum(stage[name] for name in KERNELS),
        "engines one after the other / at once": engines["engines one after the other"] / engines[BARE],
        **{
            f"{way}: share of the measured bandwidth": 1000 * result["bytes"][way] / stage[way] / result["copies"][way]
            for way in ("upload", "download")
        },
    }
    if times := result["operations"].get("times"):
        slow, fast = (
            sum(times[f"{part}, {how}"]["p50"] for part in ("preprocess", "fusion")) for how in ("PyTorch", "kernel")
        )
        found["PyTorch / kernels, launched one by one"] = slow / fast
        found["PyTorch one by one / kernels in graphs"] = slow / found["both kernels, ms"]
    for each in result["frames"]:
        if each["how"] == in_words(GpuOptions(frames_in_flight=1)):
            latency, staging = each["latency_ms"]["p50"], each["staging_ms"]["p50"]
            found["frame / engines at once in a graph"] = latency / engines[BARE]
            found["frame from pinned memory / engines at once in a graph"] = (latency - staging) / engines[BARE]
    return found


def machine(device: torch.device, frame: Frame, models: Sequence[Model], engines: Sequence[str]) -> dict[str, str]:
    """Return what was measured on, in words."""
    return {
        "frame": f"{frame.size[1]} x {frame.size[0]}",
        "models": " and ".join(
            f"{model.card.name} (input {model.card.input.width} x {model.card.input.height}, output "
            f"{len(model.card.classes)} x {model.card.output.height} x {model.card.output.width}; {engine})"
            for model, engine in zip(models, engines, strict=True)
        ),
        **hardware(device),
    }


def hardware(device: torch.device) -> dict[str, str]:
    """Return a device and what is installed for it, in words."""
    versions = {"Python": platform.python_version(), "torch": torch.__version__, "triton": triton.__version__}
    for name in ("tensorrt", "tensorrt_rtx"):
        with suppress(ImportError):
            versions[name] = import_module(name).__version__
    described = {"gpu": "none, kernels are interpreted"}
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        described = {
            "gpu": f"{found.name}, compute capability {found.major}.{found.minor}, {found.multi_processor_count} "
            f"multiprocessors, {found.total_memory / 2**30:.0f} GiB, L2 {found.L2_cache_size / 2**20:.0f} MiB",
            "driver": _nvidia_smi("driver_version"),
            "bus": f"PCIe generation {_nvidia_smi('pcie.link.gen.max')} x {_nvidia_smi('pcie.link.width.max')}",
        }
        versions |= {"CUDA": torch.version.cuda or "none", "cuDNN": str(torch.backends.cudnn.version())}
    return {
        **described,
        "processor": processor(),
        "versions": f"classaug_ros {__version__}, " + ", ".join(f"{name} {each}" for name, each in versions.items()),
    }


def to_text(result: Mapping[str, Any]) -> str:
    """Return the result as Markdown."""
    lines = [*table("stage, in a graph of its own", result["stages"]), ""]
    lines += [*table("bare engines, from launch to done", result["engines"]), ""]
    if times := result["operations"].get("times"):
        lines += [*table("launched one by one", times), ""]
    lines += ["| frames | latency p50 / p95 / p99 ms | staging p50 ms | frames per s |", "|---|---|---|---|"]
    lines += [
        f"| {each['how']} | {' / '.join(f'{value:.3f}' for value in each['latency_ms'].values())} "
        f"| {each['staging_ms']['p50']:.3f} | {each['frames_per_second']:.1f} |"
        for each in result["frames"]
    ]
    lines += [f"| {how} | {error} | | |" for how, error in result["failed"].items()]
    lines += ["", "| of the medians | |", "|---|---|"]
    lines += [f"| {name} | {value:.3f} |" for name, value in result["figures"].items()]
    lines += [
        "",
        *(
            f"- {way}: {result['bytes'][way] / 1e6:.2f} MB a frame; a large block goes at {speed / 1e9:.1f} GB/s"
            for way, speed in result["copies"].items()
        ),
    ]
    lines += [
        f"- {name}: {value if isinstance(value, str) else f'{value:.6f}'}"
        for name, value in result["operations"].items()
        if name != "times"
    ]
    return "\n".join([*lines, *(f"- {name}: {value}" for name, value in result["machine"].items())])


def _nvidia_smi(name: str) -> str:
    """Return one property of the first GPU from the driver's own program."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown"
    command = [program, "--id=0", f"--query-gpu={name}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)  # noqa: S603 (its own)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"
