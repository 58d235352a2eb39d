"""Influence: what the probability rule makes of each score, against a plain difference, and how it is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from support.tinymodels import random_evidence

from classaug_ros.learning.influence import LISTED, Influence, describe_evidence, group_names, summarise_evidence
from classaug_ros.learning.score_samples import Samples
from classaug_ros.models.labels import LabelSpace
from classaug_ros.rules import Evidence, Kind, Provenance, Rules

MAINS = ("road", "wall", "house", "sky")
SUBS = ("road", "building", "pole")
GROUPS = (0, 1, 1, 2, 3)
"""Wall and house mean the same; pole is added."""


def rules_of(evidence: Evidence | None, kind: Kind = "probability") -> Rules:
    output = LabelSpace((*MAINS, "pole"), tuple((number, 0, 0) for number in range(5)))
    made = Provenance("t", "m", "s", ("d",), 4, 100, 1, "0", "now")
    table, sources = np.zeros((4, 3), np.uint8), ("main",) * 4 + ("added",)
    return Rules(MAINS, SUBS, output, sources, table, np.zeros((4, 3), np.float32), evidence, kind, made)


def samples_of(count: int, seed: int) -> Samples:
    random = np.random.default_rng(seed)
    return Samples(
        (2 * random.standard_normal((count, 4))).astype(np.float16),
        (3 * random.standard_normal((count, 3))).astype(np.float16),
        random.integers(0, 3, count).astype(np.uint16),
        random.integers(1, 9, count).astype(np.float32),
        np.zeros(count, np.int32),
    )


def log_posterior(evidence: Evidence, main: NDArray[np.float64], sub: NDArray[np.float64]) -> NDArray[np.float64]:
    scores = main @ evidence.main.T.astype(float) + sub @ evidence.sub.T.astype(float) + evidence.bias
    return np.asarray(scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)))


def test_gains_are_those_of_a_score_a_little_higher() -> None:
    samples = samples_of(500, seed=1)
    evidence = random_evidence(GROUPS, 4, 3, seed=2)
    influence = Influence.of(evidence, samples)
    both = {"main": samples.main.astype(float), "sub": samples.sub.astype(float)}
    weight = samples.weight / samples.weight.sum()
    before = weight @ log_posterior(evidence, **both)
    for which, (model, scores) in enumerate(both.items()):
        centred = scores - scores.mean(axis=1, keepdims=True)
        spread = np.sqrt(weight @ (centred - weight @ centred) ** 2)
        for number in range(scores.shape[1]):
            higher = scores.copy()
            higher[:, number] += 1e-6
            after = weight @ log_posterior(evidence, **{**both, model: higher})
            np.testing.assert_allclose(
                influence.gains[:, 4 * which + number], (after - before) / 1e-6 * spread[number], atol=1e-4
            )


def test_shares_are_of_the_pixels_that_samples_stand_for_and_follow_the_boost() -> None:
    samples = samples_of(500, seed=3)
    evidence = random_evidence(GROUPS, 4, 3, seed=4)
    log = log_posterior(evidence, samples.main.astype(float), samples.sub.astype(float)) + evidence.boost
    expected = [samples.weight[log.argmax(axis=1) == group].sum() / samples.weight.sum() for group in range(4)]
    np.testing.assert_allclose(Influence.of(evidence, samples).shares, expected, atol=1e-6)
    lifted = replace(evidence, boost=np.array([0, 0, 0, 1000], np.float32))
    assert Influence.of(lifted, samples).shares.tolist() == [0, 0, 0, pytest.approx(1)]


def test_what_speaks_for_and_against_a_class_is_told() -> None:
    """Road follows both roads; pole only its own score, and the more so the lower that of road; sky is left out."""
    main, sub = np.zeros((4, 4), np.float32), np.zeros((4, 3), np.float32)
    main[0], main[1] = [3, -1, -1, -1], [-3, 2, 1, 0]
    sub[0], sub[3] = [1, -0.5, -0.5], [-2, 0, 2]
    boost = np.array([0, 0, 0, 0.75], np.float32)
    bias = np.array([0, 0, -99, 0], np.float32)
    evidence = Evidence(np.array(GROUPS, np.int32), main, sub, bias, boost, 0.25, 1.1, 1e-3, 500, 3)
    lines = describe_evidence(rules_of(evidence), samples_of(500, seed=5))
    text = "\n".join(lines)
    assert lines[0] == "kind in use: probability"
    road = lines.index(next(line for line in lines if line.startswith("  road ")))
    assert "raised" not in lines[road]
    assert lines[road + 1].startswith("    for      main road +")
    wall = lines.index(next(line for line in lines if line.startswith("  wall / house ")))
    assert lines[wall + 1].startswith("    for      main wall +")
    assert lines[wall + 2].startswith("    against  main road -")
    pole = lines.index(next(line for line in lines if line.startswith("  pole ")))
    assert lines[pole].endswith("%  raised by 0.75")
    assert lines[pole + 1].startswith("    for      sub pole +")
    assert lines[pole + 2].startswith("    against  ")
    assert "sub road -" in lines[pole + 2]
    assert lines[-1] == "  decided for nowhere: sky"
    assert max(line.count(",") for line in lines[road + 1 : -1]) <= LISTED - 1
    assert "nan" not in text


def test_of_many_classes_that_mean_the_same_some_are_named() -> None:
    assert group_names(rules_of(random_evidence(GROUPS, 4, 3))) == ["road", "wall / house", "sky", "pole"]
    assert group_names(rules_of(random_evidence((0, 0, 0, 0, 1), 4, 3))) == ["road / wall / house / 1 more", "pole"]


def test_without_samples_only_the_settings_are_told() -> None:
    rules = rules_of(random_evidence(GROUPS, 4, 3))
    assert describe_evidence(rules, None) == ["kind in use: probability", *summarise_evidence(rules)]
    assert describe_evidence(rules, Samples.none(4, 3)) == describe_evidence(rules, None)


def test_the_settings_are_told() -> None:
    assert summarise_evidence(rules_of(random_evidence(GROUPS, 4, 3))) == [
        "probability rule: fitted to 1,000 pixels; settings that did best on 3 parts of the images, held out in turn:",
        "  penalty 0.001 on what is learned beyond the two models as they are",
        "  temperature 1.25 divides the scores: above 1 where the fit was too sure of itself",
        "  gamma 0.50 raises rare classes: 0 not at all, 1 as if all were as frequent",
    ]


def test_both_kinds_are_told_apart() -> None:
    evidence = random_evidence(GROUPS, 4, 3)
    assert describe_evidence(rules_of(evidence, "table"), None)[0] == "kind in use: table"
    assert describe_evidence(rules_of(None, "table"), samples_of(9, 0)) == [
        "kind in use: table",
        "no probability rule: a model returns labels, and only scores can be weighed",
    ]
