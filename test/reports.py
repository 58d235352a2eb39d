"""Evaluations of tiny worlds, with all that reports show of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinymodels import World

from classaug_ros.data.dataset import Dataset, load_dataset
from classaug_ros.data.examples import Example, Source
from classaug_ros.evaluation.evaluate import Evaluation, Watcher, evaluate
from classaug_ros.learning.learn import count, derive_rules
from classaug_ros.models import load_model
from classaug_ros.pipeline import Pipeline
from classaug_ros.report import Pictures, Turned, build_report
from classaug_ros.rules import Rules
from classaug_ros.task import Task

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
    rules: Rules
    evaluation: Evaluation
    pictures: Pictures
    report: dict[str, Any]


def evaluate_world(
    world: World, *, truth: bool = True, live: Mapping[str, Any] | None = None, watchers: Sequence[Watcher] = ()
) -> Evaluated:
    """Learn on a world's data set and evaluate on it, with its ground truth or as a drive without."""
    task, dataset = Task.load(world.task), load_dataset(world.dataset)
    source: Source = dataset if truth else Drive(dataset)
    with Pipeline(load_model(world.main), load_model(world.sub)) as pipeline:
        rules = derive_rules(count(pipeline, [dataset], task, world.folder / "c.npz"), task, 3)
        turned, pictures = Turned(rules), Pictures(source, task, rules)
        evaluation = evaluate(pipeline, source, task, rules, watchers=[turned, pictures, *watchers])
        report = build_report(evaluation, pipeline, source, rules, turned=turned, live=live)
    return Evaluated(world, source, rules, evaluation, pictures, report)
