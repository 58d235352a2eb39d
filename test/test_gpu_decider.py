"""Decisions on a GPU against those on the CPU, on what real models say; kernels run in Triton's interpreter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from support.tinymodels import Weights, random_rules, tiny_model

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from support.aot import all_targets, compile_launches  # noqa: E402
from support.kernels import CPU, PICTURES, Launch, note_launches, poisoned  # noqa: E402

from classaug_ros.fusion import reference  # noqa: E402
from classaug_ros.fusion.gpu import fuse as fuse_kernels  # noqa: E402
from classaug_ros.fusion.gpu import guided_filter as filter_kernels  # noqa: E402
from classaug_ros.fusion.gpu import join as join_kernels  # noqa: E402
from classaug_ros.fusion.gpu.fuse import Result  # noqa: E402
from classaug_ros.fusion.gpu.join import Join  # noqa: E402
from classaug_ros.fusion.gpu.output_scores import score  # noqa: E402
from classaug_ros.fusion.gpu.pooling import pool  # noqa: E402
from classaug_ros.imaging.encodings import ENCODINGS, Layout  # noqa: E402
from classaug_ros.imaging.images import Frame  # noqa: E402
from classaug_ros.models.card import Model  # noqa: E402
from classaug_ros.pipeline.cpu import Augmented, Pipeline  # noqa: E402
from classaug_ros.pipeline.gpu_decider import GpuDecider  # noqa: E402
from classaug_ros.rules import Kind, Prefer, Rules, RuleSet  # noqa: E402
from classaug_ros.rules.decision import Decision  # noqa: E402

INPUT = (24, 32)
SIZE = (15, 33)
ALPHA = 0.3
KINDS: tuple[Kind, ...] = ("table", "probability")
PAIRS: tuple[tuple[Kind, Kind], ...] = tuple(product(KINDS, KINDS))
STEPS = {"table": ["fuse_labels"], "probability": ["pool", "score", "fuse_scores"]}
PREFERENCES: tuple[Prefer, ...] = ("evidence", "main")
CLASSES = (
    ("road", "lane", "rider", "car"),
    ("road", "person", "bicycle", "bag", "car"),
    ("street", "bicycle", "tree", "car", "bag"),
)
SIMILAR = (
    ("{road: [road], lane: [road], car: [car]}", "[person, bicycle]"),
    ("{road: [street], car: [car]}", "[bicycle, tree, bag]"),
)


def faint(classes: int, seed: int) -> Weights:
    """Weights of which scores are a few units apart, so that nothing is all but certain."""
    weights = Weights.random(classes, seed)
    return Weights(weights.matrix / np.float32(256), weights.bias / np.float32(256))


@dataclass(frozen=True)
class Town:
    """A main and two sub models, and tasks for both pairs."""

    models: tuple[Model, ...]
    tasks: tuple[Path, ...]
    pipelines: tuple[Pipeline, ...]

    def rules(self, kinds: Sequence[Kind]) -> RuleSet:
        """Rules of the first so many sub models, with confidences of which many are equal."""
        made = []
        for number, kind in enumerate(kinds):
            rules = random_rules(self.models[0], self.models[1 + number], self.tasks[number], number, "probability")
            shares = np.random.default_rng(number).integers(1, 6, rules.table.shape) / 5
            made.append(replace(rules, kind=kind, confidence=shares.astype(np.float32)))
        return RuleSet(made)


def write_town(folder: Path, classes: Sequence[Sequence[str]] = CLASSES, **main: Any) -> tuple[list[Model], list[Path]]:
    """Write models of three resolutions and conventions, and tasks."""
    options: tuple[dict[str, Any], ...] = (
        {"stride": 4, **main},
        {"stride": 2, "upsample": "align_corners"},
        {"stride": 8, "upsample": "asymmetric", "kind": "probabilities"},
    )
    models, tasks = [], []
    for number, (names, each) in enumerate(zip(classes, options, strict=True)):
        models.append(tiny_model(folder / f"m{number}", names, INPUT, weights=faint(len(names), number), **each))
    for number, (similar, add) in enumerate(SIMILAR, start=1):
        tasks.append(folder / f"task{number}.yaml")
        tasks[-1].write_text(
            f"main: m0/classes.csv\nsub: m{number}/classes.csv\nsimilar: {similar}\nadd: {add}\n", encoding="utf-8"
        )
    return models, tasks


def running(models: Sequence[Model], tasks: Sequence[Path]) -> Iterator[Town]:
    with Pipeline(*models[:2], threads=1) as one, Pipeline(*models, threads=1) as two:
        yield Town(tuple(models), tuple(tasks), (one, two))


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    yield from running(*write_town(tmp_path_factory.mktemp("town")))


@pytest.fixture(scope="module")
def labelling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A town whose main model returns labels."""
    yield from running(*write_town(tmp_path_factory.mktemp("labelling"), kind="labels"))


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A town of so many main classes that ids fit a byte with the classes of the first sub model, not of the second."""
    mains = (*CLASSES[0], *(f"class {k}" for k in range(249)))
    yield from running(*write_town(tmp_path_factory.mktemp("city"), (mains, *CLASSES[1:])))


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[Launch]:
    kernels = pool, score, fuse_kernels.fuse_labels, fuse_kernels.fuse_scores
    bending = filter_kernels.spread, filter_kernels.bend, filter_kernels.smooth, filter_kernels.compare
    return note_launches(monkeypatch, *kernels, *bending, join_kernels.join)


@dataclass(frozen=True, eq=False)
class Both:
    """What the GPU's way gives for frames, and the CPU's for each."""

    found: Result
    expected: list[Augmented]


def decided(
    pipeline: Pipeline,
    rules: RuleSet,
    decision: Decision = Decision(),  # noqa: B008 (frozen)
    size: tuple[int, int] = SIZE,
    wanted: tuple[str, ...] = PICTURES,
    batch: int = 2,
    times: int = 1,
) -> Both:
    """Decide for noisy frames with padded rows, so many times in the same memory."""
    encoding = ENCODINGS["bgr8"]
    assert encoding.layout is not None
    step = size[1] * 3 + 5
    data = np.random.default_rng(size).integers(0, 256, (batch, size[0], step), np.uint8)
    frames = [Frame.encoded(rows[:, : size[1] * 3].reshape(*size, 3), encoding) for rows in data]
    inferred = [pipeline.infer(pipeline.prepare(frame)) for frame in frames]
    outputs = [torch.from_numpy(np.stack(said)) for said in zip(*(each.outputs for each in inferred), strict=True)]
    result = poisoned(batch, size, rules.output.dtype, wanted)
    cards = [model.card for model in pipeline.models]
    decide = GpuDecider(cards, rules, decision, size, encoding.layout, result, alpha=ALPHA)
    for _ in range(times):
        decide(outputs, torch.from_numpy(data.reshape(batch, -1)), step)
    assert not result.fault.any()
    pictures = dict.fromkeys(PICTURES, True)
    return Both(result, [pipeline.fuse(each, rules, decision, **pictures, alpha=ALPHA) for each in inferred])


def assert_equal(both: Both, *, confidence: int = 0) -> None:
    """Hold all that is wanted to what the CPU gives, the confidence within so much."""
    for number, expected in enumerate(both.expected):
        np.testing.assert_array_equal(both.found.label[number].numpy(), expected.label, strict=True)
        for name in PICTURES:
            found = getattr(both.found, name)
            if found is not None:
                apart = np.abs(found[number].numpy().astype(int) - getattr(expected, name))
                assert apart.max() <= (confidence if name == "confidence" else 0), name


@pytest.mark.parametrize("min_confidence", [0, 0.6], ids=["all labelled", "sure ones labelled"])
@pytest.mark.parametrize("kind", KINDS)
def test_one_sub_model_s_rules(town: Town, kind: Kind, min_confidence: float, launches: list[Launch]) -> None:
    rules = town.rules([kind])
    for prefer in PREFERENCES:
        both = decided(town.pipelines[0], rules, Decision(prefer, min_confidence))
        assert_equal(both, confidence=kind == "probability")
        shown = np.unique(both.expected[0].label)
        assert len(shown) > 3
        assert (shown.max() == rules.output.unlabelled) == (min_confidence > 0)
    assert [each.name for each in launches] == 2 * (
        ["fuse_labels"] if kind == "table" else ["pool", "score", "fuse_scores"]
    )


@pytest.mark.parametrize("min_confidence", [0, 0.6], ids=["all labelled", "sure ones labelled"])
@pytest.mark.parametrize("kinds", PAIRS, ids="-".join)
def test_two_sub_models_rules(
    town: Town, kinds: tuple[Kind, Kind], min_confidence: float, launches: list[Launch]
) -> None:
    both = decided(town.pipelines[1], town.rules(kinds), Decision("evidence", min_confidence), times=2)
    assert_equal(both, confidence="probability" in kinds)
    assert [each.name for each in launches] == 2 * [*STEPS[kinds[0]], *STEPS[kinds[1]], "join"]


def test_two_sub_models_where_the_main_model_is_preferred(town: Town) -> None:
    assert_equal(decided(town.pipelines[1], town.rules(("probability", "probability")), Decision("main")), confidence=1)


@pytest.mark.parametrize("wanted", [(), ("confidence",), ("color",), ("overlay",)], ids=str)
@pytest.mark.parametrize("kinds", [("probability",), ("table", "probability")], ids="-".join)
def test_what_is_not_wanted_is_left_out(town: Town, kinds: tuple[Kind, ...], wanted: tuple[str, ...]) -> None:
    both = decided(town.pipelines[len(kinds) - 1], town.rules(kinds), Decision(min_confidence=0.4), wanted=wanted)
    assert_equal(both, confidence=1)


@pytest.mark.parametrize("size", [(1, 1), (33, 130), pytest.param((360, 480), marks=pytest.mark.slow)], ids=str)
def test_frames_of_any_size(town: Town, size: tuple[int, int]) -> None:
    both = decided(town.pipelines[0], town.rules(["probability"]), size=size, batch=1)
    assert_equal(both, confidence=1)


@pytest.mark.parametrize("number", [0, 1], ids=["one sub model", "two"])
def test_a_main_model_that_returns_labels(labelling: Town, number: int) -> None:
    kinds: list[Kind] = ["table", "table"]
    made = labelling.rules(kinds[: number + 1])
    assert_equal(decided(labelling.pipelines[number], made, Decision(min_confidence=0.5)))


def test_ids_of_a_byte_joined_with_ids_of_two(city: Town) -> None:
    rules = city.rules(("table", "probability"))
    assert [each.output.dtype.itemsize for each in rules.rules] == [1, 2]
    assert rules.output.dtype.itemsize == 2
    both = decided(city.pipelines[1], rules, Decision(min_confidence=0.3), batch=1)
    assert_equal(both, confidence=1)


def tied(rules: Rules, first: int, second: int) -> Rules:
    """Return rules by which two added classes always have the same score, above all others where the sub model is."""
    assert rules.evidence is not None
    of = rules.evidence.groups
    arrays = {name: getattr(rules.evidence, name).copy() for name in ("main", "sub", "bias", "boost")}
    for array in arrays.values():
        array[of[second]] = array[of[first]]
    arrays["boost"][of[[first, second]]] += 3
    return replace(rules, evidence=replace(rules.evidence, **arrays))


@pytest.mark.parametrize("prefer", PREFERENCES)
def test_of_equal_scores_the_lowest_id_wins(town: Town, prefer: Prefer) -> None:
    rules = town.rules(["probability"]).rules[0]
    first, second = (rules.output.index(name) for name in ("person", "bicycle"))
    both = decided(town.pipelines[0], RuleSet([tied(rules, first, second)]), Decision(prefer))
    assert_equal(both, confidence=1)
    shares = [np.mean(both.found.label.numpy() == number) for number in (first, second)]
    assert shares[0] > 0.1
    assert shares[1] == 0


@pytest.mark.parametrize("kinds", [("table", "probability"), ("probability", "table")], ids="-".join)
def test_a_fault_is_reported_with_its_model(town: Town, kinds: tuple[Kind, Kind]) -> None:
    models = [model.card for model in town.models]
    rules, layout = town.rules(kinds), Layout(1, 0, 0, 0)
    result = poisoned(3, SIZE, rules.output.dtype, ("confidence",))
    decide = GpuDecider(models, rules, Decision(), SIZE, layout, result, alpha=ALPHA)
    outputs = [torch.rand(3, len(card.classes), card.output.height, card.output.width) for card in models]
    for number, output in enumerate(outputs):
        output[number] = torch.nan
    with np.errstate(invalid="ignore"):
        decide(outputs, torch.zeros((3, SIZE[0] * SIZE[1]), dtype=torch.uint8), SIZE[1])
    assert result.fault.tolist() == [1, 2, 4]


@pytest.mark.parametrize(
    ("count", "decision"),
    [
        (1, Decision(min_confidence=0.4)),
        (2, Decision("main")),
        pytest.param(1, Decision("main"), marks=pytest.mark.slow),
        pytest.param(2, Decision(min_confidence=0.4), marks=pytest.mark.slow),
    ],
    ids=["one sub model, sure", "two, main preferred", "one, main preferred", "two, sure"],
)
def test_labels_that_follow_contours(town: Town, count: int, decision: Decision, launches: list[Launch]) -> None:
    rules: RuleSet = town.rules(["probability"] * count)
    plain = decided(town.pipelines[count - 1], rules, decision, wanted=())
    launches.clear()
    both = decided(town.pipelines[count - 1], rules, replace(decision, contours=True), times=2)
    assert_equal(both, confidence=1)
    assert not torch.equal(both.found.label, plain.found.label)
    alone = ["pool", "score", "spread", "bend", "smooth", "compare", "fuse_scores"]
    assert [each.name for each in launches] == 2 * (alone if count == 1 else [*alone, *alone, "join"])


@pytest.mark.parametrize("batch", [1, 3])
def test_labels_are_joined_as_specified(town: Town, batch: int) -> None:
    rules, size = town.rules(("table", "table")), (17, 66)
    random = np.random.default_rng(0)
    first, further = (random.integers(0, len(each.output), (batch, *size), np.uint8) for each in rules.rules)
    sure, surer = (random.integers(100, 104, (batch, *size), np.uint8) for _ in range(2))
    one, two = (
        Result(torch.from_numpy(label), torch.from_numpy(share), None, None, torch.zeros(batch))
        for label, share in ((first, sure), (further, surer))
    )
    result = poisoned(batch, size, rules.output.dtype, ("confidence", "color"))
    join = Join(rules, 1, size, Layout(3, 0, 1, 2), alpha=ALPHA, min_confidence=101.5 / 255, device=CPU)
    join(one, two, torch.zeros((batch, 0), dtype=torch.uint8), 0, result)
    label, confidence = reference.join(first, sure, rules.ids[1][further], surer, rules.added)
    label[confidence < 101.5] = rules.output.unlabelled
    np.testing.assert_array_equal(result.label.numpy(), label, strict=True)
    assert result.confidence is not None
    assert result.color is not None
    np.testing.assert_array_equal(result.confidence.numpy(), confidence, strict=True)
    np.testing.assert_array_equal(result.color.numpy(), rules.output.palette()[label], strict=True)


def launch_all() -> None:
    """Launch the kernel with ids of one byte and all that may be wanted, and of two and nothing."""
    mains = (*CLASSES[0], *(f"class {k}" for k in range(249)))
    frames = torch.zeros((1, SIZE[0] * 99), dtype=torch.uint8)
    with TemporaryDirectory() as folder:
        for names, wanted in ((CLASSES[0], PICTURES), (mains, ())):
            models, tasks = write_town(Path(folder) / str(len(names)), (names, *CLASSES[1:]))
            rules = RuleSet([random_rules(models[0], *each) for each in zip(models[1:], tasks, strict=True)])
            join = Join(rules, 1, SIZE, Layout(3, 2, 1, 0), alpha=ALPHA, min_confidence=0.5, device=CPU)
            one, two = (poisoned(1, SIZE, each.output.dtype, ("confidence",)) for each in rules.rules)
            join(one, two, frames, 99, poisoned(1, SIZE, rules.output.dtype, wanted))


@all_targets
def test_kernels_compile_for_all_gpus_without_spills(targets: tuple[int, ...]) -> None:
    compiled = compile_launches(launch_all, targets)
    assert len(compiled) == 2 * len(targets)
    for each in compiled:
        assert each.spilled == 0, each
        assert each.registers <= 96, each
