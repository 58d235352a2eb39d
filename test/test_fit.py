"""The fit of the probability rule, on samples drawn from models that are known."""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize

from classaug_ros.learning.fit import GAMMAS, MOST_TO_CHOOSE, PENALTIES, calibrate, choose_gamma, fit_evidence, solve
from classaug_ros.learning.problem import Fit, Loss, log_frequency, pose
from classaug_ros.learning.score_samples import Samples
from classaug_ros.models.labels import LabelSpace
from classaug_ros.rules import Evidence, groups_of
from classaug_ros.rules.task import Task

Values = NDArray[np.float64]

MAINS = ("road", "car", "house", "rider")
SUBS = ("road", "car", "house", "person", "pole", "bag")
BAG = SUBS.index("bag")
"""Bag is neither similar nor added; no truth means rider."""

ROAD, CAR, HOUSE, RIDER, PERSON, POLE = range(6)  # output classes, each a group of its own


def space(names: tuple[str, ...]) -> LabelSpace:
    return LabelSpace(names, tuple((number, 0, 0) for number in range(len(names))))


def task_of(similar: dict[str, set[str]], add: tuple[str, ...]) -> Task:
    sets = tuple(frozenset(map(SUBS.index, similar.get(name, set()))) for name in MAINS)
    return Task(space(MAINS), space(SUBS), sets, tuple(map(SUBS.index, add)))


TASK = task_of({name: {name} for name in ("road", "car", "house")}, ("person", "pole"))
GROUP_OF = np.array([ROAD, CAR, HOUSE, PERSON, POLE, -1])  # of each sub class
SUB_OF = np.array([0, 1, 2, -1, 3, 4])  # of each group


def samples_of(main: Values, sub: Values, truth: NDArray[np.intp], images: int = 8, weight: float = 1) -> Samples:
    """Samples of equal weight, in blocks of images."""
    count = len(truth)
    return Samples(
        main.astype(np.float16),
        sub.astype(np.float16),
        truth.astype(np.uint16),
        np.full(count, weight, np.float32),
        (np.arange(count) * images // count).astype(np.int32),
    )


def names_of(images: int = 8) -> list[str]:
    return [f"d/{number:04}" for number in range(images)]


def chance(scores: Values, random: np.random.Generator) -> NDArray[np.intp]:
    """Return a class for each row, as likely as softmax of the scores says (by Gumbel noise)."""
    return np.asarray((scores + random.gumbel(size=scores.shape)).argmax(axis=1))


def log_posterior(evidence: Evidence, samples: Samples) -> Values:
    """Return log P(group), S x G, as ``Evidence`` defines it."""
    both = (samples.main, evidence.main), (samples.sub, evidence.sub)
    scores = sum((scores.astype(np.float64) @ weights.T.astype(np.float64) for scores, weights in both), evidence.bias)
    return np.asarray(log_softmax(np.asarray(scores)))


def log_softmax(scores: Values) -> Values:
    scores = scores - scores.max(axis=1, keepdims=True)
    return np.asarray(scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)))


def decided(evidence: Evidence, samples: Samples) -> NDArray[np.intp]:
    return np.asarray((log_posterior(evidence, samples) + evidence.boost).argmax(axis=1))


def surprise(log: Values, samples: Samples) -> float:
    """Return the mean negative log likelihood."""
    return float(-log[np.arange(len(samples)), GROUP_OF[samples.truth]].mean())


def calibration_error(log: Values, samples: Samples) -> float:
    """Return the expected calibration error in 10 bins."""
    sure, right = np.exp(log.max(axis=1)), log.argmax(axis=1) == GROUP_OF[samples.truth]
    bins = np.minimum((sure * 10).astype(int), 9)
    gaps = np.bincount(bins, right, 10) - np.bincount(bins, sure, 10)
    return float(np.abs(gaps).sum() / len(samples))


