"""Evaluations of tiny worlds, with all that reports show of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from classaug_ros.data.dataset import Dataset, load_dataset
from classaug_ros.data.examples import Example, Source
from classaug_ros.evaluation.evaluate import Evaluation, Watcher, evaluate
from classaug_ros.evaluation.report import ClassChanges, Pictures, build_report
from classaug_ros.models.card import load_model
from classaug_ros.pipeline.cpu import Pipeline
from classaug_ros.rules import Evidence, Kind, Provenance, Rules, RuleSet, derive, groups_of
from classaug_ros.rules.decision import Decision
from classaug_ros.rules.task import Task
from support.tinymodels import World, random_evidence

CAMERAS = ("/front/image_raw", "/rear/image_raw")
START, STEP = 1_700_000_000_000_000_000, 100_000_000  # ns: stamps of a drive


@dataclass(frozen=True)
class Drive:
    """Images of a data set as if two cameras had recorded them in turn, without ground truth."""

    dataset: Dataset
    name: str = "drive"
    truth: None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[Example]:
        for number, example in enumerate(self.dataset):
            yield Example(example.name, example.frame, None, CAMERAS[number % 2], START + number * STEP)


@dataclass(frozen=True)
class Evaluated:
    """A world evaluated, by rules learned on it with min_support 3."""

    world: World
    source: Source
    rules: RuleSet
    evaluation: Evaluation
    pictures: Pictures
    report: dict[str, Any]


def world_rules(world: World, kind: Kind = "table", min_support: int = 1) -> Rules:
    """Return the table of a world's data set; with it, for kind probability, random evidence."""
    main, sub, task = load_model(world.main), load_model(world.sub), Task.load(world.task)
    classes = len(task.sub)
    counts = np.zeros((len(task.main), classes, classes), np.int64)
    for name, image in world.images.items():
        i, j = (weights.scores(image).argmax(axis=0) for weights in (world.main_weights, world.sub_weights))
        truth = world.truths[name]
        seen = truth < classes
        np.add.at(counts, (i[seen], j[seen], truth[seen]), 1)
    size = len(world.images), int(counts.sum())
    made = Provenance(task.fingerprint, main.fingerprint, sub.fingerprint, ("drive",), *size, min_support, "0", "now")
    return derive(counts, task, made, unsure_evidence(task) if kind == "probability" else None)


def unsure_evidence(task: Task, seed: int = 0) -> Evidence:
    """Return random evidence of such small weights that the scores of tiny models, some thousands, leave doubts."""
    evidence = random_evidence(groups_of(task).tolist(), len(task.main), len(task.sub), seed)
    return replace(evidence, main=evidence.main / np.float32(1024), sub=evidence.sub / np.float32(1024))


def evaluate_world(
    world: World,
    *,
    truth: bool = True,
    kind: Kind = "table",
    decision: Decision = Decision(),  # noqa: B008 (frozen)
    live: Mapping[str, Any] | None = None,
    watchers: Sequence[Watcher] = (),
) -> Evaluated:
    """Evaluate on a world's data set by rules learned on it, with its ground truth or as a drive without."""
    tasks, dataset = [Task.load(world.task)], load_dataset(world.dataset)
    source: Source = dataset if truth else Drive(dataset)
    rules = RuleSet([world_rules(world, kind, 3)])
    with Pipeline(load_model(world.main), load_model(world.sub)) as pipeline:
        class_changes, pictures = ClassChanges(rules), Pictures(source, tasks, rules)
        watching: list[Watcher] = [class_changes, pictures, *watchers]
        evaluation = evaluate(pipeline, source, tasks, rules, decision, watchers=watching)
        report = build_report(evaluation, pipeline, source, class_changes=class_changes, live=live)
    return Evaluated(world, source, rules, evaluation, pictures, report)
