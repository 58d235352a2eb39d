"""Decider: which class each pixel has, from what the models say of it and the rules of every sub model."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classaug_ros import fusion
from classaug_ros.engines.model_runner import ModelRunner
from classaug_ros.imaging.images import Frame
from classaug_ros.models.labels import LabelMap
from classaug_ros.rules import Rules, RuleSet
from classaug_ros.rules.decision import Decision


@dataclass(frozen=True, eq=False)
class Decided:
    """Labels, and how sure they are.

    Attributes:
        label: H x W output ids.
        confidence: H x W uint8, 0..255 for 0..1; None where nobody asked for it.
    """

    label: LabelMap
    confidence: NDArray[np.uint8] | None


class Decider:
    """Decides for one frame after the other, by the rules of one or several sub models."""

    def __init__(self, runners: Sequence[ModelRunner], workers: Executor) -> None:
        """Decide from outputs of ``runners``, the main model's and then the sub models'; ``workers`` take a share."""
        self._runners = runners
        self._workers = workers

    def decide(
        self,
        outputs: Sequence[NDArray[Any]],
        frame: Frame,
        rules: RuleSet,
        decision: Decision,
        size: tuple[int, int],
        *,
        confidence: bool = False,
    ) -> Decided:
        """Return the label of each pixel.

        Args:
            outputs: what each model says of the frame.
            frame: the image.
            rules: rules of each sub model.
            decision: how to decide.
            size: (H, W) of the labels.
            confidence: whether it is asked for.
        """
        several = len(rules.rules) > 1
        sure = confidence or several or decision.min_confidence > 0
        result = self._alone(outputs, 0, frame, rules.rules[0], decision, size, sure)
        if several:  # the first one's ids are the output's already
            result = Decided(result.label.astype(rules.output.dtype, copy=False), result.confidence)
            for number, each in enumerate(rules.rules[1:], start=1):
                further = self._alone(outputs, number, frame, each, decision, size, sure)
                result = self._joined(result, further, rules, number)
        if decision.min_confidence > 0 and result.confidence is not None:
            result.label[result.confidence < 255 * decision.min_confidence] = rules.output.unlabelled
        return result if confidence else Decided(result.label, None)

    def _alone(
        self,
        outputs: Sequence[NDArray[Any]],
        number: int,
        frame: Frame,
        rules: Rules,
        decision: Decision,
        size: tuple[int, int],
        sure: bool,
    ) -> Decided:
        """Decide by one sub model's rules."""
        ours = (outputs[0], outputs[1 + number])
        runners = (self._runners[0], self._runners[1 + number])
        if rules.kind == "table" or rules.evidence is None:
            beside = self._workers.submit(runners[1].label, ours[1], size)
            main = runners[0].label(ours[0], size)
            sub = beside.result()
            label = fusion.look_up(main, sub, rules.table, self._workers)
            if not sure:
                return Decided(label, None)
            shares = np.round(rules.confidence * 255).astype(np.uint8)
            return Decided(label, fusion.look_up(main, sub, shares, self._workers))
        main_scores, sub_scores = (runner.scores(output) for runner, output in zip(runners, ours, strict=True))
        if not (sure or decision.contours):
            how = rules.evidence, decision.prefer, size, rules.output.dtype
            return Decided(fusion.label_by_evidence(main_scores, sub_scores, *how, self._workers), None)
        groups = fusion.group_scores(main_scores, sub_scores, rules.evidence, size, self._workers)
        scores = fusion.output_scores(groups, main_scores, rules.evidence, decision.prefer, size, self._workers)
        if decision.contours:
            label = fusion.guided_label_map(scores, frame.grey(size), rules.output.dtype, self._workers)
        else:
            label = fusion.label_map(scores.values, size, scores.convention, rules.output.dtype, self._workers)
        if not sure:
            return Decided(label, None)
        return Decided(label, fusion.confidence(label, groups, rules.evidence.groups, self._workers))

    def _joined(self, first: Decided, further: Decided, rules: RuleSet, number: int) -> Decided:
        """Join what the sub models before say, and the one of a number."""
        if first.confidence is None or further.confidence is None:
            raise ValueError("sub models are joined by confidence")
        offered = rules.ids[number][further.label]
        joined = fusion.join(
            *(first.label, first.confidence, offered, further.confidence, rules.added), workers=self._workers
        )
        return Decided(*joined)
