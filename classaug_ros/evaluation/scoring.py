"""Scoring: which predicted class counts as which ground-truth class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classaug_ros.data.examples import Truth
from classaug_ros.errors import ConfigError
from classaug_ros.evaluation.methods import MAIN_ONLY, sub_methods
from classaug_ros.models.labels import MAX_CLASSES
from classaug_ros.rules import KINDS
from classaug_ros.rules.task import Task

NOT_SCORED = -1


@dataclass(frozen=True, eq=False)
class Scoring:
    """The scored classes, and tables from labels to them.

    Attributes:
        names: the K scored classes.
        kinds: for each ``main`` (some main class means it), ``added``, or ``neither`` (in no mean, but a pixel of
            it called by another class's name is that class's mistake).
        truth: scored class of each value of the data set's truth, ``NOT_SCORED`` for unlabelled.
        predictions: by method the scored class of each predicted id, K for none of them: ``main_only`` by main
            class, ``sub_only`` and the like by sub class, rules of both kinds by output class or unlabelled.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    truth: NDArray[np.int64]
    predictions: dict[str, NDArray[np.int64]]


def scoring_for(truth: Truth | None, tasks: Sequence[Task]) -> Scoring:
    """Return how predictions are scored against ground truth, by class; without ground truth no class is scored.

    Ground truth in sub classes of a task: a main class counts as the sub classes similar to it, an added class as
    itself; sub classes that share a main class are scored as one. What the rules of another task add counts by name,
    and so does what its sub model says, or else as all main classes do that it is similar to.
    Ground truth in output classes: every class counts by name, and a sub class without a namesake as the main class it
    is similar to, if there is just one.

    Args:
        truth: what the ground truth means.
        tasks: the task of each sub model, with main classes that are the same.

    Raises:
        ConfigError: the ground truth is neither all in sub classes of a task nor all in output classes.
    """
    if truth is None:
        none = np.empty(0, np.int64)
        return Scoring((), (), none, dict.fromkeys((MAIN_ONLY, *sub_methods(len(tasks)), *KINDS), none))
    present = [truth.classes.names[number] for number in truth.present]
    for task in tasks:
        if set(present) <= set(task.sub.names):
            return _in_sub_classes(truth, task, tasks)
    output = output_names(tasks)
    no_output = [name for name in present if name not in output]
    if no_output:
        no_sub = next(name for name in present if name not in tasks[0].sub.names)
        raise ConfigError(
            f"data set {truth.name!r}: expected ground truth in sub classes ({no_sub!r} is none) or in output "
            f"classes of the task ({no_output[0]!r} is none); map their values to others, or list them under `ignore`"
        )
    return _in_output_classes(truth, tasks)


def output_names(tasks: Sequence[Task]) -> tuple[str, ...]:
    """Return the output classes of tasks together, in the order of ``RuleSet.output``."""
    return tuple(dict.fromkeys(name for task in tasks for name in task.output.names))


def _in_sub_classes(truth: Truth, of: Task, tasks: Sequence[Task]) -> Scoring:
    """Score ground truth in the sub classes of one of the tasks."""
    group_of = _groups(of)
    scored: dict[int, list[str]] = {}
    for number in truth.present:
        name = truth.classes.names[number]
        scored.setdefault(group_of[of.sub.index(name)], []).append(name)
    groups = list(scored)
    none = len(groups)
    by_sub = [groups.index(group) if group in scored else none for group in group_of]
    by_main = [by_sub[min(similar)] if similar else none for similar in of.similar]

    def by_name(name: str) -> int:
        return by_sub[of.sub.index(name)] if name in of.sub.names else none

    def by_meaning(task: Task, j: int) -> int:
        """Return what a sub class counts as; without a namesake, as all main classes do that it is similar to."""
        name = task.sub.names[j]
        mains = {by_main[i] for i, similar in enumerate(task.similar) if j in similar}
        return by_name(name) if name in of.sub.names or len(mains) != 1 else mains.pop()

    added_names = [task.sub.names[j] for task in tasks for j in task.added]
    main_groups = {group_of[j] for similar in of.similar for j in similar}
    added_groups = {group_of[of.sub.index(name)] for name in added_names if name in of.sub.names}
    return Scoring(
        names=tuple("/".join(scored[group]) for group in groups),
        kinds=tuple("main" if g in main_groups else "added" if g in added_groups else "neither" for g in groups),
        truth=_truth_table(truth, by_name),
        predictions=_tables(
            none,
            by_main,
            [[by_meaning(task, j) for j in range(len(task.sub))] for task in tasks],
            by_main + [by_name(name) for name in output_names(tasks)[len(by_main) :]],
        ),
    )


def _in_output_classes(truth: Truth, tasks: Sequence[Task]) -> Scoring:
    output, main = output_names(tasks), tasks[0].main.names
    names = [truth.classes.names[number] for number in truth.present]
    none = len(names)

    def by_name(name: str) -> int:
        return names.index(name) if name in names else none

    def by_meaning(task: Task, j: int) -> int:
        name = task.sub.names[j]
        mains = [i for i, similar in enumerate(task.similar) if j in similar]
        return by_name(name if name in output or len(mains) != 1 else main[mains[0]])

    return Scoring(
        names=tuple(names),
        kinds=tuple("main" if name in main else "added" for name in names),
        truth=_truth_table(truth, by_name),
        predictions=_tables(
            none,
            [by_name(name) for name in main],
            [[by_meaning(task, j) for j in range(len(task.sub))] for task in tasks],
            [by_name(name) for name in output],
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


def _tables(
    none: int, main: Sequence[int], subs: Sequence[Sequence[int]], output: Sequence[int]
) -> dict[str, NDArray[np.int64]]:
    alone = zip((MAIN_ONLY, *sub_methods(len(subs))), (main, *subs), strict=True)
    whole = np.full(256 if len(output) <= 255 else MAX_CLASSES + 1, none, np.int64)  # the last is unlabelled
    whole[: len(output)] = output
    return {**{method: np.array(table, np.int64) for method, table in alone}, **dict.fromkeys(KINDS, whole)}
