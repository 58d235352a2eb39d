"""Evaluation: every model alone, and the rules of both kinds, on a data set or a recording."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from classaug_ros import fusion
from classaug_ros.data.examples import Example, Source
from classaug_ros.errors import ConfigError
from classaug_ros.evaluation.calibration import Calibration
from classaug_ros.evaluation.confusion import ConfusionMatrix, mean_iou
from classaug_ros.evaluation.contour import Contours
from classaug_ros.evaluation.methods import MAIN_ONLY, Methods, Predicted
from classaug_ros.evaluation.prediction_cache import PredictionCache
from classaug_ros.evaluation.scoring import Scoring, scoring_for
from classaug_ros.io.files import write_whole
from classaug_ros.io.interruption import interruption
from classaug_ros.models.labels import LabelMap
from classaug_ros.pipeline.cpu import Pipeline
from classaug_ros.rules import RuleSet
from classaug_ros.rules.decision import Decision
from classaug_ros.rules.task import Task

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FrameScore:
    """One example's result.

    Attributes:
        name, camera, stamp: the example's.
        seconds: time all models and the rules in use took.
        miou: by method the mean IoU, 0..1, over the scored main and added classes that are in the example's truth or
            predicted in it; NaN where there are none, as without ground truth.
        shares: by output class the share of the pixels that the rules in use gave it, 0..1.
        apart: ns from the stamp of the image to that of its ground truth, 0 in a data set; None without ground truth.
        unlabelled: share of the pixels that the rules in use left without a class, 0..1.
    """

    name: str
    camera: str
    stamp: int
    seconds: float
    miou: dict[str, float]
    shares: tuple[float, ...]
    apart: int | None = None
    unlabelled: float = 0.0


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the main model and the rules in use say of one example.

    Attributes:
        main, output: H x W ids of main and output classes, or unlabelled; H x W is the ground truth's size, or the
            image's where there is none.
        score: the example's result.
    """

    main: LabelMap
    output: LabelMap
    score: FrameScore


Watcher = Callable[[Example, Prediction], None]
"""Sees every example with its predictions, in order."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of one source.

    Attributes:
        methods: what was scored.
        scoring: the scored classes; none without ground truth.
        matrices: confusion matrix of each method, over the scored classes.
        contours: the same near edges of the ground truth.
        calibration: how far the confidence of the rules in use can be trusted.
        frames: every example's own result, in order.
    """

    methods: Methods
    scoring: Scoring
    matrices: dict[str, ConfusionMatrix]
    contours: Contours
    calibration: Calibration
    frames: tuple[FrameScore, ...]

    @property
    def images(self) -> int:
        """Number of examples run."""
        return len(self.frames)

    @property
    def unlabelled(self) -> float:
        """Share of the pixels that the rules in use left without a class, 0..1, the mean over all examples."""
        return sum(frame.unlabelled for frame in self.frames) / len(self.frames) if self.frames else math.nan

    def iou(self, method: str) -> dict[str, float]:
        """Return the IoU of each scored class, 0..1 or NaN."""
        return dict(zip(self.scoring.names, self.matrices[method].iou(), strict=True))

    def miou(self, method: str) -> dict[str, float]:
        """Return the mean IoU over ``main``, ``added`` and ``all`` classes, 0..1 or NaN: the paper's Table 2."""
        return _means(self.scoring, self.matrices[method])

    def contour_miou(self, method: str) -> dict[int, dict[str, float]]:
        """Return the same over the pixels near edges of the ground truth, by distance."""
        return {within: _means(self.scoring, matrix) for within, matrix in self.contours.matrices[method].items()}


