"""The steps that gpu.py runs, each in a process of its own; what they find is something that JSON can hold."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import awkward
import numpy as np
import torch
from models import PAIR, SMALL, random_rules, write_model
from numpy.typing import NDArray

from classaug_ros.benchmark import gpu, throughput
from classaug_ros.benchmark.gpu_stages import Stages
from classaug_ros.benchmark.steps import synthetic_frames
from classaug_ros.engines import BuildOptions, load_device_engine
from classaug_ros.engines.device import torch_device
from classaug_ros.engines.interface import DeviceEngine
from classaug_ros.errors import ClassaugError
from classaug_ros.fusion.reference.preprocess import prepare
from classaug_ros.imaging.images import Frame
from classaug_ros.models.card import Model, load_model
from classaug_ros.pipeline.cpu import Augmented, Inferred, Pipeline
from classaug_ros.pipeline.frame_path import FusionConfig, RequestedOutputs
from classaug_ros.pipeline.gpu import GpuPath
from classaug_ros.pipeline.gpu_options import GpuOptions
from classaug_ros.rules import KINDS, Kind, Rules

ALL = RequestedOutputs(label=True, overlay=True, color=True, confidence=True)
PICTURES = ("label", "confidence", "color", "overlay")
PATIENCE = 110
"""Seconds after which no further kernels are compiled."""

ENOUGH = 80
"""Seconds after which no further frames are run to watch memory."""

WAYS = tuple(options for options in throughput.COMBINATIONS if options.frames_in_flight == 2)

Result = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """Where a step runs.

    Attributes:
        device: torch's name of it.
        small: whether models, frames and numbers are tiny.
        work: folder of the models.
    """

    device: str
    small: bool
    work: Path

    @property
    def place(self) -> torch.device:
        """The device; EngineError where there is none."""
        return torch_device(self.device)

    @property
    def frames(self) -> list[Frame]:
        """Four frames."""
        return synthetic_frames((18, 34) if self.small else (1080, 1920))

    def models(self) -> tuple[list[Model], Rules]:
        """Return what the step ``models`` wrote."""
        models = [load_model(self.work / name) for name in ("main", "sub")]
        return models, random_rules(models[0], models[1])


def machine(setting: Setting) -> Result:
    """Tell what everything runs on."""
    return dict(gpu.hardware(setting.place))


def write_models(setting: Setting) -> Result:
    """Write the models that the other steps run."""
    pair = SMALL if setting.small else PAIR
    names = zip(("main", "sub"), pair, strict=True)
    written = [write_model(setting.work, *each, seed) for seed, each in enumerate(names)]
    return {"models": ", ".join(f"{each.path.name} of {each.path.stat().st_size / 1e6:.0f} MB" for each in written)}


def kernels(setting: Setting) -> Result:
    """Compare all kernels with their references; each case takes new kernels, which takes seconds to compile."""
    wanted = awkward.SMALL if setting.small else awkward.CASES
    cases: list[Result] = []
    end = time.monotonic() + PATIENCE
    for case in wanted:
        if time.monotonic() > end:
            break
        try:
            cases.append(awkward.run(case, setting.place))
        except Exception as error:  # noqa: BLE001 (told, and the others are tried)
            cases.append({"case": str(case), "equal": False, "error": f"{type(error).__name__}: {error}"[:500]})
        if not cases[-1]["equal"]:
            print(f"differs: {cases[-1]}", flush=True)
    return {"cases": cases, "left out": len(wanted) - len(cases)}


def equal(setting: Setting) -> Result:
    """Compare frames on the GPU with the CPU pipeline: each part on the same input, then the whole way."""
    models, rules = setting.models()
    found: Result = {"inputs that differ": 0, "on the same outputs": {}, "whole way": {}, "mixed up": 0}
    frames = setting.frames[: 1 if setting.small else None]
    cards = [model.card for model in models]
    engines = [_loaded(setting, model) for model in models]
    with Pipeline(*models) as pipeline:
        for kind in KINDS:
            config = gpu.config_of(rules, kind)
            results = []
            for frame in frames:
                stages = Stages(cards, engines, setting.place, frame, config, ALL)
                ours = {name: stages.host[name][0].copy() for name in PICTURES}
                results.append(ours)
                outputs = tuple(output[0].float().cpu().numpy() for output in stages.outputs)
                if kind == KINDS[0]:
                    found["inputs that differ"] += _inputs_that_differ(stages, models, frame)
                fuse = partial(pipeline.fuse, rules=config.rules, confidence=True, color=True, overlay=True)
                _count(found["on the same outputs"], kind, ours, fuse(Inferred(frame, outputs)))
                _share(found["whole way"], kind, ours, fuse(pipeline.infer(pipeline.prepare(frame))), len(frames))
            ways = WAYS if kind == "table" and not setting.small else WAYS[:1]
            found["mixed up"] += sum(_mixed_up(setting, models, way, frames, config, results) for way in ways)
    return found


def bench(setting: Setting) -> Result:
    """Measure."""
    models, rules = setting.models()
    how = throughput.COMBINATIONS[:1] if setting.small else throughput.COMBINATIONS
    rounds = 1 if setting.small else 200
    result = gpu.bench(models, rules, setting.frames, rounds, setting.device, how)
    print(gpu.to_text(result), flush=True)
    return result


def memory(setting: Setting) -> Result:
    """Watch memory while frames are run, as many as there is time for."""
    models, rules = setting.models()
    wanted, chunk = (2, 1) if setting.small else (10_000, 500)
    config = gpu.config_of(rules, "table")
    with _path(setting, models, GpuOptions()) as path:
        throughput.stream(path, setting.frames, config, gpu.WANTED, chunk)
        before = _memory(setting.place)
        count, seconds = 0, 0.0
        while count < wanted and seconds < ENOUGH:
            seconds += throughput.stream(path, setting.frames, config, gpu.WANTED, chunk)
            count += chunk
        after = _memory(setting.place)
    how_many = {"frames": count, "wanted": wanted, "seconds of frames": seconds}
    return {**how_many, **{name: [before[name], after[name]] for name in before}}


def tensorrt(setting: Setting) -> Result:
    """Try whether TensorRT, or TensorRT-RTX, builds, loads and runs the demo's models."""
    if setting.place.type == "cpu":
        return {"not run": "engines run on a GPU only"}
    names = [name for name in ("tensorrt", "tensorrt_rtx") if _there(name)]
    if not names:
        return {"not run": "neither tensorrt nor tensorrt_rtx is installed"}
    return {"engines": dict(_engines(setting.place))}