def two_experts(count: int, seed: int, images: int = 8) -> Samples:
    """Main tells road, car and house apart but not what is added; sub person and pole, but takes car for house."""
    random = np.random.default_rng(seed)
    truth = random.choice(5, count, p=[0.4, 0.25, 0.2, 0.1, 0.05])
    main, sub = random.standard_normal((count, len(MAINS))), random.standard_normal((count, len(SUBS)))
    at = np.arange(count)
    seen_by_main = np.array([ROAD, CAR, HOUSE, RIDER, HOUSE])[truth]
    main[at, seen_by_main] += 3
    seen_by_sub = np.array([0, 2, 2, 3, 4])[truth]
    sub[at, seen_by_sub] += 3
    return samples_of(4 * main, 2 * sub, truth, images)


@pytest.fixture(scope="module")
def experts() -> tuple[Samples, Evidence]:
    samples = two_experts(4000, seed=0)
    return samples, fit_evidence(samples, names_of(), TASK)


def centred(weights: NDArray[np.floating]) -> Values:
    """Return weights, classes x groups, without what raises all groups or all scores of a model alike."""
    weights = weights.astype(np.float64)
    return np.asarray(weights - weights.mean(axis=0) - weights.mean(axis=1, keepdims=True) + weights.mean())


def test_a_known_log_linear_model_is_recovered() -> None:
    random = np.random.default_rng(1)
    seen = np.array([ROAD, CAR, HOUSE, PERSON, POLE])
    main, sub = random.standard_normal((10000, len(MAINS))), random.standard_normal((10000, len(SUBS)))
    of_main, of_sub = random.standard_normal((len(MAINS), 5)), random.standard_normal((len(SUBS), 5))
    scores = (main - main.mean(1, keepdims=True)) @ of_main + (sub - sub.mean(1, keepdims=True)) @ of_sub
    truth = seen[chance(scores + np.array([1, 0.5, 0, -0.5, -1]), random)]
    samples = samples_of(main, sub, SUB_OF[truth])
    evidence = fit_evidence(samples, names_of(), TASK)
    np.testing.assert_allclose(centred(evidence.main[seen].T), centred(of_main), atol=0.2)
    np.testing.assert_allclose(centred(evidence.sub[seen].T), centred(of_sub), atol=0.2)
    np.testing.assert_allclose(np.diff(evidence.bias[seen]), -0.5, atol=0.2)
    assert evidence.temperature == pytest.approx(1, abs=0.1)
    assert evidence.penalty == PENALTIES[-1]  # there is enough to learn from


def test_images_never_seen_are_told_better_than_by_either_model(experts: tuple[Samples, Evidence]) -> None:
    _, evidence = experts
    fresh = two_experts(4000, seed=9)
    alone = []
    for which in range(2):  # of the best of temperatures
        problem = pose(fresh, TASK, groups_of(TASK))
        plain = problem.features @ problem.plain[which]
        alone.append(min(surprise(log_softmax(plain * scale), fresh) for scale in np.geomspace(0.1, 10, 30)))
    log = log_posterior(evidence, fresh)
    assert surprise(log, fresh) < 0.6 * min(alone)
    assert calibration_error(log, fresh) < 0.03
    right = decided(evidence, fresh) == GROUP_OF[fresh.truth]
    assert right.mean() > 0.85
    assert (fresh.main.argmax(axis=1) == GROUP_OF[fresh.truth]).mean() < 0.85
    assert (GROUP_OF[fresh.sub.argmax(axis=1)] == GROUP_OF[fresh.truth]).mean() < 0.75


def test_what_it_was_fitted_to_and_chosen_on_is_told(experts: tuple[Samples, Evidence]) -> None:
    samples, evidence = experts
    assert (evidence.samples, evidence.recordings) == (len(samples), 4)
    assert evidence.penalty in PENALTIES
    assert evidence.gamma in GAMMAS
    evidence.check(len(TASK.output), len(MAINS), len(SUBS))


