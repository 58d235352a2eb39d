"""Decisions: what one sub model's rules say, and several together, through pipelines of real models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.tinymodels import MAIN_CLASSES, SUB_CLASSES, random_rules, tiny_model, write_world

from classaug_ros.engines.model_runner import ModelRunner
from classaug_ros.errors import ConfigError
from classaug_ros.fusion import reference
from classaug_ros.fusion.scores import LEAST_PROBABILITY
from classaug_ros.imaging.images import Frame
from classaug_ros.pipeline.cpu import Inferred, Pipeline
from classaug_ros.rules import Kind, Prefer, Rules, RuleSet
from classaug_ros.rules.decision import Decision

SIZE = (24, 32)
SECOND_CLASSES = ("street", "bicycle", "tree", "car", "bag")
KINDS: tuple[Kind, ...] = ("table", "probability")


@dataclass(frozen=True)
class Street:
    """Two sub models beside a main model, and a frame each has looked at."""

    both: Pipeline
    first: Pipeline
    second: Pipeline
    tasks: tuple[Path, Path]
    frame: Frame

    def rules(self, kinds: Sequence[Kind], seed: int = 0) -> list[Rules]:
        """Rules for each sub model, with confidences of which many are equal; the models' scores are in hundreds."""
        made = []
        for number, (sub, task, kind) in enumerate(zip(self.both.subs, self.tasks, kinds, strict=True)):
            rules = random_rules(self.both.main, sub, task, seed + 10 * number, "probability")
            confidence = np.random.default_rng(seed + number).integers(1, 6, rules.table.shape) / 5
            assert rules.evidence is not None
            small = {name: getattr(rules.evidence, name) / np.float32(512) for name in ("main", "sub")}
            evidence = replace(rules.evidence, **small)
            made.append(replace(rules, kind=kind, confidence=confidence.astype(np.float32), evidence=evidence))
        return made

    def inferred(self, pipeline: Pipeline) -> Inferred:
        return pipeline.infer(pipeline.prepare(self.frame))


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    world = write_world(tmp_path_factory.mktemp("street"), images=1, size=SIZE)
    main = tiny_model(world.folder / "main", MAIN_CLASSES, SIZE, weights=world.main_weights)
    sub = tiny_model(world.folder / "sub", SUB_CLASSES, SIZE, weights=world.sub_weights, stride=2)
    second = tiny_model(world.folder / "second", SECOND_CLASSES, SIZE, seed=9, stride=4, upsample="align_corners")
    task = world.folder / "second.yaml"
    task.write_text(
        "main: main/classes.csv\nsub: second/classes.csv\n"
        "similar: {road: [street], car: [car]}\nadd: [bicycle, tree, bag]\n"
    )
    (image,) = world.images.values()
    with Pipeline(main, sub, second) as both, Pipeline(main, sub) as one, Pipeline(main, second) as other:
        yield Street(both, one, other, (world.task, task), Frame(image, "rgb"))


def alone(street: Street, rules: Sequence[Rules], decision: Decision) -> list[tuple[list[str], NDArray[Any]]]:
    """What the rules of each sub model say without the other: names of classes, row by row, and confidence."""
    found: list[tuple[list[str], NDArray[Any]]] = []
    for pipeline, each in zip((street.first, street.second), rules, strict=True):
        decided = pipeline.decide(street.inferred(pipeline), RuleSet([each]), decision, confidence=True)
        assert decided.confidence is not None
        found.append(([each.output.names[number] for number in decided.label.flat], decided.confidence.ravel()))
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [None, (7, 50)], ids=["the frame's size", "another size"])
def test_labels_are_the_same_whether_confidence_is_asked_for_or_not(
    street: Street, kind: Kind, size: tuple[int, int] | None
) -> None:
    rules = RuleSet([street.rules((kind, kind))[0]])
    inferred = street.inferred(street.first)
    plain = street.first.decide(inferred, rules, size=size)
    sure = street.first.decide(inferred, rules, confidence=True, size=size)
    assert plain.confidence is None
    assert sure.confidence is not None
    assert sure.confidence.dtype == np.uint8
    assert plain.label.shape == sure.confidence.shape == (size or SIZE)
    np.testing.assert_array_equal(plain.label, sure.label, strict=True)


