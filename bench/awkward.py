"""All kernels against their plain references, at sizes and of models that make them stumble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models import random_rules
from numpy.typing import NDArray

from classaug_ros.fusion import Scores, reference
from classaug_ros.fusion.gpu.preprocess import Preprocess
from classaug_ros.fusion.reference.preprocess import colors, prepare
from classaug_ros.fusion.scores import LEAST_PROBABILITY
from classaug_ros.imaging.encodings import ENCODINGS
from classaug_ros.imaging.images import Frame
from classaug_ros.models.card import InputSpec, Model, ModelCard, OutputKind, OutputSpec, Upsampling
from classaug_ros.models.labels import LabelMap, LabelSpace
from classaug_ros.pipeline.frame_path import RequestedOutputs
from classaug_ros.pipeline.gpu_decider import GpuDecider
from classaug_ros.pipeline.gpu_transfers import Download
from classaug_ros.rules import Kind, Rules, RuleSet
from classaug_ros.rules.decision import Decision

PLAIN = Decision()
ALPHA = 0.4
POISON = 0xA5
WANTED = RequestedOutputs(label=True, overlay=True, color=True, confidence=True)

Picture = NDArray[Any]


@dataclass(frozen=True)
class Says:
    """What a model says, and of how many classes and samples."""

    classes: int
    samples: tuple[int, int]
    kind: OutputKind = "logits"
    upsample: Upsampling = "half_pixel"


@dataclass(frozen=True)
class Case:
    """Frames of a size and encoding, and what models say of them; the models after the second are sub models too."""

    size: tuple[int, int]
    encoding: str
    models: tuple[Says, ...]
    rules: Kind = "table"
    batch: int = 1
    half: bool = False
    decision: Decision = PLAIN

    def __str__(self) -> str:
        said = ", ".join(f"{s.classes} {s.kind} {s.samples[1]} x {s.samples[0]} {s.upsample}" for s in self.models)
        how = f"{self.rules}{', fp16' if self.half else ''}, {self.decision.prefer}, {self.decision.min_confidence:g}"
        return f"{self.batch} x {self.size[1]} x {self.size[0]} {self.encoding}: {said}; {how}"


SMALL = (
    Case((15, 34), "bgr8", (Says(5, (4, 9)), Says(7, (8, 5), upsample="align_corners"))),
    Case((9, 20), "rgb8", (Says(5, (4, 9)), Says(7, (8, 5))), "probability"),
)
"""What an interpreter is done with in seconds."""

CASES = (
    *SMALL,
    Case((1, 1), "rgb8", (Says(19, (1, 1)), Says(3, (2, 2)))),
    Case((15, 33), "rgba8", (Says(19, (4, 9), upsample="asymmetric"), Says(31, (33, 65))), batch=3),
    Case((360, 480), "mono8", (Says(19, (90, 120)), Says(150, (97, 61), upsample="align_corners")), batch=2),
    Case((361, 482), "yuv422", (Says(51, (46, 61)), Says(5, (361, 482))), half=True),
    Case((64, 66), "yuv422_yuy2", (Says(260, (16, 16)), Says(7, (9, 9)))),
    Case((75, 101), "bgra8", (Says(19, (75, 101), "labels"), Says(33, (10, 11), "probabilities"))),
    Case((75, 100), "bgr8", (Says(19, (20, 25), "labels"), Says(33, (37, 41), "labels"))),
    Case((120, 200), "bgr8", (Says(4, (30, 50)), Says(3, (15, 25)), Says(6, (31, 49))), batch=2),
    Case((88, 132), "rgb8", (Says(19, (22, 33)), Says(9, (11, 17))), decision=Decision(min_confidence=0.4)),
    Case((1, 1), "rgb8", (Says(19, (1, 1)), Says(3, (2, 2))), "probability"),
    Case((15, 33), "rgb8", (Says(19, (4, 9)), Says(31, (33, 65), upsample="align_corners")), "probability", batch=3),
    Case((360, 480), "bgr8", (Says(19, (90, 120)), Says(150, (90, 120))), "probability", batch=2),
    Case((361, 480), "bgr8", (Says(51, (46, 61)), Says(5, (101, 99), upsample="asymmetric")), "probability", half=True),
    Case((64, 66), "uyvy", (Says(260, (16, 16)), Says(7, (9, 9), "probabilities")), "probability"),
    Case((75, 101), "mono8", (Says(7, (20, 20)), Says(5, (10, 11))), "probability", decision=Decision("main", 0.3)),
    Case((90, 90), "bgr8", (Says(7, (20, 20)), Says(5, (10, 11)), Says(4, (30, 30))), "probability"),
)


def run(case: Case, device: torch.device) -> dict[str, Any]:
    """Return how many values differ from the reference, by picture and of the models' inputs.

    ``equal`` is whether all are equal; confidence of the probability rule may be a level off, as exp is not the same
    function everywhere.
    """
    random = np.random.default_rng(len(str(case)))
    models = [_model(number, said) for number, said in enumerate(case.models)]
    rules = RuleSet([_rules(models[0], sub, number, case.rules) for number, sub in enumerate(models[1:])])
    encoding = ENCODINGS[case.encoding]
    samples = random.integers(0, 256, (case.batch, *case.size, encoding.channels), np.uint8)
    frames = [Frame.encoded(each, encoding) for each in samples]
    outputs = [_output(said, case, random) for said in case.models]
    differing = _inputs_that_differ([model.card.input for model in models], frames, device)
    result = _by_kernels(case, models, rules, frames, outputs, device)
    worst = 0
    for number, frame in enumerate(frames):
        expected = _expected(case, models, rules, frame, [output[number] for output in outputs])
        for name, picture in expected.items():
            found = result[name][number]
            differing[name] = differing.get(name, 0) + int((found != picture).sum())
            if name == "confidence":
                worst = max(worst, int(np.abs(found.astype(np.int16) - picture).max()))
    strict = sum(count for name, count in differing.items() if name != "confidence")
    equal = strict == 0 and worst <= (1 if case.rules == "probability" else 0) and not result["fault"].any()
    return {"case": str(case), "equal": equal, "differing": differing, "levels of confidence": worst}


def _by_kernels(
    case: Case,
    models: Sequence[Model],
    rules: RuleSet,
    frames: Sequence[Frame],
    outputs: Sequence[Picture],
    device: torch.device,
) -> dict[str, Picture]:
    layout, step, there = _uploaded(frames, device)
    download = Download(case.batch, case.size, rules.output.dtype, WANTED, device)
    for tensor in vars(download.result).values():
        tensor.view(torch.uint8).fill_(POISON)
    download.result.fault.zero_()
    cards = [model.card for model in models]
    decide = GpuDecider(cards, rules, case.decision, case.size, layout, download.result, alpha=ALPHA)
    decide([torch.from_numpy(output).to(device) for output in outputs], there, step)
    download.copy()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return {name: picture.copy() for name, picture in download.host.items()}


def _inputs_that_differ(specs: Sequence[InputSpec], frames: Sequence[Frame], device: torch.device) -> dict[str, int]:
    layout, step, there = _uploaded(frames, device)
    images = [torch.full((len(frames), 3, spec.height, spec.width), torch.nan, device=device) for spec in specs]
    Preprocess(specs, frames[0].size, layout, images)(there, step)
    count = 0
    for number, frame in enumerate(frames):
        pixels = colors(np.ascontiguousarray(frame.raw()[1]), layout)
        for spec, image in zip(specs, images, strict=True):
            count += int((image[number].cpu().numpy() != prepare(pixels, spec)).sum())
    return {"input": count}


def _uploaded(frames: Sequence[Frame], device: torch.device) -> tuple[Any, int, torch.Tensor]:
    """Return layout, step and bytes of frames, whose rows are padded."""
    layout, first = frames[0].raw()
    step = first.shape[1] + 5
    rows = np.full((len(frames), first.shape[0], step), POISON, np.uint8)
    for row, frame in zip(rows, frames, strict=True):
        row[:, : first.shape[1]] = frame.raw()[1]
    return layout, step, torch.from_numpy(rows.reshape(len(frames), -1)).to(device)


def _expected(
    case: Case, models: Sequence[Model], rules: RuleSet, frame: Frame, outputs: Sequence[Picture]
) -> dict[str, Picture]:
    """Return what the references make of a frame."""
    label, sure = _alone(case, models[0].card, models[1].card, rules.rules[0], outputs[0], outputs[1])
    label = label.astype(rules.output.dtype)
    for number, each in enumerate(rules.rules[1:], start=1):
        sub = models[1 + number].card
        further, surer = _alone(case, models[0].card, sub, each, outputs[0], outputs[1 + number])
        label, sure = reference.join(label, sure, rules.ids[number][further], surer, rules.added)
    if case.decision.min_confidence > 0:
        label[sure < 255 * case.decision.min_confidence] = rules.output.unlabelled
    color, overlay = reference.paint(label, rules.output.palette(), frame, ALPHA)
    return {"label": label, "confidence": sure, "color": color, "overlay": np.asarray(overlay)}


def _alone(
    case: Case, main: ModelCard, sub: ModelCard, rules: Rules, one: Picture, two: Picture
) -> tuple[LabelMap, NDArray[np.uint8]]:
    if rules.kind == "table" or rules.evidence is None:
        labels = _label(main, one, case.size), _label(sub, two, case.size)
        shares = np.round(rules.confidence * 255).astype(np.uint8)
        return reference.look_up(*labels, rules.table), np.asarray(reference.look_up(*labels, shares), np.uint8)
    scores = _scores(main, one), _scores(sub, two)
    groups = reference.group_scores(*scores, rules.evidence, case.size)
    fused = reference.output_scores(groups, scores[0], rules.evidence, case.decision.prefer, case.size)
    label = reference.label_map(fused.values, case.size, fused.convention, rules.output.dtype)
    return label, reference.confidence(label, groups, rules.evidence.groups)


def _label(card: ModelCard, output: Picture, size: tuple[int, int]) -> LabelMap:
    if card.output.kind == "labels":
        return reference.nearest(output, size)
    return reference.label_map(output.astype(np.float32), size, card.output.upsample, card.classes.dtype)


def _scores(card: ModelCard, output: Picture) -> Scores:
    values = output.astype(np.float32)
    if card.output.kind == "probabilities":
        values = np.log(np.maximum(values, LEAST_PROBABILITY))
    return Scores(values, card.output.upsample)


def _model(number: int, said: Says) -> Model:
    names = tuple(f"{number} {each}" for each in range(said.classes))
    colors_of = tuple((each % 256, each // 256, (7 * each + 50 * number) % 256) for each in range(said.classes))
    image = InputSpec("image", 17 + number, 35 - number, ("rgb", "bgr")[number % 2], (123.7, 116.3, 103.5), (0.02,) * 3)
    output = OutputSpec("result", said.kind, *said.samples, said.upsample)
    card = ModelCard(f"model {number}", LabelSpace(names, colors_of), image, output)
    return Model(Path(f"{number}.pt2"), card, str(number))


def _rules(main: Model, sub: Model, seed: int, kind: Kind) -> Rules:
    return replace(random_rules(main, sub, seed), kind=kind)


def _output(said: Says, case: Case, random: np.random.Generator) -> Picture:
    """Return what a model says: areas of one class, and noise; of few digits, so that there are ties."""
    shape = (case.batch, *said.samples)
    if said.kind == "labels":
        return random.integers(0, said.classes, shape).astype(np.int64)
    scores = random.integers(-40, 41, (case.batch, said.classes, *said.samples)) / 8
    half = said.samples[0] // 2
    scores[:, :, :half] = scores[:, :, :half, :1] + scores[:, :, :half] / 64
    if said.kind == "probabilities":
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores = powers / powers.sum(axis=1, keepdims=True)
    return scores.astype(np.float16 if case.half else np.float32)