def test_the_same_samples_give_the_same_bits(experts: tuple[Samples, Evidence]) -> None:
    samples, evidence = experts
    again = fit_evidence(samples, names_of(), TASK)
    for field in fields(Evidence):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(evidence, field.name))


def test_weights_count_as_that_many_samples() -> None:
    """A sample of weight 3 is one three times."""
    samples = two_experts(600, seed=2, images=1)
    weight = np.where(np.arange(600) % 2, 3, 1).astype(np.float32)
    chosen = np.repeat(np.arange(600), weight.astype(int))
    repeated = Samples(*(getattr(samples, field.name)[chosen] for field in fields(Samples)))
    once, thrice = (fit_evidence(each, names_of(1), TASK) for each in (replace(samples, weight=weight), repeated))
    np.testing.assert_allclose(log_posterior(once, samples), log_posterior(thrice, samples), atol=0.02)


@pytest.mark.parametrize("model", ["main", "sub"])
def test_what_a_model_adds_to_all_its_scores_changes_nothing(model: str, experts: tuple[Samples, Evidence]) -> None:
    samples, evidence = experts
    raised = replace(samples, **{model: getattr(samples, model).astype(np.float64) + 64})
    np.testing.assert_allclose(log_posterior(evidence, raised), log_posterior(evidence, samples), atol=1e-3)


@pytest.mark.parametrize("model", ["main", "sub"])
def test_nor_where_classes_are_never_the_truth(model: str) -> None:
    """House, which has a similar class, and person, an added one, are not in the truth."""
    samples = two_experts(1500, seed=3)
    samples = chosen_from(samples, np.isin(samples.truth, [0, 1, 4]))
    evidence = fit_evidence(samples, names_of(), TASK)
    raised = replace(samples, **{model: getattr(samples, model).astype(np.float64) + 64})
    np.testing.assert_allclose(log_posterior(evidence, raised), log_posterior(evidence, samples), atol=1e-3)


def chosen_from(samples: Samples, part: NDArray[np.bool_]) -> Samples:
    return Samples(*(getattr(samples, field.name)[part] for field in fields(Samples)))


def test_the_rule_says_of_scores_as_they_are_what_was_fitted_to_centred_ones() -> None:
    samples = two_experts(1500, seed=3)
    samples = chosen_from(samples, np.isin(samples.truth, [0, 1, 4]))
    samples = replace(samples, main=samples.main + np.float16(32), sub=samples.sub - np.float16(16))
    problem, every = pose(samples, TASK, groups_of(TASK)), np.ones(len(samples), np.bool_)
    evidence = fit_evidence(samples, names_of(), TASK)
    fitted = solve(problem, every, evidence.penalty).scores(problem, every).astype(np.float64) / evidence.temperature
    np.testing.assert_allclose(log_posterior(evidence, samples), log_softmax(fitted), atol=0.03)


def test_a_class_never_the_truth_keeps_the_plain_main_model() -> None:
    """Its weights are 0 but for its own score, and where main is very sure of it, and the rest is not, it wins."""
    samples = two_experts(3000, seed=4)
    evidence = fit_evidence(samples, names_of(), TASK)
    assert np.flatnonzero(evidence.main[RIDER]).tolist() == [RIDER]
    assert not evidence.sub[RIDER].any()
    assert evidence.boost[RIDER] == 0
    main, sub = np.zeros((2, len(MAINS))), np.zeros((2, len(SUBS)))
    main[0, RIDER], main[1, ROAD] = 60, 60
    assert decided(evidence, samples_of(main, sub, np.zeros(2, np.intp))).tolist() == [RIDER, ROAD]


