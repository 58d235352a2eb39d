"""The problem that the probability rule solves: samples, the weights looked for, and how likely they make the truth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from classaug_ros.learning.score_samples import Samples
from classaug_ros.rules.task import Task

Array = NDArray[np.float32]

_AT_A_TIME = 2**18
"""Products of a feature and a weight that are summed up at a time: what comes of so few stays in the processor's cache,
and they are too few for BLAS to divide among threads, so that sums do not depend on how many there are."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Samples as the fit sees them.

    Attributes:
        features: S x (m + n), scores of both models, centred over each model's classes, each model's of mean square 1.
        scale: m + n, what the scores were multiplied by for that.
        plain: 2 x (m + n) x G, what a group's score is in the main model alone and in the sub model alone.
        truth: S, group of the truth; -1 where it is none of the output classes'.
        target: S x G, the share each group has in the truth.
        weight: S, summing up to 1.
        seen: groups that are the truth somewhere.
    """

    features: Array
    scale: Array
    plain: Array
    truth: NDArray[np.intp]
    target: Array
    weight: Array
    seen: NDArray[np.intp]

    def every(self, step: int) -> Problem:
        """Return the problem of each ``step``-th sample."""
        return replace(
            self,
            features=self.features[::step],
            truth=self.truth[::step],
            target=self.target[::step],
            weight=self.weight[::step] / self.weight[::step].sum(),
        )


@dataclass(frozen=True, eq=False)
class Fit:
    """Weights of the features of a problem.

    Attributes:
        plain: 2, weights of both models as they are.
        learned: (m + n) x seen groups, what the data adds to them.
        bias: G.
    """

    plain: Array
    learned: Array
    bias: Array

    @classmethod
    def plain_models(cls, problem: Problem) -> Fit:
        """Return the two models as they are, both alike, with nothing learned."""
        (width, count), seen = problem.plain[0].shape, len(problem.seen)
        return cls(np.full(2, 0.5, np.float32), np.zeros((width, seen), np.float32), np.zeros(count, np.float32))

    def packed(self) -> NDArray[np.float64]:
        """Return all weights as one array, to be changed together."""
        return np.concatenate([self.plain, self.learned.ravel(), self.bias]).astype(np.float64)

    @classmethod
    def unpacked(cls, packed: NDArray[np.float64], problem: Problem) -> Fit:
        """Return what ``packed`` packed."""
        values, (width, count) = packed.astype(np.float32), problem.plain[0].shape
        return cls(values[:2], values[2:-count].reshape(width, len(problem.seen)), values[-count:])

    def weights(self, problem: Problem) -> Array:
        """Return the weights of features, (m + n) x G."""
        total: Array = np.tensordot(self.plain, problem.plain, 1)
        total[:, problem.seen] += self.learned
        return total

    def scores(self, problem: Problem, part: NDArray[np.bool_]) -> Array:
        """Return the scores, samples x G, of a part of the samples."""
        scores: Array = problem.features[part] @ self.weights(problem) + self.bias
        return scores


class Loss:
    """How surprising the truth of a part of the samples is, and how far the weights are from plain models.

    The penalty is on the squares of what is learned and of the bias; the weights of the plain models, which are their
    temperatures, are free. A group's bias counts by its share of the truth, as rare ones need one far from 0; a group
    never seen has none.
    """

    def __init__(self, problem: Problem, part: NDArray[np.bool_], penalty: float) -> None:
        """Choose the samples of a problem, at least one, and the weight of the penalty."""
        self._problem, self._penalty = problem, penalty
        features, weight = problem.features[part], problem.weight[part]
        weight = weight / weight.sum()
        truth = problem.truth[part]
        self._share = np.bincount(truth[truth >= 0], weight[truth >= 0], len(problem.plain[0, 0]))
        target = problem.target[part] * weight[:, np.newaxis]
        step = max(_AT_A_TIME // problem.plain[0].size, 1)
        spans = [slice(start, start + step) for start in range(0, len(weight), step)]
        self._parts = [(features[span], target[span], weight[span, np.newaxis]) for span in spans]

    def __call__(self, packed: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return the loss of a packed ``Fit``, and its gradient."""
        fit, problem = Fit.unpacked(packed, self._problem), self._problem
        met = self._share > 0
        weights, bias = fit.weights(problem), met * fit.bias
        slope, slope_of_bias, likelihood = np.zeros(weights.shape), np.zeros(len(bias)), 0.0
        for features, target, weight in self._parts:
            scores = features @ weights
            scores += bias
            scores -= scores.max(axis=1, keepdims=True)
            shares = np.exp(scores)
            totals = shares.sum(axis=1, keepdims=True)
            likelihood += float((target * scores).sum() - (weight * np.log(totals)).sum())
            shares *= weight / totals
            shares -= target
            slope += features.T @ shares
            slope_of_bias += shares.sum(axis=0)
        parts = (
            (problem.plain * slope).sum(axis=(1, 2)),
            (slope[:, problem.seen] + 2 * self._penalty * fit.learned).ravel(),
            met * (slope_of_bias + 2 * self._penalty * self._share * fit.bias),
        )
        distance = float(np.square(fit.learned).sum() + self._share @ np.square(fit.bias))
        return self._penalty * distance - likelihood, np.concatenate(parts)