def errors(setting: Setting) -> Result:
    """Do what cannot be done, and see what is said."""
    models, rules = setting.models()
    config, frame = gpu.config_of(rules, "table"), setting.frames[0]
    broken = setting.work / "broken"
    broken.mkdir(exist_ok=True)
    for name in ("model.yaml", "classes.csv"):
        (broken / name).write_bytes((models[0].path.parent / name).read_bytes())
    (broken / "model.pt2").write_bytes(models[0].path.read_bytes()[:10_000])
    said = [
        _said("a model file cut short", lambda: _loaded(setting, load_model(broken))),
        _said("another model's card", lambda: _loaded(setting, replace(models[0], card=models[1].card))),
        _said("no such GPU", lambda: torch_device("cuda:99")),
    ]
    if setting.place.type == "cuda":
        said += _out_of_memory(setting, models, config, frame)
    return {"errors": said}


STEPS: dict[str, Callable[[Setting], Result]] = {
    "machine": machine,
    "models": write_models,
    "kernels": kernels,
    "equal": equal,
    "bench": bench,
    "memory": memory,
    "tensorrt": tensorrt,
    "errors": errors,
}


@contextmanager
def _path(setting: Setting, models: Sequence[Model], options: GpuOptions) -> Iterator[GpuPath]:
    path = GpuPath(models, setting.device, options, partial(print, flush=True))
    try:
        yield path
    finally:
        path.close()


def _inputs_that_differ(stages: Stages, models: Sequence[Model], frame: Frame) -> int:
    expected = [prepare(np.asarray(frame.rgb()), model.card.input) for model in models]
    return sum(int((image[0].cpu().numpy() != each).sum()) for image, each in zip(stages.images, expected, strict=True))


def _count(counts: dict[str, int], kind: Kind, ours: dict[str, NDArray[Any]], theirs: Augmented) -> None:
    """Count the pixels that differ; of the probability rule's confidence those that are more than a level off."""
    for name in PICTURES:
        key, picture = f"{kind}, {name}", getattr(theirs, name)
        if name == "confidence" and kind == "probability":
            key += ", more than a level"
            wrong = np.abs(ours[name].astype(np.int16) - picture) > 1
        else:
            wrong = ours[name] != picture
        counts[key] = counts.get(key, 0) + int(wrong.sum())


def _share(shares: dict[str, float], kind: Kind, ours: dict[str, NDArray[Any]], theirs: Augmented, frames: int) -> None:
    """Add up the share of labels that differ; frames on a CPU are rounded to whole levels before a model sees them."""
    key = f"{kind}, labels that differ"
    shares[key] = shares.get(key, 0.0) + float((ours["label"] != theirs.label).mean()) / frames


