"""What each ingredient of the probability rule gives: the table in docs/method.md.

Takes the counts file that `classaug learn` wrote, and scores on images of other recordings:

    python3 studies/ingredients.py --main MODEL --sub MODEL --task TASK --counts rules.counts.npz --dataset VAL
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from classaug_ros import fusion
from classaug_ros.data.layouts import open_dataset
from classaug_ros.evaluation.calibration import Calibration
from classaug_ros.evaluation.confusion import ConfusionMatrix, mean_iou
from classaug_ros.evaluation.contour import Contours
from classaug_ros.evaluation.scoring import Scoring, scoring_for
from classaug_ros.fusion import Scores
from classaug_ros.fusion.reference.evidence import on_grid
from classaug_ros.fusion.scores import posterior
from classaug_ros.learning import fit
from classaug_ros.learning.counts import Counts
from classaug_ros.learning.folds import folds
from classaug_ros.learning.learn import derive_rules
from classaug_ros.learning.problem import Problem, log_frequency, on_scores, pose
from classaug_ros.learning.score_samples import Samples
from classaug_ros.models.card import load_model
from classaug_ros.pipeline.cpu import Pipeline
from classaug_ros.rules import Evidence, Prefer, groups_of
from classaug_ros.rules.task import Task

TEMPERATURES = (0.5, 0.7, 1.0, 1.4, 2.0)
SMOOTHING = 1e-3  # of all pixels: what draws a pair of predictions to the frequency of the classes
NO_PULL, ALL_PULL = 0.0, 1e3  # penalties

Groups: TypeAlias = Callable[[Scores, Scores, tuple[int, int]], Scores]
"""Scores of the groups on the finer grid, from those of both models and the size of the image."""


@dataclass(frozen=True, eq=False)
class Rule:
    """A way to labels by scores of groups."""

    groups: Groups
    evidence: Evidence
    prefer: Prefer = "evidence"
    contours: bool = False


class SoftCounts:
    """P(group | main class i, sub class j): each pixel adds p_main(i) p_sub(j) to the group of its truth."""

    def __init__(self, problem: Problem, samples: Samples, temperatures: tuple[float, float]) -> None:
        self._temperatures = temperatures
        pairs = self._pairs(samples.main.astype(np.float32), samples.sub.astype(np.float32))
        counts = pairs.T @ (problem.target * problem.weight[:, np.newaxis])
        prior = counts.sum(axis=0, keepdims=True)
        self._shares = (counts + SMOOTHING * prior) / (counts.sum(axis=1, keepdims=True) + SMOOTHING)

    def _pairs(self, main: NDArray[np.float32], sub: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return p_main(i) p_sub(j) of scores, pixels x (m n)."""
        p, q = (posterior(each.T / t).T for each, t in zip((main, sub), self._temperatures, strict=True))
        pairs: NDArray[np.float32] = (p[:, :, np.newaxis] * q[:, np.newaxis]).reshape(len(p), -1)
        return pairs

    def log(self, main: NDArray[np.float32], sub: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logarithm of the sum over i, j of p_main(i) p_sub(j) P(group | i, j), pixels x groups."""
        return np.asarray(np.log(np.maximum(self._pairs(main, sub) @ self._shares, 1e-9)), np.float32)

    def groups(self, main: Scores, sub: Scores, size: tuple[int, int]) -> Scores:
        """Return the same on the finer grid."""
        grid = main if main.values[0].size >= sub.values[0].size else sub
        flat = [on_grid(each, grid, size).reshape(len(each.values), -1).T for each in (main, sub)]
        return Scores(self.log(*flat).T.reshape(-1, *grid.values.shape[1:]), grid.convention)


def chosen(samples: Samples, which: NDArray[Any] | slice) -> Samples:
    """Return some of the samples."""
    return Samples(*(getattr(samples, each.name)[which] for each in fields(Samples)))


def soft_counts(samples: Samples, part: NDArray[np.intp], task: Task) -> Iterator[tuple[str, Rule]]:
    """Yield soft counts as they are, with the temperatures that do best on held-out recordings, and with gamma."""
    groups = groups_of(task)
    problem, every = pose(samples, task, groups), slice(None, None, -(-2 * len(samples) // fit.MOST_TO_CHOOSE))
    few, parts = chosen(samples, every), part[every]
    posed = pose(few, task, groups)

    def held_out(temperatures: tuple[float, float]) -> NDArray[np.float32]:
        scores = np.empty_like(posed.target)
        for number in np.unique(parts).tolist():
            others, own = chosen(few, parts != number), chosen(few, parts == number)
            counts = SoftCounts(pose(others, task, groups), others, temperatures)
            scores[parts == number] = counts.log(own.main.astype(np.float32), own.sub.astype(np.float32))
        return scores

    def likelihood(temperatures: tuple[float, float]) -> float:
        return float(posed.weight @ (posed.target * held_out(temperatures)).sum(axis=1))

    best = max(product(TEMPERATURES, TEMPERATURES), key=likelihood)
    prior = log_frequency(problem)
    gamma = fit.choose_gamma(posed, held_out(best), prior)
    print(f"soft counts: temperatures {best}, gamma {gamma}")
    for name, temperatures, power in (
        ("soft counts (the sum over pairs)", (1.0, 1.0), 0.0),
        ("soft counts, temperatures", best, 0.0),
        ("soft counts, temperatures, gamma", best, gamma),
    ):
        yield name, Rule(SoftCounts(problem, samples, temperatures).groups, blank(task, -power * prior))


def pools(samples: Samples, task: Task, final: Evidence) -> Iterator[tuple[str, Rule]]:
    """Yield the log-linear pool with a temperature per model, with learned weights, and the rule as it is learned."""

    def rule(evidence: Evidence, **options: Any) -> Rule:
        return Rule(lambda main, sub, size: fusion.group_scores(main, sub, evidence, size), evidence, **options)

    problem = pose(samples, task, final.groups)
    for name, penalty in (
        ("log-linear pool, a temperature per model", ALL_PULL),
        ("log-linear pool, weights without a penalty", NO_PULL),
        ("log-linear pool, weights", final.penalty),
    ):
        solved = fit.solve(problem, np.ones(len(samples), np.bool_), penalty)
        main, sub = (each.astype(np.float32) for each in on_scores(problem, solved, len(task.main)))
        yield name, rule(replace(final, main=main, sub=sub, bias=solved.bias, boost=0 * final.boost))
    yield "log-linear pool, weights, gamma", rule(final)
    yield "the same, contours", rule(final, contours=True)
    yield "the same, prefer main", rule(final, prefer="main")


def blank(task: Task, boost: NDArray[np.float64]) -> Evidence:
    """Return evidence that only says what the groups are and how they are boosted."""
    main, sub = (np.zeros((len(boost), len(space)), np.float32) for space in (task.main, task.sub))
    boosts = boost.astype(np.float32)
    return Evidence(groups_of(task), main, sub, np.zeros_like(boosts), boosts, 0, 1, 0, 0, 1)


@dataclass(eq=False)
class Row:
    """Scores of one way of labelling, by the tables of ``key``."""

    name: str
    key: str
    scoring: Scoring
    calibration: Calibration = field(default_factory=Calibration)

    def __post_init__(self) -> None:
        self.matrix = ConfusionMatrix(len(self.scoring.names))
        self.contours = Contours([self.name], len(self.scoring.names))

    def add(self, truth: NDArray[np.int64], label: NDArray[Any], confidence: NDArray[np.uint8] | None = None) -> None:
        """Add an image."""
        predicted = self.scoring.predictions[self.key][label]
        self.matrix.update(truth, predicted)
        self.contours.update(truth, {self.name: predicted})
        if confidence is not None:
            self.calibration.update(confidence[truth >= 0], (predicted == truth)[truth >= 0])

    def __str__(self) -> str:
        """Return the row of the table."""

        def mean(matrix: ConfusionMatrix, *kinds: str) -> str:
            both = zip(matrix.iou(), self.scoring.kinds, strict=True)
            return f"{100 * mean_iou(iou for iou, kind in both if kind in kinds):.1f}"

        whole = [mean(self.matrix, "main"), mean(self.matrix, "added"), mean(self.matrix, "main", "added")]
        bands = [mean(matrix, "main", "added") for matrix in self.contours.matrices[self.name].values()]
        error = f"{100 * self.calibration.error():.1f}" if self.calibration.pixels else ""
        return "| " + " | ".join([self.name, *whole, *bands, error]) + " |"


def main() -> None:
    """Learn every rule, score them image by image, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("main", "sub", "task", "counts"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--dataset", required=True)
    options = parser.parse_args()
    task, counts, dataset = Task.load(options.task), Counts.load(options.counts), open_dataset(options.dataset)
    rules, samples = derive_rules(counts, task), counts.samples
    if rules.evidence is None or samples is None:
        raise SystemExit("a model returns labels: there is nothing to study")
    part = folds(counts.images)[samples.image]
    pool = dict(pools(samples, task, rules.evidence))
    ways = {**dict(soft_counts(samples, part, task)), **pool}
    scoring = scoring_for(dataset, [task])
    alone = {"main model alone": "main_only", "sub model alone": "sub_only", "table rules (the paper)": "table"}
    rows = [Row(name, alone.get(name, "probability"), scoring) for name in (*alone, *ways)]
    with Pipeline(load_model(options.main), load_model(options.sub)) as pipeline:
        for sample in tqdm(dataset.samples):
            frame, values = dataset.read(sample)
            truth, size = scoring.truth[values], (values.shape[0], values.shape[1])
            inferred = pipeline.infer(pipeline.prepare(frame))
            main, sub = pipeline.labels(inferred, size)
            table = fusion.look_up(main, sub, rules.table)
            shares = np.round(rules.confidence * 255).astype(np.uint8)
            rows[0].add(truth, main)
            rows[1].add(truth, sub)
            rows[2].add(truth, table, fusion.look_up(main, sub, shares))
            main_scores, sub_scores = pipeline.scores(inferred)
            for row in rows[3:]:
                way = ways[row.name]
                groups = way.groups(main_scores, sub_scores, size)
                outputs = fusion.output_scores(groups, main_scores, way.evidence, way.prefer, size)
                if way.contours:
                    label = fusion.guided_label_map(outputs, frame.grey(size), task.output.dtype)
                else:
                    label = fusion.label_map(outputs.values, size, outputs.convention, task.output.dtype)
                row.add(truth, label, fusion.confidence(label, groups, way.evidence.groups))
    print(
        f"gamma {rules.evidence.gamma}, temperature {rules.evidence.temperature:.3f}, penalty {rules.evidence.penalty}"
    )
    print("| | main | added | all | 1 px | 3 px | 5 px | ECE |\n|" + "---|" * 8)
    print("\n".join(map(str, rows)))


if __name__ == "__main__":
    main()