def pose(samples: Samples, task: Task, groups: NDArray[np.int32]) -> Problem:
    """Return the samples as a problem, over the groups of the task's output classes."""
    mains, count = len(task.main), int(groups.max()) + 1
    features, scales = [], []
    weight = samples.weight / samples.weight.sum()
    for scores in (samples.main.astype(np.float32), samples.sub.astype(np.float32)):
        centred = scores - scores.mean(axis=1, keepdims=True)
        size = float(np.sqrt(weight @ np.square(centred).mean(axis=1)))
        scales.append(np.full(scores.shape[1], 1 / max(size, 1e-6), np.float32))
        features.append(centred * scales[-1])
    of_sub = np.full(len(task.sub), -1)
    for main, similar in enumerate(task.similar):
        of_sub[list(similar)] = groups[main]
    of_sub[list(task.added)] = groups[mains:]
    truth = of_sub[samples.truth]
    target = np.zeros((len(samples), count), np.float32)
    target[np.flatnonzero(truth >= 0), truth[truth >= 0]] = 1
    # Where the truth is none of the output classes, the constraint rule keeps the main class, so the target is what
    # the main model says.
    other = np.flatnonzero(truth < 0)
    member = np.zeros((mains, count), np.float32)
    member[np.arange(mains), groups[:mains]] = 1
    target[other] = _softmax(samples.main[other].astype(np.float32)) @ member
    plain = np.zeros((2, mains + len(task.sub), count), np.float32)
    plain[0, :mains] = member
    plain[1, mains + np.flatnonzero(of_sub >= 0), of_sub[of_sub >= 0]] = 1
    plain /= np.maximum(plain.sum(axis=1, keepdims=True), 1)  # of several classes of a group, their mean
    seen = np.unique(truth[truth >= 0])
    return Problem(np.hstack(features), np.concatenate(scales), plain, truth, target, weight, seen)


def log_frequency(problem: Problem) -> NDArray[np.float64]:
    """Return the logarithm of each group's share of the truth; 0 for those never seen, which thus are not raised."""
    known = problem.truth >= 0
    count = problem.target.shape[1]
    frequency = np.bincount(problem.truth[known], problem.weight[known], count)
    shares: NDArray[np.float64] = np.where(frequency > 0, frequency / max(frequency.sum(), 1e-12), 1)
    return np.asarray(np.log(shares))


def on_scores(problem: Problem, fit: Fit, mains: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weights of the models' scores as they are, G x m and G x n.

    The features are centred, the scores are not, so that every row must sum up to the same; what that is raises all
    groups alike and changes nothing. It is chosen to leave main classes that nothing was learned of with the weights
    of the plain main model, nearly all of them 0.
    """
    weights = (fit.weights(problem) * problem.scale[:, np.newaxis]).T.astype(np.float64)
    main, sub = weights[:, :mains], weights[:, mains:]
    plain = float(fit.plain[0] * problem.scale[0])
    learned = np.isin(np.arange(len(weights)), problem.seen)
    as_they_are = (problem.plain[0].any(axis=0) & ~learned)[:, np.newaxis]
    main = np.where(as_they_are, main, main - main.mean(axis=1, keepdims=True) + plain / mains)
    return main, sub - sub.mean(axis=1, keepdims=True)


def _softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