def _mixed_up(
    setting: Setting,
    models: Sequence[Model],
    options: GpuOptions,
    frames: Sequence[Frame],
    config: FusionConfig,
    expected: Sequence[dict[str, NDArray[Any]]],
) -> int:
    """Return how many of many frames, launched as fast as they go, differ from those that were run by themselves."""
    wrong = 0
    with _path(setting, models, options) as path:
        before: tuple[int, Any] | None = None
        for number in range(2 if setting.small else 40):
            which = number % len(frames)
            inferred = path.infer(path.prepare([frames[which]]), config, ALL, lambda: None)
            wrong += before is not None and _differs(path, expected, *before)
            before = which, inferred
    return wrong


def _differs(path: GpuPath, expected: Sequence[dict[str, NDArray[Any]]], which: int, inferred: Any) -> bool:
    (result,) = path.fuse(inferred)
    return any(bool((getattr(result, name) != expected[which][name]).any()) for name in PICTURES)


def _memory(device: torch.device) -> dict[str, int]:
    """Return bytes: of this process on the host, of torch's tensors, taken by torch, in use on the device by all."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    found = {"process": pages * os.sysconf("SC_PAGE_SIZE")}
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        free, total = torch.cuda.mem_get_info(device)
        taken = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
        found |= {"allocated": taken[0], "reserved": taken[1], "device": total - free}
    return found


def _there(name: str) -> bool:
    with suppress(ImportError):
        import_module(name)
        return True
    return False


def _engines(device: torch.device) -> Iterator[tuple[str, str]]:
    for options, name in product((BuildOptions(precision="fp32"), BuildOptions(precision="fp16")), ("main", "sub")):
        model = load_model(Path(__file__).parents[1] / "demo" / "models" / name)
        try:
            said = _engine(model, device, options)
        except ClassaugError as error:
            said = str(error)
        yield f"{model.card.name}, {options.precision}", said


def _engine(model: Model, device: torch.device, options: BuildOptions) -> str:
    """Build, load and run an engine on noise; return how that compares with ONNX Runtime."""
    engine = load_device_engine(model, str(device), options, partial(print, flush=True))
    spec = model.card.input
    image = torch.randn((1, 3, spec.height, spec.width), device=device)
    context, stream = engine.bind(image), torch.cuda.Stream(device)
    torch.cuda.synchronize(device)
    output = context.enqueue(stream)
    torch.cuda.synchronize(device)
    found = output.float().cpu().numpy()
    from classaug_ros.engines import load_engine

    expected = load_engine(model, 4).run(image.cpu().numpy())
    alike, apart = (found.argmax(1) == expected.argmax(1)).mean(), np.abs(found - expected).max()
    return f"{engine.description} runs; {alike:.3%} of the labels are ONNX Runtime's, scores are {apart:.2g} apart"


def _loaded(setting: Setting, model: Model) -> DeviceEngine:
    return load_device_engine(model, setting.device, BuildOptions(), partial(print, flush=True))


def _said(what: str, work: Callable[[], object]) -> Result:
    """Return what an attempt is answered with, and whether that is one line of ours."""
    try:
        work()
    except ClassaugError as error:
        return {"what": what, "said": str(error), "clear": "\n" not in str(error)}
    except Exception as error:  # noqa: BLE001 (what was not foreseen is what is looked for)
        return {"what": what, "said": f"{type(error).__name__}: {error}".partition("\n")[0], "clear": False}
    return {"what": what, "said": "nothing: it went well", "clear": False}


def _out_of_memory(setting: Setting, models: Sequence[Model], config: FusionConfig, frame: Frame) -> list[Result]:
    """Let torch have less memory than is needed, for loading and for a frame; then all of it again."""
    device = setting.place
    share = torch.cuda.set_per_process_memory_fraction
    share(1e-4, device)  # 8 MB of 80 GB
    said = [_said("no memory for a model", lambda: GpuPath(models, setting.device, GpuOptions(), print).close())]
    share(1.0, device)
    with _path(setting, models, GpuOptions()) as path:

        def take() -> float:
            return throughput.one_by_one(path, frame, config, ALL)[1]

        torch.cuda.empty_cache()
        share(torch.cuda.memory_reserved(device) / torch.cuda.get_device_properties(device).total_memory, device)
        said.append(_said("no memory for a frame", take))
        share(1.0, device)
        after = _said("a frame after that", take)
        said.append({**after, "clear": after["said"] == "nothing: it went well"})
    return said
