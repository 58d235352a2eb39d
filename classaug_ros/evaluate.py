"""Evaluation on a data set: the main model alone, the sub model alone, and the rules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
from tqdm import tqdm

from classaug_ros import fusion
from classaug_ros.confusion import ConfusionMatrix, mean_iou
from classaug_ros.dataset import Dataset
from classaug_ros.errors import ConfigError
from classaug_ros.files import write_whole
from classaug_ros.labels import LabelMap
from classaug_ros.pipeline import Pipeline
from classaug_ros.rules import Rules
from classaug_ros.scoring import METHODS, Scoring, scoring_for
from classaug_ros.task import Task


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of one data set.

    Attributes:
        scoring: the scored classes.
        matrices: confusion matrix of each method, over the scored classes.
        images: number of images scored.
    """

    scoring: Scoring
    matrices: dict[str, ConfusionMatrix]
    images: int

    def iou(self, method: str) -> dict[str, float]:
        """Return the IoU of each scored class, 0..1 or NaN."""
        return dict(zip(self.scoring.names, self.matrices[method].iou(), strict=True))

    def miou(self, method: str) -> dict[str, float]:
        """Return the mean IoU over ``main``, ``added`` and ``all`` classes, 0..1 or NaN: the paper's Table 2."""
        values = list(zip(self.scoring.kinds, self.matrices[method].iou(), strict=True))
        means = {kind: mean_iou(value for k, value in values if k == kind) for kind in ("main", "added")}
        return {**means, "all": mean_iou(value for kind, value in values if kind in means)}


def evaluate(
    pipeline: Pipeline,
    dataset: Dataset,
    task: Task,
    rules: Rules,
    *,
    limit: int | None = None,
    labels: Path | None = None,
) -> Evaluation:
    """Score both models and the rules on a data set, at the size of its ground truth.

    Args:
        pipeline: both models.
        dataset: images with ground truth in sub classes or in output classes.
        task: the task the rules were learned for.
        rules: the rules.
        limit: score the first so many images only.
        labels: folder to write the rules' label images to, one PNG per image; None for none.

    Raises:
        ConfigError: models, rules, task and data set do not fit each other, or a file cannot be read or written.
        ImageError: an image cannot be read.
        EngineError: a model failed.
    """
    pipeline.check(rules)
    if rules.provenance.task != task.fingerprint:
        raise ConfigError(
            "the rules were learned for another task than this one; choose the matching task, or derive rules for this "
            "one with `classaug learn --from-counts`"
        )
    scoring = scoring_for(dataset, task)
    matrices = {method: ConfusionMatrix(len(scoring.names)) for method in METHODS}
    samples = dataset.samples[:limit]
    for sample in tqdm(samples, desc="evaluate", unit="image", disable=None):
        frame, truth = dataset.read(sample)
        main, sub = pipeline.predict(frame, (truth.shape[0], truth.shape[1]))
        output, _, _ = fusion.fuse(main, sub, rules.table)
        scored = scoring.truth[truth]
        for method, prediction in zip(METHODS, (main, sub, output), strict=True):
            matrices[method].update(scored, scoring.predictions[method][prediction])
        if labels is not None:
            _write_label(labels / f"{sample.image.stem}.png", output)
    return Evaluation(scoring, matrices, len(samples))


def _write_label(path: Path, label: LabelMap) -> None:
    write_whole(path, cv2.imencode(".png", label)[1].tobytes())