def test_a_truth_that_is_no_output_class_keeps_the_main_class() -> None:
    """Where the truth is a bag, main says car or road, and sub says bag: the rule keeps what main says."""
    random = np.random.default_rng(5)
    main, sub = random.standard_normal((3000, len(MAINS))), random.standard_normal((3000, len(SUBS)))
    truth = random.choice([0, 1, BAG, BAG], 3000)
    said = np.where(truth == BAG, random.integers(0, 2, 3000), truth)
    main[np.arange(3000), said] += 8
    sub[np.arange(3000), truth] += 8
    samples = samples_of(main, sub, truth)
    evidence = fit_evidence(samples, names_of(), TASK)
    bags = samples.truth == BAG
    assert (decided(evidence, samples)[bags] == samples.main[bags].argmax(axis=1)).mean() > 0.98
    assert evidence.samples == 3000


def test_main_classes_that_mean_the_same_are_one_group() -> None:
    task = task_of({"road": {"road"}, "car": {"car"}, "house": {"car"}}, ("person", "pole"))
    samples = two_experts(1500, seed=6)
    samples = chosen_from(samples, samples.truth != SUBS.index("house"))
    evidence = fit_evidence(samples, names_of(), task)
    assert evidence.groups.tolist() == [0, 1, 1, 2, 3, 4]
    problem = pose(samples, task, evidence.groups)
    np.testing.assert_array_equal(problem.plain[0, : len(MAINS), 1], np.array([0, 0.5, 0.5, 0], np.float32))
    groups = np.array([0, 1, -1, 3, 4, -1])[samples.truth]
    assert (decided(evidence, samples) == groups).mean() > 0.85


def test_over_confident_scores_are_cooled() -> None:
    random = np.random.default_rng(7)
    right = random.standard_normal((8000, 6)) * [2, 2, 2, 0, 2, 2] - [0, 0, 0, 50, 0, 0]
    samples = samples_of(right[:, :4], np.zeros((8000, 6)), SUB_OF[chance(right, random)])
    problem = pose(samples, TASK, groups_of(TASK))
    temperature = calibrate(problem, (3 * right).astype(np.float32))
    assert temperature == pytest.approx(3, rel=0.1)
    before, after = (calibration_error(log_softmax(3 * right / each), samples) for each in (1, temperature))
    assert before > 0.1
    assert after < 0.02


def test_a_fit_that_is_too_sure_of_itself_is_cooled() -> None:
    """Few samples, each recording with scores of its own kind: what is learned of some holds less in the others."""
    random = np.random.default_rng(8)
    samples = two_experts(400, seed=8, images=4)
    shift = 6 * random.standard_normal((4, len(MAINS)))[samples.image]
    samples = replace(samples, main=(samples.main + shift).astype(np.float16))
    names = [f"d/r{number}_0" for number in range(4)]
    evidence = fit_evidence(samples, names, TASK)
    assert evidence.temperature > 1.02


def test_gamma_is_raised_for_a_rare_class() -> None:
    """A rare class that is never the most likely one, though where its score is high it is much more so."""
    random = np.random.default_rng(10)
    scores = np.zeros((20000, 6))
    scores[:, POLE] = random.choice([-9.0, -0.5], 20000, p=[0.95, 0.05])
    scores[:, [HOUSE, RIDER, PERSON]] = -50
    scores[:, ROAD] = random.choice([3.0, -3.0], 20000)
    scores[:, CAR] = -scores[:, ROAD]
    scores[scores[:, POLE] > -1] *= [0, 0, 1, 1, 1, 1]
    truth = chance(scores, random)
    samples = samples_of(scores[:, :4], np.zeros((20000, 6)), SUB_OF[truth])
    problem = pose(samples, TASK, groups_of(TASK))
    log_prior = log_frequency(problem)
    gamma = choose_gamma(problem, scores.astype(np.float32), log_prior)
    assert gamma > 0

    def iou(gamma: float) -> float:
        label = (scores - gamma * log_prior).argmax(axis=1) == POLE
        return float((label & (truth == POLE)).sum() / (label | (truth == POLE)).sum())

    assert iou(0) == 0
    assert iou(gamma) > 0.2