@pytest.mark.parametrize("prefer", ["evidence", "main"])
def test_a_table_is_looked_up_whoever_is_preferred(street: Street, prefer: Prefer) -> None:
    rules = street.rules(("table", "table"))[0]
    inferred = street.inferred(street.first)
    main, sub = street.first.labels(inferred)
    decided = street.first.decide(inferred, RuleSet([rules]), Decision(prefer), confidence=True)
    np.testing.assert_array_equal(decided.label, rules.table[main, sub], strict=True)
    np.testing.assert_array_equal(decided.confidence, np.rint(255 * rules.confidence[main, sub]))
    assert len(np.unique(decided.label)) > 3


@pytest.mark.parametrize("contours", [False, True], ids=["plain", "contours"])
@pytest.mark.parametrize("prefer", ["evidence", "main"])
@pytest.mark.parametrize("size", [SIZE, (7, 50)], ids=str)
def test_probabilities_are_decided_for_as_specified(
    street: Street, prefer: Prefer, contours: bool, size: tuple[int, int]
) -> None:
    rules = street.rules(("probability", "table"))[0]
    assert rules.evidence is not None
    inferred = street.inferred(street.first)
    main, sub = (runner.scores(output) for runner, output in zip(street.first.runners, inferred.outputs, strict=True))
    decision = Decision(prefer, contours=contours)
    decided = street.first.decide(inferred, RuleSet([rules]), decision, confidence=True, size=size)
    groups = reference.group_scores(main, sub, rules.evidence, size)
    scores = reference.output_scores(groups, main, rules.evidence, prefer, size)
    if contours:
        grey = street.frame.grey(size)
        label = reference.guided_label_map(*reference.guided(scores, grey), grey, rules.output.dtype)
    else:
        label = reference.label_map(scores.values, size, scores.convention, rules.output.dtype)
    np.testing.assert_array_equal(decided.label, label, strict=True)
    np.testing.assert_array_equal(decided.confidence, reference.confidence(label, groups, rules.evidence.groups))
    assert len(np.unique(label)) > 2


@pytest.mark.parametrize("prefer", ["evidence", "main"])
@pytest.mark.parametrize("kinds", [(a, b) for a in KINDS for b in KINDS], ids="-".join)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_second_sub_model_adds_where_a_main_class_was_or_where_it_is_surer(
    street: Street, kinds: tuple[Kind, Kind], prefer: Prefer, seed: int
) -> None:
    rules = street.rules(kinds, seed)
    together = RuleSet(rules)
    (first, sure), (second, surer) = alone(street, rules, Decision(prefer))
    decided = street.both.decide(street.inferred(street.both), together, Decision(prefer), confidence=True)
    assert decided.confidence is not None
    wins = 0
    for at, number in enumerate(decided.label.flat):
        offered = second[at] not in MAIN_CLASSES and (first[at] in MAIN_CLASSES or surer[at] > sure[at])
        assert together.output.names[number] == (second if offered else first)[at]
        assert decided.confidence.flat[at] == (surer if offered else sure)[at]
        wins += offered
    assert 0 < wins < decided.label.size
    plain = street.both.decide(street.inferred(street.both), together, Decision(prefer))
    np.testing.assert_array_equal(plain.label, decided.label, strict=True)
    assert plain.confidence is None


