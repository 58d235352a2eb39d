"""Evaluation: the main model alone, the sub model alone, and the rules, on a data set or a recording."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from classaug_ros import fusion
from classaug_ros.confusion import ConfusionMatrix, mean_iou
from classaug_ros.errors import ConfigError
from classaug_ros.examples import Example, Source
from classaug_ros.files import write_whole
from classaug_ros.labels import LabelMap
from classaug_ros.pipeline import Pipeline
from classaug_ros.rules import Rules
from classaug_ros.scoring import METHODS, Scoring, scoring_for
from classaug_ros.task import Task


@dataclass(frozen=True)
class FrameScore:
    """One example's result.

    Attributes:
        name, camera, stamp: the example's.
        seconds: time both models and fusion took.
        miou: by method the mean IoU, 0..1, over the scored main and added classes that are in the example's truth or
            predicted in it; NaN where there are none, as without ground truth.
        shares: by output class the share of the pixels that the rules gave it, 0..1.
    """

    name: str
    camera: str
    stamp: int
    seconds: float
    miou: dict[str, float]
    shares: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What each method says of one example.

    Attributes:
        main, sub, output: H x W ids of main, sub and output classes; H x W is the ground truth's size, or the image's
            where there is none.
        score: the example's result.
    """

    main: LabelMap
    sub: LabelMap
    output: LabelMap
    score: FrameScore


Watcher = Callable[[Example, Prediction], None]
"""Sees every example with its predictions, in order."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of one source.

    Attributes:
        scoring: the scored classes; none without ground truth.
        matrices: confusion matrix of each method, over the scored classes.
        frames: every example's own result, in order.
    """

    scoring: Scoring
    matrices: dict[str, ConfusionMatrix]
    frames: tuple[FrameScore, ...]

    @property
    def images(self) -> int:
        """Number of examples run."""
        return len(self.frames)

    def iou(self, method: str) -> dict[str, float]:
        """Return the IoU of each scored class, 0..1 or NaN."""
        return dict(zip(self.scoring.names, self.matrices[method].iou(), strict=True))

    def miou(self, method: str) -> dict[str, float]:
        """Return the mean IoU over ``main``, ``added`` and ``all`` classes, 0..1 or NaN: the paper's Table 2."""
        return _means(self.scoring, self.matrices[method])


def evaluate(
    pipeline: Pipeline,
    source: Source,
    task: Task,
    rules: Rules,
    *,
    limit: int | None = None,
    watchers: Sequence[Watcher] = (),
) -> Evaluation:
    """Score both models and the rules, at the size of the ground truth.

    Args:
        pipeline: both models.
        source: images, with ground truth in sub classes or in output classes.
        task: the task the rules were learned for.
        rules: the rules.
        limit: run the first so many images only.
        watchers: see every example and its predictions.

    Raises:
        ConfigError: models, rules, task and source do not fit each other, or a file cannot be read or written.
        ImageError: an image cannot be read.
        EngineError: a model failed.
    """
    pipeline.check(rules)
    if rules.provenance.task != task.fingerprint:
        raise ConfigError(
            "the rules were learned for another task than this one; choose the matching task, or derive rules for this "
            "one with `classaug learn --from-counts`"
        )
    scoring = scoring_for(source.truth, task)
    matrices = {method: ConfusionMatrix(len(scoring.names)) for method in METHODS}
    frames = []
    total = len(source) if limit is None else min(limit, len(source))
    for example in tqdm(islice(source, total), total=total, desc="evaluate", unit="image", disable=None):
        start = time.perf_counter()
        main, sub = pipeline.predict(example.frame, None if example.truth is None else _size(example.truth))
        output, _, _ = fusion.fuse(main, sub, rules.table)
        seconds = time.perf_counter() - start
        own = _matrices(scoring, example.truth, (main, sub, output))
        for method, matrix in own.items():
            matrices[method].counts += matrix.counts
        score = FrameScore(
            example.name,
            example.camera,
            example.stamp,
            seconds,
            {method: _means(scoring, matrix)["all"] for method, matrix in own.items()},
            tuple((np.bincount(output.ravel(), minlength=len(rules.output)) / output.size).tolist()),
        )
        frames.append(score)
        for watcher in watchers:
            watcher(example, Prediction(main, sub, output, score))
    return Evaluation(scoring, matrices, tuple(frames))


def label_files(folder: Path) -> Watcher:
    """Return a watcher that writes the rules' label images into a folder, one PNG per example."""

    def write(example: Example, prediction: Prediction) -> None:
        path = folder / f"{example.name}.png"
        write_whole(path, cv2.imencode(".png", prediction.output)[1].tobytes())

    return write


def _size(truth: LabelMap) -> tuple[int, int]:
    return truth.shape[0], truth.shape[1]


def _matrices(scoring: Scoring, truth: LabelMap | None, predictions: Sequence[LabelMap]) -> dict[str, ConfusionMatrix]:
    matrices = {method: ConfusionMatrix(len(scoring.names)) for method in METHODS}
    if truth is not None:
        scored = scoring.truth[truth]
        for (method, matrix), prediction in zip(matrices.items(), predictions, strict=True):
            matrix.update(scored, scoring.predictions[method][prediction])
    return matrices


def _means(scoring: Scoring, matrix: ConfusionMatrix) -> dict[str, float]:
    values = list(zip(scoring.kinds, matrix.iou(), strict=True))
    means = {kind: mean_iou(value for k, value in values if k == kind) for kind in ("main", "added")}
    return {**means, "all": mean_iou(value for kind, value in values if kind in means)}
