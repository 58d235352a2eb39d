"""Decider on a GPU: which class each pixel has, from what the models say of it and the rules of every sub model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, TypedDict

import torch

from classaug_ros.fusion.gpu.contours import Contours
from classaug_ros.fusion.gpu.evidence import EvidenceScores
from classaug_ros.fusion.gpu.fuse import Result, ScoreFusion, TableFusion
from classaug_ros.fusion.gpu.join import Join
from classaug_ros.imaging.encodings import Layout
from classaug_ros.models.card import ModelCard
from classaug_ros.models.labels import LabelSpace
from classaug_ros.rules import RuleSet
from classaug_ros.rules.decision import Decision

_Step: TypeAlias = Callable[[Sequence[torch.Tensor], torch.Tensor, int], None]
"""Launches something on the models' outputs, N frames, and the bytes from a row of these to the next."""


class _How(TypedDict):
    alpha: float
    min_confidence: float
    device: torch.device


class GpuDecider:
    """Decides for N frames of one size and layout, by the rules of one or several sub models, and paints.

    It gives what ``cpu_decider.Decider`` and ``fusion.paint`` do. All memory is taken beforehand and a call only
    launches, so that a CUDA graph can hold it. On CUDA the launches go to the current stream of the current device,
    which has to be the result's; this has to be kept until they are done, as the memory they work in goes with it.
    """

    def __init__(
        self,
        models: Sequence[ModelCard],
        rules: RuleSet,
        decision: Decision,
        size: tuple[int, int],
        layout: Layout,
        result: Result,
        *,
        alpha: float,
    ) -> None:
        """Take the memory.

        Args:
            models: cards of the main and then of the sub models, with which the rules were learned.
            rules: rules of each sub model.
            decision: how to decide.
            size: (H, W) of the frames in pixels.
            layout: how their bytes lie.
            result: what calls fill; what is None in it is not wanted.
            alpha: weight of the colours in the overlay, 0..1.
        """
        self._models, self._rules, self._decision = models, rules, decision
        self._size, self._layout, self._result = size, layout, result
        last: _How = {"alpha": alpha, "min_confidence": decision.min_confidence, "device": result.label.device}
        self._steps = [self._alone(0, result, last)] if len(rules.rules) == 1 else self._several(last)

    def __call__(self, outputs: Sequence[torch.Tensor], frames: torch.Tensor, step: int) -> None:
        """Fill the result, whose fault is zeroed beforehand.

        Args:
            outputs: what each model says, N x classes x height x width scores or N x height x width labels, contiguous.
            frames: N x bytes uint8, contiguous.
            step: bytes from a row to the next.

        Raises:
            ValueError: one of them does not fit the models or the size.
        """
        for launch in self._steps:
            launch(outputs, frames, step)

    def _alone(self, number: int, result: Result, how: _How) -> _Step:
        """Return what decides by one sub model's rules."""
        rules = self._rules.rules[number]
        main, sub = self._models[0], self._models[1 + number]
        bits = 0, 1 + number
        if rules.kind == "table" or rules.evidence is None:
            table = TableFusion(main, sub, rules, self._size, self._layout, **how, bits=bits)
            return lambda outputs, frames, step: table(outputs[0], outputs[1 + number], frames, step, result)
        device, batch = how["device"], len(result.label)
        sure = result.confidence is not None or how["min_confidence"] > 0
        scores = EvidenceScores(
            (main, sub), rules.evidence, self._decision.prefer, self._size, device, batch, posterior=sure, bits=bits
        )
        space, convention, shape = rules.output, scores.convention, (scores.scores.shape[2], scores.scores.shape[3])
        painted = space.palette(), space.unlabelled
        fusion = ScoreFusion(convention, rules.evidence.groups, *painted, self._size, self._layout, shape=shape, **how)

        contours = None
        if self._decision.contours:
            on = self._size, self._layout, device, batch
            contours = Contours(len(rules.evidence.groups), shape, convention, *on)

        def launch(outputs: Sequence[torch.Tensor], frames: torch.Tensor, step: int) -> None:
            scores(outputs[0], outputs[1 + number], result.fault)
            bent = None if contours is None else contours(scores.scores, frames, step)
            fusion(scores.scores, scores.posterior, frames, step, result, bent)

        return launch

    def _several(self, last: _How) -> list[_Step]:
        """Return what decides by each sub model's rules and joins what they say, as ``Decider.decide`` does.

        Confidence decides between them, whether it is wanted or not. Ids of the first one are those of the output, but
        may be of a smaller type.
        """
        spaces = [each.output for each in self._rules.rules]
        first = self._labels(spaces[0])
        alone: _How = {**last, "min_confidence": 0}
        steps = [self._alone(0, first, alone)]
        for number, space in enumerate(spaces[1:], start=1):
            further = self._labels(space)
            joined, how = (
                (self._result, last) if number == len(spaces) - 1 else (self._labels(self._rules.output), alone)
            )
            steps += [self._alone(number, further, alone), self._joined(number, first, further, joined, how)]
            first = joined
        return steps

    def _joined(self, number: int, first: Result, further: Result, result: Result, how: _How) -> _Step:
        join = Join(self._rules, number, self._size, self._layout, **how)
        return lambda _, frames, step: join(first, further, frames, step, result)

    def _labels(self, space: LabelSpace) -> Result:
        """Return room for labels of some classes, and their confidence."""
        dtype = torch.uint8 if space.dtype.itemsize == 1 else torch.uint16
        label = torch.empty_like(self._result.label, dtype=dtype)
        sure = torch.empty_like(label, dtype=torch.uint8)
        return Result(label, sure, None, None, self._result.fault)