class Scorer:
    """Adds up the scores of examples, one after the other."""

    def __init__(self, scoring: Scoring, methods: Methods) -> None:
        """Score ``methods`` over the classes of ``scoring``."""
        classes = len(scoring.names)
        self._scoring, self._methods = scoring, methods
        self._matrices = {method: ConfusionMatrix(classes) for method in methods.names}
        self._contours = Contours(methods.names, classes)
        self._calibration = Calibration()
        self._frames: list[FrameScore] = []

    def add(self, example: Example, predicted: Predicted) -> Prediction:
        """Score an example.

        Args:
            example: the example.
            predicted: what the methods say of it, at the size of the ground truth where there is one.
        """
        own = {method: ConfusionMatrix(len(self._scoring.names)) for method in self._matrices}
        output = predicted.labels[self._methods.in_use]
        if example.truth is not None:
            truth = self._scoring.truth[example.truth]
            called = {method: self._scoring.predictions[method][labels] for method, labels in predicted.labels.items()}
            for method, matrix in own.items():
                matrix.update(truth, called[method])
                self._matrices[method].counts += matrix.counts
            self._contours.update(truth, called)
            judged = (truth >= 0) & (output != self._methods.rules.output.unlabelled)
            self._calibration.update(predicted.confidence[judged], (called[self._methods.in_use] == truth)[judged])
        classes = len(self._methods.rules.output)
        shares = (np.bincount(output.ravel(), minlength=classes)[:classes] / output.size).tolist()
        score = FrameScore(
            example.name,
            example.camera,
            example.stamp,
            predicted.seconds,
            {method: _means(self._scoring, matrix)["all"] for method, matrix in own.items()},
            tuple(shares),
            None if example.truth is None else example.apart,
            float(np.mean(output == self._methods.rules.output.unlabelled)),
        )
        self._frames.append(score)
        return Prediction(predicted.labels[MAIN_ONLY], output, score)

    def evaluation(self) -> Evaluation:
        """Return the scores of all examples so far."""
        frames = tuple(self._frames)
        return Evaluation(self._methods, self._scoring, self._matrices, self._contours, self._calibration, frames)


def evaluate(
    pipeline: Pipeline,
    source: Source,
    tasks: Sequence[Task],
    rules: RuleSet,
    decision: Decision = Decision(),  # noqa: B008 (frozen)
    *,
    limit: int | None = None,
    watchers: Sequence[Watcher] = (),
    kept: Path | None = None,
) -> Evaluation:
    """Score the models and the rules, at the size of the ground truth.

    Args:
        pipeline: all models.
        source: images, with ground truth in sub classes of one task or in output classes.
        tasks: the task of each sub model that its rules were learned for.
        rules: the rules.
        decision: how those in use decide.
        limit: run the first so many images only.
        watchers: see every example and its predictions.
        kept: a folder that keeps predictions, for a second call to go on from; ``prediction_cache.discard`` removes it.

    Raises:
        ConfigError: models, rules, tasks and source do not fit each other, the rules cannot do what the decision asks,
            no image has the ground truth that the source is to have, or a file cannot be read or written.
        ImageError: an image cannot be read.
        EngineError: a model failed.
        KeyboardInterrupt: on Ctrl-C, between two images.
    """
    check_tasks(rules, tasks)
    pipeline.check(rules)
    methods = Methods(rules, decision)
    scorer = Scorer(scoring_for(source.truth, tasks), methods)
    predictions = PredictionCache(pipeline, methods, kept)
    total = len(source) if limit is None else min(limit, len(source))
    with fusion.telling(_logger.info), interruption() as interrupted:
        for example in tqdm(islice(source, total), total=total, desc="evaluate", unit="image", disable=None):
            prediction = scorer.add(example, predictions.predict(example.frame, scored_size(example)))
            for watcher in watchers:
                watcher(example, prediction)
            if interrupted.is_set():
                raise KeyboardInterrupt
    evaluation = scorer.evaluation()
    check_truth(source, evaluation)
    return evaluation


def check_tasks(rules: RuleSet, tasks: Sequence[Task]) -> None:
    """Refuse rules that were learned for other tasks.

    Raises:
        ConfigError: they were.
    """
    if len(tasks) != len(rules.rules):
        raise ConfigError(
            f"there are rules for {len(rules.rules)} sub models, but {len(tasks)} tasks; give each its own"
        )
    if any(each.provenance.task != task.fingerprint for each, task in zip(rules.rules, tasks, strict=True)):
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


def scored_size(example: Example) -> tuple[int, int]:
    """Return (H, W) of an example's label maps: that of its ground truth, or of the image where there is none."""
    if example.truth is None:
        return example.frame.size
    return example.truth.shape[0], example.truth.shape[1]


def label_files(folder: Path) -> Watcher:
    """Return a watcher that writes the label images of the rules in use into a folder, one PNG per example."""

    def write(example: Example, prediction: Prediction) -> None:
        path = folder / f"{example.name}.png"
        write_whole(path, cv2.imencode(".png", prediction.output)[1].tobytes())

    return write


def _means(scoring: Scoring, matrix: ConfusionMatrix) -> dict[str, float]:
    values = list(zip(scoring.kinds, matrix.iou(), strict=True))
    means = {kind: mean_iou(value for k, value in values if k == kind) for kind in ("main", "added")}
    return {**means, "all": mean_iou(value for kind, value in values if kind in means)}
