"""Evaluation: the main model alone, the sub model alone, and the rules, on a data set or a recording."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from classaug_ros import fusion
from classaug_ros.data.examples import Example, Source
from classaug_ros.errors import ConfigError
from classaug_ros.evaluation.confusion import ConfusionMatrix, mean_iou
from classaug_ros.evaluation.kept import KeptPredictions
from classaug_ros.evaluation.scoring import METHODS, Scoring, scoring_for
from classaug_ros.files import write_whole
from classaug_ros.interruption import interruption
from classaug_ros.labels import LabelMap
from classaug_ros.pipeline import Pipeline
from classaug_ros.rules import Rules
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
        apart: ns from the stamp of the image to that of its ground truth, 0 in a data set; None without ground truth.
    """

    name: str
    camera: str
    stamp: int
    seconds: float
    miou: dict[str, float]
    shares: tuple[float, ...]
    apart: int | None = None


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


class Scorer:
    """Adds up the scores of examples, one after the other."""

    def __init__(self, scoring: Scoring, classes: int, methods: Sequence[str] = METHODS) -> None:
        """Score ``methods`` over the classes of ``scoring``; ``classes`` is the number of output classes."""
        self._scoring = scoring
        self._classes = classes
        self._matrices = {method: ConfusionMatrix(len(scoring.names)) for method in methods}
        self._frames: list[FrameScore] = []

    def add(self, example: Example, predictions: Mapping[str, LabelMap], seconds: float) -> FrameScore:
        """Score an example; return its own result.

        Args:
            example: the example.
            predictions: labels of each method, at the size of the ground truth where there is one.
            seconds: the time they took.
        """
        own = {method: ConfusionMatrix(len(self._scoring.names)) for method in self._matrices}
        if example.truth is not None:
            scored = self._scoring.truth[example.truth]
            for method, matrix in own.items():
                matrix.update(scored, self._scoring.predictions[method][predictions[method]])
                self._matrices[method].counts += matrix.counts
        output = predictions["rules"]
        score = FrameScore(
            example.name,
            example.camera,
            example.stamp,
            seconds,
            {method: _means(self._scoring, matrix)["all"] for method, matrix in own.items()},
            tuple((np.bincount(output.ravel(), minlength=self._classes) / output.size).tolist()),
            None if example.truth is None else example.apart,
        )
        self._frames.append(score)
        return score

    def evaluation(self) -> Evaluation:
        """Return the scores of all examples so far."""
        return Evaluation(self._scoring, self._matrices, tuple(self._frames))


def evaluate(
    pipeline: Pipeline,
    source: Source,
    task: Task,
    rules: Rules,
    *,
    limit: int | None = None,
    watchers: Sequence[Watcher] = (),
    kept: Path | None = None,
) -> Evaluation:
    """Score both models and the rules, at the size of the ground truth.

    Args:
        pipeline: both models.
        source: images, with ground truth in sub classes or in output classes.
        task: the task the rules were learned for.
        rules: the rules.
        limit: run the first so many images only.
        watchers: see every example and its predictions.
        kept: a folder that keeps predictions, for a second call to go on from; ``kept.discard`` removes it.

    Raises:
        ConfigError: models, rules, task and source do not fit each other, no image has the ground truth that the source
            is to have, or a file cannot be read or written.
        ImageError: an image cannot be read.
        EngineError: a model failed.
        KeyboardInterrupt: on Ctrl-C, between two images.
    """
    check_task(rules, task)
    pipeline.check(rules)
    scorer = Scorer(scoring_for(source.truth, task), len(rules.output))
    predictions = KeptPredictions(pipeline, kept)
    total = len(source) if limit is None else min(limit, len(source))
    with interruption() as interrupted:
        for example in tqdm(islice(source, total), total=total, desc="evaluate", unit="image", disable=None):
            size = example.frame.size if example.truth is None else _size(example.truth)
            main, sub, seconds = predictions.predict(example.frame, size)
            start = time.perf_counter()
            output, _, _ = fusion.fuse(main, sub, rules.table)
            seconds += time.perf_counter() - start
            score = scorer.add(example, dict(zip(METHODS, (main, sub, output), strict=True)), seconds)
            for watcher in watchers:
                watcher(example, Prediction(main, sub, output, score))
            if interrupted.is_set():
                raise KeyboardInterrupt
    evaluation = scorer.evaluation()
    check_truth(source, evaluation)
    return evaluation


def check_task(rules: Rules, task: Task) -> None:
    """Refuse rules that were learned for another task.

    Raises:
        ConfigError: they were.
    """
    if rules.provenance.task != task.fingerprint:
        raise ConfigError(
            "the rules were learned for another task than this one; choose the matching task, or derive rules for this "
            "one with `classaug learn --from-counts`"
        )


def check_truth(source: Source, evaluation: Evaluation) -> None:
    """Refuse an evaluation of a source with ground truth where no image had any.

    Raises:
        ConfigError: none had.
    """
    if source.truth is not None and all(frame.apart is None for frame in evaluation.frames):
        raise ConfigError(f"none of {evaluation.images} images has ground truth; see --truth and --tolerance")


def label_files(folder: Path) -> Watcher:
    """Return a watcher that writes the rules' label images into a folder, one PNG per example."""

    def write(example: Example, prediction: Prediction) -> None:
        path = folder / f"{example.name}.png"
        write_whole(path, cv2.imencode(".png", prediction.output)[1].tobytes())

    return write


def _size(truth: LabelMap) -> tuple[int, int]:
    return truth.shape[0], truth.shape[1]


def _means(scoring: Scoring, matrix: ConfusionMatrix) -> dict[str, float]:
    values = list(zip(scoring.kinds, matrix.iou(), strict=True))
    means = {kind: mean_iou(value for k, value in values if k == kind) for kind in ("main", "added")}
    return {**means, "all": mean_iou(value for kind, value in values if kind in means)}
