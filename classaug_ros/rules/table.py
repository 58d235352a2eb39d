"""The paper's rules: the co-occurrence rule f, the constraint rule g, and how sure each entry of the table is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from classaug_ros.models.labels import LabelMap
from classaug_ros.rules.task import Task

NO_RULE = -1  # f of a pair never seen, or seen too seldom


def cooccurrence(counts: NDArray[np.int64], min_support: int = 1) -> NDArray[np.int64]:
    """f, the co-occurrence rule (eq. 1): the truth most often seen where main says C_i and sub says C_j.

    Args:
        counts: m x n x n, pixels seen with (main prediction, sub prediction, truth).
        min_support: pixels a pair needs, at least 1.

    Returns:
        m x n truth ids, the lowest of equals; ``NO_RULE`` for a pair seen fewer than ``min_support`` times.
    """
    best: NDArray[np.int64] = counts.argmax(axis=2)
    best[counts.sum(axis=2) < max(min_support, 1)] = NO_RULE
    return best


def constrain(f: NDArray[np.int64], task: Task) -> LabelMap:
    """g, the constraint rule (eq. 2), as a table of output ids.

    The main class stays where f is similar to it, is not in S_aug (neither similar nor added), or is unknown;
    only an added class replaces it.

    Args:
        f: m x n truth ids from ``cooccurrence``.
        task: the similar sets and added classes.

    Returns:
        m x n output ids, uint8 or uint16.
    """
    output_of = np.full(len(task.sub) + 1, NO_RULE, np.int64)  # the extra last entry serves NO_RULE = -1
    output_of[list(task.added)] = len(task.main) + np.arange(len(task.added))
    replaced = output_of[f]
    main = np.arange(len(task.main))[:, np.newaxis]
    return np.where(replaced == NO_RULE, main, replaced).astype(task.output.dtype)


def purity(counts: NDArray[np.int64], table: LabelMap, task: Task) -> NDArray[np.float64]:
    """Return how often each entry of the table was right where its pair of predictions was seen.

    Truths that mean no output class (neither added nor similar to a main class) do not count, as no label could be
    right there.

    Args:
        counts: m x n x n, as for ``cooccurrence``.
        table: m x n output ids from ``constrain``.
        task: the similar sets and added classes.

    Returns:
        m x n shares, 0..1, rounded to thousandths; 0 for a pair never seen.
    """
    means = np.zeros((len(task.output), len(task.sub)), np.bool_)  # output class x truth
    for main, similar in enumerate(task.similar):
        means[main, list(similar)] = True
    means[len(task.main) + np.arange(len(task.added)), list(task.added)] = True
    right = (counts * means[table]).sum(axis=2)
    seen = (counts * means.any(axis=0)).sum(axis=2)
    shares: NDArray[np.float64] = np.round(right / np.maximum(seen, 1), 3)
    return shares
