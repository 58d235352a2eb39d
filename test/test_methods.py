"""Methods: which rules are scored beside those in use, under which names, and what they say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.reports import unsure_evidence, world_rules
from support.tinymodels import World, write_world

from classaug_ros.errors import ConfigError
from classaug_ros.evaluation.methods import Methods, rules_fingerprint
from classaug_ros.imaging.images import Frame
from classaug_ros.models.card import load_model
from classaug_ros.pipeline.cpu import Pipeline
from classaug_ros.rules import Rules, RuleSet
from classaug_ros.rules.decision import Decision
from classaug_ros.rules.task import Task


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_world(tmp_path_factory.mktemp("world"), images=2)


@pytest.fixture(scope="module")
def pipeline(world: World) -> Iterator[Pipeline]:
    with Pipeline(load_model(world.main), load_model(world.sub)) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def rules(world: World) -> Rules:
    return world_rules(world, "probability")


def names(*rules: Rules) -> tuple[str, tuple[str, ...]]:
    methods = Methods(RuleSet(rules))
    return methods.in_use, methods.names


def test_rules_of_both_kinds_are_scored_where_there_are_both(world: World, rules: Rules) -> None:
    alone = ("main_only", "sub_only")
    assert names(rules) == ("probability", (*alone, "table", "probability"))
    assert names(replace(rules, kind="table")) == ("table", (*alone, "table", "probability"))
    assert names(world_rules(world)) == ("table", (*alone, "table"))


def test_several_sub_models_are_in_use_as_they_are(world: World, rules: Rules) -> None:
    three, table = ("main_only", "sub_only", "sub2_only"), world_rules(world)
    assert names(rules, table) == ("probability", (*three, "table", "probability"))
    assert names(table, table) == ("table", (*three, "table"))


def test_titles_name_several_sub_models(rules: Rules) -> None:
    kinds = {"table": "table rules", "probability": "probability rules"}
    main = {"main_only": "main alone"}
    assert Methods(RuleSet([rules])).titles(["cityscapes"]) == {**main, "sub_only": "sub alone", **kinds}
    assert Methods(RuleSet([rules, rules])).titles(["cityscapes", "voc"]) == {
        **main,
        "sub_only": "cityscapes alone",
        "sub2_only": "voc alone",
        **kinds,
    }


@pytest.mark.parametrize("kind", ["table", "probability"])
def test_the_decision_is_of_the_rules_in_use_alone(world: World, pipeline: Pipeline, rules: Rules, kind: str) -> None:
    decision = Decision(prefer="main", min_confidence=0.5)
    own = replace(rules, kind=kind)  # type: ignore[arg-type]
    methods = Methods(RuleSet([own]), decision)
    frame = Frame(next(iter(world.images.values())), "rgb")
    predicted = methods.predict(pipeline, frame, frame.size)
    inferred = pipeline.infer(pipeline.prepare(frame))
    (other,) = {"table", "probability"} - {kind}
    decided = pipeline.decide(inferred, RuleSet([own]), decision, confidence=True)
    np.testing.assert_array_equal(predicted.labels[kind], decided.label)
    np.testing.assert_array_equal(predicted.confidence, decided.confidence)
    assert (predicted.labels[kind] == 255).any()
    changed = RuleSet([replace(rules, kind=other)])  # type: ignore[arg-type]
    np.testing.assert_array_equal(predicted.labels[other], pipeline.decide(inferred, changed).label)
    for labels, expected in zip(predicted.labels.values(), pipeline.labels(inferred), strict=False):
        np.testing.assert_array_equal(labels, expected)
    assert predicted.seconds > 0


def test_contours_need_probabilities(rules: Rules) -> None:
    Methods(RuleSet([rules]), Decision(contours=True))
    with pytest.raises(ConfigError, match="contours need rules of kind probability"):
        Methods(RuleSet([replace(rules, kind="table")]), Decision(contours=True))


def test_a_fingerprint_is_of_what_is_decided_not_of_who_learned_it(world: World, rules: Rules, tmp_path: Path) -> None:
    own = rules_fingerprint(rules)
    again = replace(rules, provenance=replace(rules.provenance, created="later"))
    rules.save(tmp_path / "rules.yaml")
    assert own == rules_fingerprint(again) == rules_fingerprint(Rules.load(tmp_path / "rules.yaml"))
    others = [
        replace(rules, table=np.zeros_like(rules.table)),
        replace(rules, confidence=np.zeros_like(rules.confidence)),
        replace(rules, evidence=unsure_evidence(Task.load(world.task), seed=1)),
        world_rules(world),
    ]
    assert len({own, *map(rules_fingerprint, others)}) == 5
