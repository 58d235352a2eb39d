"""Scoring: which predicted class counts as which ground-truth class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classaug_ros.data.examples import Truth
from classaug_ros.errors import ConfigError
from classaug_ros.task import Task

NOT_SCORED = -1
METHODS = ("main_only", "sub_only", "rules")


@dataclass(frozen=True, eq=False)
class Scoring:
    """The scored classes, and tables from labels to them.

    Attributes:
        names: the K scored classes.
        kinds: for each ``main`` (some main class means it), ``added``, or ``neither`` (in no mean, but a pixel of
            it called by another class's name is that class's mistake).
        truth: scored class of each value of the data set's truth, ``NOT_SCORED`` for unlabelled.
        predictions: by method the scored class of each predicted id, K for none of them: ``main_only`` by main
            class, ``sub_only`` by sub class, ``rules`` by output class.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    truth: NDArray[np.int64]
    predictions: dict[str, NDArray[np.int64]]


def scoring_for(truth: Truth | None, task: Task) -> Scoring:
    """Return how predictions are scored against ground truth, by class; without ground truth no class is scored.

    Ground truth in sub classes: a main class counts as the sub classes similar to it, an added class as itself; sub
    classes that share a main class are scored as one. Ground truth in output classes: every class counts by name,
    and a sub class without a namesake as the main class it is similar to, if there is just one.

    Raises:
        ConfigError: the ground truth is neither all in sub classes nor all in output classes.
    """
    if truth is None:
        return Scoring((), (), np.empty(0, np.int64), {method: np.empty(0, np.int64) for method in METHODS})
    present = [truth.classes.names[number] for number in truth.present]
    if set(present) <= set(task.sub.names):
        return _in_sub_classes(truth, task)
    no_output = [name for name in present if name not in task.output.names]
    if no_output:
        no_sub = next(name for name in present if name not in task.sub.names)
        raise ConfigError(
            f"data set {truth.name!r}: expected ground truth in sub classes ({no_sub!r} is none) or in output "
            f"classes of the task ({no_output[0]!r} is none); map their values to others, or list them under `ignore`"
        )
    return _in_output_classes(truth, task)


def _in_sub_classes(truth: Truth, task: Task) -> Scoring:
    group_of = _groups(task)
    scored: dict[int, list[str]] = {}
    for number in truth.present:
        name = truth.classes.names[number]
        scored.setdefault(group_of[task.sub.index(name)], []).append(name)
    groups = list(scored)
    none = len(groups)
    by_sub = [groups.index(group) if group in scored else none for group in group_of]
    by_main = [by_sub[min(similar)] if similar else none for similar in task.similar]
    main_groups = {group_of[j] for similar in task.similar for j in similar}
    added_groups = {group_of[j] for j in task.added}
    return Scoring(
        names=tuple("/".join(scored[group]) for group in groups),
        kinds=tuple("main" if g in main_groups else "added" if g in added_groups else "neither" for g in groups),
        truth=_truth_table(truth, lambda name: by_sub[task.sub.index(name)]),
        predictions=_tables(by_main, by_sub, by_main + [by_sub[j] for j in task.added]),
    )


def _in_output_classes(truth: Truth, task: Task) -> Scoring:
    output = task.output
    names = [truth.classes.names[number] for number in truth.present]
    none = len(names)

    def by_name(name: str) -> int:
        return names.index(name) if name in names else none

    def by_meaning(j: int) -> int:
        name = task.sub.names[j]
        mains = [i for i, similar in enumerate(task.similar) if j in similar]
        if name in output.names or len(mains) != 1:
            return by_name(name)
        return by_name(task.main.names[mains[0]])

    return Scoring(
        names=tuple(names),
        kinds=tuple("main" if name in task.main.names else "added" for name in names),
        truth=_truth_table(truth, by_name),
        predictions=_tables(
            [by_name(name) for name in task.main.names],
            [by_meaning(j) for j in range(len(task.sub))],
            [by_name(name) for name in output.names],
        ),
    )


def _groups(task: Task) -> list[int]:
    """Return for each sub class the lowest sub class it is joined with through main classes."""
    group_of = list(range(len(task.sub)))
    for similar in task.similar:
        joined = {group_of[j] for j in similar}
        group_of = [min(joined) if group in joined else group for group in group_of]
    return group_of


def _truth_table(truth: Truth, scored: Callable[[str], int]) -> NDArray[np.int64]:
    table = np.full(truth.classes.unlabelled + 1, NOT_SCORED, np.int64)
    for number in truth.present:
        table[number] = scored(truth.classes.names[number])
    return table


def _tables(main: Sequence[int], sub: Sequence[int], rules: Sequence[int]) -> dict[str, NDArray[np.int64]]:
    return {method: np.array(table, np.int64) for method, table in zip(METHODS, (main, sub, rules), strict=True)}