def test_gamma_is_0_where_it_does_not_help() -> None:
    """Classes of any frequency that are told apart without a mistake."""
    truth = np.repeat([ROAD, CAR, PERSON, POLE], [5000, 2000, 60, 20])
    scores = np.where(truth[:, None] == np.arange(6), 20.0, 0.0)
    samples = samples_of(scores[:, :4], np.zeros((len(truth), 6)), SUB_OF[truth])
    problem = pose(samples, TASK, groups_of(TASK))
    assert choose_gamma(problem, scores.astype(np.float32), log_frequency(problem)) == 0


def test_the_prior_is_that_of_the_pixels_and_0_for_what_is_never_seen() -> None:
    samples = samples_of(np.zeros((4, 4)), np.zeros((4, 6)), np.array([0, 0, 3, BAG]))
    samples = replace(samples, weight=np.array([1, 2, 1, 9], np.float32))
    prior = log_frequency(pose(samples, TASK, groups_of(TASK)))
    np.testing.assert_allclose(prior, np.log([0.75, 1, 1, 1, 0.25, 1]))


@pytest.mark.parametrize("penalty", [0.0, 0.3])
def test_the_gradient_is_that_of_the_loss(penalty: float) -> None:
    samples = two_experts(300, seed=11)
    truth = np.where(np.arange(300) % 7 == 0, BAG, samples.truth).astype(np.uint16)
    samples = replace(samples, truth=truth, weight=np.linspace(1, 4, 300, dtype=np.float32))
    problem = pose(samples, TASK, groups_of(TASK))
    loss = Loss(problem, np.arange(300) % 3 > 0, penalty)
    random = np.random.default_rng(12)
    start = Fit.plain_models(problem).packed()
    start += 0.3 * random.standard_normal(start.size)
    _, gradient = loss(start)
    step = 2e-3
    for number in range(start.size):
        aside = np.zeros_like(start)
        aside[number] = step
        slope = (loss(start + aside)[0] - loss(start - aside)[0]) / (2 * step)
        assert slope == pytest.approx(gradient[number], rel=2e-2, abs=5e-4)


def test_what_is_packed_is_unpacked() -> None:
    problem = pose(two_experts(300, seed=11), TASK, groups_of(TASK))
    packed = np.random.default_rng(0).random(Fit.plain_models(problem).packed().size).astype(np.float32)
    np.testing.assert_array_equal(Fit.unpacked(packed.astype(np.float64), problem).packed(), packed)


@pytest.mark.parametrize(
    "images",
    [
        pytest.param([0], id="one image"),
        pytest.param([1], id="two images, the first without a label"),
    ],
)
def test_a_single_image_with_labels_holds_nothing_out(images: list[int]) -> None:
    samples = two_experts(500, seed=13, images=1)
    samples = replace(samples, image=np.full(500, images[0], np.int32))
    evidence = fit_evidence(samples, names_of(images[0] + 1), TASK)
    assert (evidence.penalty, evidence.temperature, evidence.gamma) == (PENALTIES[0], 1, 0)
    assert evidence.recordings == 1
    assert (decided(evidence, samples) == GROUP_OF[samples.truth]).mean() > 0.8


def test_scores_at_the_ends_of_half_precision_give_finite_weights() -> None:
    samples = two_experts(800, seed=14)
    main, sub = samples.main.copy(), samples.sub.copy()
    main[::5] = np.where(np.arange(len(MAINS)) == 1, 6e4, -6e4)
    sub[1::5] = np.float16(6e-8) * np.arange(len(SUBS), dtype=np.float16)
    sub[2::5] = 6e4
    evidence = fit_evidence(replace(samples, main=main, sub=sub), names_of(), TASK)
    evidence.check(len(TASK.output), len(MAINS), len(SUBS))
    assert np.isfinite([evidence.temperature, evidence.gamma]).all()


