"""The frames a report shows: those where the rules did best and worst, gained and lost most."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from classaug_ros import fusion
from classaug_ros.data.examples import Example, Source
from classaug_ros.evaluation.evaluate import Prediction
from classaug_ros.evaluation.methods import MAIN_ONLY, TITLES, in_use
from classaug_ros.evaluation.scoring import scoring_for
from classaug_ros.imaging.drawing import blend, shrunk
from classaug_ros.models.labels import LabelMap
from classaug_ros.rules import RuleSet
from classaug_ros.rules.task import Task

KEPT = 3  # frames of each kind
APART = 20  # frames of a kind lie at least this part of the whole from each other: neighbours look alike
LEAST = 0.0005  # mIoU gained or lost, 0..1
SIDE = 480  # longest side of a picture, pixels
OPACITY = 0.65  # of the class colours over the image
JPEG_QUALITY = 80
NO_OUTPUT = (128, 128, 128)  # truth that no output class means


@dataclass(frozen=True)
class Shot:
    """A frame in pictures.

    Attributes:
        position: of the frame in the evaluation, from 0.
        size: (H, W) of every picture.
        views: JPEG files by what they show: ``image``, ``truth`` (only with ground truth), ``main alone``, and
            the rules in use by their kind, such as ``table rules``.
    """

    position: int
    size: tuple[int, int]
    views: dict[str, bytes]


@dataclass(frozen=True)
class _Ranked:
    value: float
    camera: str
    shot: Shot


class Pictures:
    """A watcher of an evaluation that keeps pictures of a few telling frames, and no more than these in memory."""

    def __init__(self, source: Source, tasks: Sequence[Task], rules: RuleSet) -> None:
        """Watch the evaluation of a source.

        Args:
            source: what is evaluated.
            tasks: the task of each sub model that its rules were learned for.
            rules: the rules.
        """
        self._in_use = in_use(rules)
        self._scored = source.truth is not None
        self._apart = max(1, len(source) // APART)
        self._colors = rules.output.palette()
        self._truth = truth_palette(source, tasks, rules)
        self._count = 0
        self._kept: dict[str, list[_Ranked]] = {title: [] for title, _ in self._rankings()}

    def __call__(self, example: Example, prediction: Prediction) -> None:
        """Keep the example if it is among the first of a kind so far."""
        position, self._count = self._count, self._count + 1
        taken: Shot | None = None
        for title, rank in self._rankings():
            value = rank(prediction)
            rivals = self._rivals(title, value, example.camera, position)
            if rivals is not None:
                taken = taken or self._shot(position, example, prediction)
                ranked = [*rivals, _Ranked(value, example.camera, taken)]
                self._kept[title] = sorted(ranked, key=lambda entry: -entry.value)[:KEPT]

    @property
    def groups(self) -> dict[str, tuple[Shot, ...]]:
        """The frames kept by what they show, the most telling first; of some kinds there may be none."""
        return {title: tuple(entry.shot for entry in kept) for title, kept in self._kept.items()}

    def _rankings(self) -> list[tuple[str, Callable[[Prediction], float]]]:
        """Return the kinds of frames: the higher the value, the sooner it is kept."""
        if not self._scored:
            return [("Changed most by the rules", _changed)]
        return [
            ("Gained most over main alone", lambda prediction: _told(self._gain(prediction))),
            ("Lost most against main alone", lambda prediction: _told(-self._gain(prediction))),
            ("Best frames of the rules", lambda prediction: prediction.score.miou[self._in_use]),
            ("Worst frames of the rules", lambda prediction: -prediction.score.miou[self._in_use]),
        ]

    def _gain(self, prediction: Prediction) -> float:
        return prediction.score.miou[self._in_use] - prediction.score.miou[MAIN_ONLY]

    def _rivals(self, title: str, value: float, camera: str, position: int) -> list[_Ranked] | None:
        """Return which of the kept stay beside a new one, or None where it is not kept itself."""
        kept = self._kept[title]
        if math.isnan(value) or (len(kept) == KEPT and value <= kept[-1].value):
            return None
        near = [e for e in kept if e.camera == camera and abs(e.shot.position - position) < self._apart]
        if any(entry.value >= value for entry in near):
            return None
        return [entry for entry in kept if entry not in near]

    def _shot(self, position: int, example: Example, prediction: Prediction) -> Shot:
        image = shrunk(example.frame.rgb(), SIDE)
        size = image.shape[0], image.shape[1]

        def painted(labels: LabelMap, palette: NDArray[np.uint8]) -> bytes:
            return _jpeg(blend(image, palette[fusion.nearest(labels, size)], OPACITY))

        views = {"image": _jpeg(image)}
        if example.truth is not None:
            views["truth"] = painted(example.truth, self._truth)
        # A main class has the same id and colour among the output classes.
        views[TITLES[MAIN_ONLY]] = painted(prediction.main, self._colors)
        views[TITLES[self._in_use]] = painted(prediction.output, self._colors)
        return Shot(position, size, views)


def truth_palette(source: Source, tasks: Sequence[Task], rules: RuleSet) -> NDArray[np.uint8]:
    """Return the colour of each value of a source's ground truth, (256 or 65536) x 3 uint8 RGB.

    It is that of the output class that counts as the same in the scores (the first, where there are several); grey
    where none does, black where not annotated.
    """
    if source.truth is None:
        return np.zeros((1, 3), np.uint8)
    scoring = scoring_for(source.truth, tasks)
    palette = np.zeros((source.truth.classes.unlabelled + 1, 3), np.uint8)
    output = scoring.predictions[in_use(rules)].tolist()
    for number in source.truth.present:
        name, scored = source.truth.classes.names[number], int(scoring.truth[number])
        if name in rules.output.names:
            palette[number] = rules.output.colors[rules.output.index(name)]
        else:
            palette[number] = rules.output.colors[output.index(scored)] if scored in output else NO_OUTPUT
    return palette


def _told(gain: float) -> float:
    """Return a gain, NaN where there is none worth telling."""
    return gain if gain >= LEAST else math.nan


def _changed(prediction: Prediction) -> float:
    return float(np.mean(prediction.main != prediction.output))


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return encoded.tobytes()