def test_the_order_of_sub_models_is_the_order_of_precedence(street: Street) -> None:
    """Equally sure, the first one's class stays; and all that only one of them adds is there either way."""
    rules = [replace(each, confidence=np.ones_like(each.confidence)) for each in street.rules(("table", "table"))]
    main, first, second = street.both.labels(street.inferred(street.both))
    decided = street.both.decide(street.inferred(street.both), RuleSet(rules))
    names = RuleSet(rules).output.names
    for at in np.ndindex(SIZE):
        one = rules[0].output.names[rules[0].table[main[at], first[at]]]
        other = rules[1].output.names[rules[1].table[main[at], second[at]]]
        assert names[decided.label[at]] == (one if one not in MAIN_CLASSES else other)


@pytest.mark.parametrize("kinds", [("table", "table"), ("probability", "table"), ("probability", "probability")])
@pytest.mark.parametrize("several", [False, True], ids=["one", "two"])
def test_pixels_of_little_confidence_are_left_unlabelled(
    street: Street, kinds: tuple[Kind, Kind], several: bool
) -> None:
    made = street.rules(kinds)
    pipeline, rules = (street.both, RuleSet(made)) if several else (street.first, RuleSet(made[:1]))
    inferred = street.inferred(pipeline)
    everything = pipeline.decide(inferred, rules, confidence=True)
    assert everything.confidence is not None
    assert (everything.label != rules.output.unlabelled).all()
    for least in (0.3, 0.6, 1.0):
        some = pipeline.decide(inferred, rules, Decision(min_confidence=least), confidence=True)
        left = everything.confidence < 255 * least
        assert 0 < left.mean() < 1
        np.testing.assert_array_equal(some.label, np.where(left, rules.output.unlabelled, everything.label))
        np.testing.assert_array_equal(some.confidence, everything.confidence)
        unasked = pipeline.decide(inferred, rules, Decision(min_confidence=least))
        np.testing.assert_array_equal(unasked.label, some.label, strict=True)
        assert unasked.confidence is None


@pytest.mark.parametrize("kinds", [("table", "table"), ("probability", "table"), ("table", "probability")])
def test_contours_need_probabilities_of_every_sub_model(street: Street, kinds: tuple[Kind, Kind]) -> None:
    message = "^contours need rules of kind probability; leave contours off, or choose that kind$"
    with pytest.raises(ConfigError, match=message):
        street.both.decide(street.inferred(street.both), RuleSet(street.rules(kinds)), Decision(contours=True))


def test_colours_and_overlay_are_of_the_classes_together(street: Street) -> None:
    rules = RuleSet(street.rules(("table", "probability")))
    result = street.both.augment(street.frame, rules, color=True, overlay=True, confidence=True, alpha=0.25)
    colors = np.array(rules.output.colors, np.uint8)[result.label]
    np.testing.assert_array_equal(result.color, colors)
    np.testing.assert_array_equal(result.overlay, reference.blend(street.frame.rgb(), colors, 0.25))
    decided = street.both.decide(street.inferred(street.both), rules, confidence=True)
    np.testing.assert_array_equal(result.label, decided.label)
    np.testing.assert_array_equal(result.confidence, decided.confidence)


def test_probabilities_are_taken_by_their_logarithms(tmp_path: Path) -> None:
    """As logits but for what all of a sample share; those next to 0 count as the least one."""
    runners = [
        ModelRunner(
            tiny_model(tmp_path / kind, MAIN_CLASSES, SIZE, seed=3, kind=kind, card={"input.scale": [1 / 512] * 3}), 1
        )
        for kind in ("logits", "probabilities")
    ]
    pixels = np.random.default_rng(4).integers(0, 256, (*SIZE, 3), np.uint8)
    logits, logarithms = (
        runner.scores(runner.infer(runner.prepare(Frame(pixels, "rgb")))).values for runner in runners
    )
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=0))
    expected = np.log(np.maximum(powers / powers.sum(axis=0), LEAST_PROBABILITY))
    np.testing.assert_allclose(logarithms, expected, atol=1e-3)
    assert (logarithms == np.log(LEAST_PROBABILITY)).any()
    assert logarithms.dtype == np.float32
    for runner in runners:
        runner.close()