def test_a_model_that_always_says_the_same_is_left_aside() -> None:
    samples = two_experts(1500, seed=15)
    samples = replace(samples, sub=np.ones_like(samples.sub))
    evidence = fit_evidence(samples, names_of(), TASK)
    evidence.check(len(TASK.output), len(MAINS), len(SUBS))
    assert (decided(evidence, samples) == GROUP_OF[samples.truth]).mean() > 0.7


def test_settings_are_chosen_on_a_part_of_many_samples() -> None:
    problem = pose(two_experts(1000, seed=16), TASK, groups_of(TASK))
    part = problem.every(3)
    assert len(part.features) == len(part.truth) == len(part.target) == 334
    assert part.weight.sum() == pytest.approx(1)
    assert MOST_TO_CHOOSE > 334


def test_a_class_that_few_samples_leave_out_does_not_hide_the_others_from_gamma() -> None:
    samples = two_experts(2000, seed=5)
    problem = pose(samples, TASK, groups_of(TASK))
    prior = log_frequency(problem)
    plain = problem.features @ Fit.plain_models(problem).weights(problem)
    scores = (plain + 2 * prior).astype(np.float32)  # rare ones far too low
    expected = choose_gamma(problem, scores, prior)
    assert expected > 0
    lonely = replace(problem, seen=np.append(problem.seen, RIDER))  # the truth nowhere here, and nobody's answer
    scores[:, RIDER] -= 1e3
    assert choose_gamma(lonely, scores, prior) == expected
    nowhere = replace(problem, truth=np.full_like(problem.truth, -1))
    assert choose_gamma(nowhere, scores, prior) == 0


def test_truth_that_is_no_output_class_has_no_say_in_the_temperature() -> None:
    samples = two_experts(3000, seed=6)
    other = np.arange(3000) % 2 == 0
    mixed = replace(samples, truth=np.where(other, BAG, samples.truth).astype(np.uint16))
    few = pose(mixed, TASK, groups_of(TASK))
    scores = 5 * few.features @ Fit.plain_models(few).weights(few)  # the other's target is the main model's own opinion
    known = replace(
        few,
        features=few.features[~other],
        truth=few.truth[~other],
        target=few.target[~other],
        weight=few.weight[~other] / few.weight[~other].sum(),
    )
    assert calibrate(few, scores) == pytest.approx(calibrate(known, scores[~other]), rel=1e-3)


def test_sums_over_parts_of_the_samples_are_those_over_all(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = pose(two_experts(500, seed=3), TASK, groups_of(TASK))
    plain = Fit.plain_models(problem).packed()
    at = plain + np.random.default_rng(0).normal(0, 0.3, len(plain))
    losses = []
    for at_a_time in (1, 7 * problem.plain[0].size, 2**30):
        monkeypatch.setattr("classaug_ros.learning.problem._AT_A_TIME", at_a_time)
        losses.append(Loss(problem, np.ones(500, np.bool_), 1e-3)(at))
    for loss, gradient in losses[:2]:
        assert loss == pytest.approx(losses[2][0], rel=1e-5)
        np.testing.assert_allclose(gradient, losses[2][1], atol=1e-5)


def test_blas_has_one_thread_while_the_rule_is_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")
    seen: list[int] = []

    def looking(*arguments: object, **words: object) -> Any:
        seen.extend(each["num_threads"] for each in threadpoolctl.threadpool_info() if each["user_api"] == "blas")
        return minimize(*arguments, **words)

    monkeypatch.setattr("classaug_ros.learning.fit.minimize", looking)
    fit_evidence(two_experts(300, seed=4), names_of(), TASK)
    assert seen
    assert set(seen) == {1}


def test_the_fit_is_the_same_without_threadpoolctl(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = two_experts(300, seed=4)
    known = fit_evidence(samples, names_of(), TASK)
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    fitted = fit_evidence(samples, names_of(), TASK)
    np.testing.assert_allclose(fitted.main, known.main, atol=1e-3)
    assert fitted.penalty == known.penalty
