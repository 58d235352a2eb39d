"""Fitting the probability rule to samples: maximum likelihood, with the choices made on recordings held out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar

from classaug_ros.learning.folds import folds
from classaug_ros.learning.problem import Array, Fit, Loss, Problem, log_frequency, on_scores, pose
from classaug_ros.learning.score_samples import Samples
from classaug_ros.rules import Evidence, groups_of
from classaug_ros.rules.task import Task

PENALTIES = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
GAMMAS = tuple(step / 20 for step in range(21))

MOST_TO_CHOOSE = 20_000
"""Samples that penalty, temperature and gamma are chosen on, at most; the rule itself is fitted to all."""

_ITERATIONS = 300
_ITERATIONS_TO_CHOOSE = 60  # each from the weights of the penalty before


@contextmanager
def _one_thread() -> Iterator[None]:
    """Leave BLAS one thread, where threadpoolctl is installed.

    L-BFGS-B solves for some twenty unknowns at each step: with SciPy's own OpenBLAS two threads take 60 times as long
    for that as one, and longer on a machine that does other work.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError:  # it is in no list of ROS packages; the fit is the same without
        yield
        return
    with threadpool_limits(1, "blas"):
        yield


@_one_thread()
def fit_evidence(samples: Samples, images: Sequence[str], task: Task) -> Evidence:
    """Fit the probability rule of a task.

    The scores of both models are the features of a multinomial logistic regression on the group of the truth, whose
    weights are drawn to those of the two models as they are, each with a temperature of its own. How strongly
    (``PENALTIES``), the temperature of the result and gamma (``GAMMAS``) are those that do best on recordings held
    out in turn: by likelihood, by likelihood, and by mIoU. docs/method.md derives it.

    Args:
        samples: at least one.
        images: names of the images they are from.
        task: the similar sets and added classes.
    """
    groups = groups_of(task)
    problem = pose(samples, task, groups)
    _, part = np.unique(folds(images)[samples.image], return_inverse=True)  # images without samples make no part
    log_prior = log_frequency(problem)
    step = -(-len(samples) // MOST_TO_CHOOSE)
    penalty, temperature, gamma = choose(problem.every(step), part[::step], log_prior)
    fitted = solve(problem, np.ones(len(samples), np.bool_), penalty)
    main, sub = on_scores(problem, fitted, len(task.main))
    return Evidence(
        groups,
        (main / temperature).astype(np.float32),
        (sub / temperature).astype(np.float32),
        (fitted.bias / temperature).astype(np.float32),
        (-gamma * log_prior).astype(np.float32),
        gamma,
        temperature,
        penalty,
        len(samples),
        int(part.max()) + 1,
    )


def solve(
    problem: Problem, part: NDArray[np.bool_], penalty: float, start: Fit | None = None, iterations: int = _ITERATIONS
) -> Fit:
    """Return the weights of the least ``Loss`` on a part of the samples."""
    loss = Loss(problem, part, penalty)
    first = (start or Fit.plain_models(problem)).packed()
    found = minimize(loss, first, jac=True, method="L-BFGS-B", options={"maxiter": iterations})
    return Fit.unpacked(found.x, problem)


def choose(problem: Problem, part: NDArray[np.intp], log_prior: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return penalty, temperature and gamma that do best on held-out parts.

    With a single part nothing can be held out: the strongest penalty, no temperature and no gamma.
    """
    if len(np.unique(part)) < 2:
        return PENALTIES[0], 1.0, 0.0
    penalty, held_out = choose_penalty(problem, part)
    temperature = calibrate(problem, held_out)
    return penalty, temperature, choose_gamma(problem, held_out / temperature, log_prior)


def choose_penalty(problem: Problem, part: NDArray[np.intp]) -> tuple[float, Array]:
    """Return the penalty with the greatest likelihood of held-out samples, and their scores, S x G, under it."""
    fits: dict[int, Fit] = {}
    best, chosen, least = PENALTIES[0], np.empty_like(problem.target), np.inf
    for penalty in PENALTIES:
        scores = np.empty_like(problem.target)
        for number in np.unique(part).tolist():
            held = part == number
            fits[number] = solve(problem, ~held, penalty, fits.get(number), _ITERATIONS_TO_CHOOSE)
            scores[held] = fits[number].scores(problem, held)
        loss = _surprise(problem, scores)
        if loss >= least:
            break  # weaker penalties follow the training recordings ever more closely
        best, chosen, least = penalty, scores, loss
    return best, chosen


def calibrate(problem: Problem, scores: Array) -> float:
    """Return the temperature that held-out scores need to be divided by to be most likely.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    found = minimize_scalar(lambda log: _surprise(problem, scores / np.exp(log)), bounds=(-1.5, 1.5), method="bounded")
    return float(np.exp(found.x))


def choose_gamma(problem: Problem, scores: Array, log_prior: NDArray[np.float64]) -> float:
    """Return the gamma with the greatest mean IoU of held-out samples over the groups that are the truth somewhere.

    It is 0 where the truth is none of the output classes anywhere.
    """
    known = problem.truth >= 0
    if not known.any():
        return 0.0
    truth, weight, count = problem.truth[known], problem.weight[known], len(log_prior)

    def mean_iou(gamma: float) -> float:
        label = (scores[known] - gamma * log_prior).argmax(axis=1)
        confusion = np.bincount(truth * count + label, weight, count * count).reshape(count, count)
        hits = confusion.diagonal()
        union = confusion.sum(axis=0) + confusion.sum(axis=1) - hits
        met = problem.seen[union[problem.seen] > 0]  # few samples may leave out a rare group
        return float((hits[met] / union[met]).mean())

    return max(GAMMAS, key=mean_iou)


def _surprise(problem: Problem, scores: Array) -> float:
    """Return the mean negative log likelihood of the truth, where it is one of the output classes.

    Elsewhere the target is the main model's own opinion, and to share its certainty is no virtue.
    """
    known = problem.truth >= 0
    if not known.any():
        known[:] = True
    scores, weight = scores[known] - scores[known].max(axis=1, keepdims=True), problem.weight[known]
    log = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return -float(weight @ (problem.target[known] * log).sum(axis=1) / weight.sum())
