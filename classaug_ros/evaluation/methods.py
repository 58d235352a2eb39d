"""The methods an evaluation scores side by side: every model alone, and the rules of both kinds."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from classaug_ros.imaging.images import Frame
from classaug_ros.io.yamlfile import fingerprint
from classaug_ros.models.labels import LabelMap
from classaug_ros.pipeline.cpu import Pipeline
from classaug_ros.rules import KINDS, Kind, Rules, RuleSet
from classaug_ros.rules.decision import Decision

MAIN_ONLY = "main_only"
TITLES: Mapping[str, str] = {MAIN_ONLY: "main alone", "table": "table rules", "probability": "probability rules"}


@dataclass(frozen=True, eq=False)
class Predicted:
    """What every method says of an image.

    Attributes:
        labels: by method, H x W ids of its model's classes, or of the output classes.
        confidence: H x W uint8, 0..255 for 0..1: how sure the rules in use are.
        seconds: time that all models and the rules in use took.
    """

    labels: Mapping[str, LabelMap]
    confidence: NDArray[np.uint8]
    seconds: float


class Methods:
    """The methods, by the names they have in reports.

    ``main_only``; ``sub_only``, and ``sub2_only`` and so on where there are several sub models; ``table``; and
    ``probability`` where the rules have evidence. The rules are scored as they are, with the decision asked for; those
    of the other kind with the decisions that are the default.

    Attributes:
        rules: the rules.
        decision: how those in use decide.
        in_use: the kind in use: ``probability`` where any of several rules is of it.
        alone: names of the models' own methods, main first.
        names: of all methods, in order.
    """

    def __init__(self, rules: RuleSet, decision: Decision = Decision()) -> None:  # noqa: B008 (frozen)
        """Score ``rules``, deciding by ``decision``.

        Raises:
            ConfigError: the rules cannot do what the decision asks.
        """
        decision.check(rules)
        self.rules, self.decision = rules, decision
        self.in_use: Kind = in_use(rules)
        self.alone = (MAIN_ONLY, *sub_methods(len(rules.rules)))
        self._others = {
            kind: RuleSet([_of_kind(each, kind) for each in rules.rules])
            for kind in KINDS
            if kind != self.in_use and (kind == "table" or any(each.evidence is not None for each in rules.rules))
        }
        kinds = [kind for kind in KINDS if kind == self.in_use or kind in self._others]
        self.names: tuple[str, ...] = (*self.alone, *kinds)

    def predict(self, pipeline: Pipeline, frame: Frame, size: tuple[int, int]) -> Predicted:
        """Return what every method says of an image, at (H, W) = ``size``.

        Raises:
            EngineError: a model failed.
        """
        start = time.perf_counter()
        inferred = pipeline.infer(pipeline.prepare(frame))
        decided = pipeline.decide(inferred, self.rules, self.decision, confidence=True, size=size)
        seconds = time.perf_counter() - start
        if decided.confidence is None:
            raise ValueError("confidence was asked for")
        labels = dict(zip(self.alone, pipeline.labels(inferred, size), strict=True))
        labels[self.in_use] = decided.label
        for kind, rules in self._others.items():
            labels[kind] = pipeline.decide(inferred, rules, size=size).label
        return Predicted({name: labels[name] for name in self.names}, decided.confidence, seconds)

    def titles(self, subs: Sequence[str]) -> dict[str, str]:
        """Return each method's name in words; several sub models are told by theirs, ``subs``."""
        several = len(self.alone) > 2
        alone = [f"{name} alone" if several else "sub alone" for name in subs]
        titles = {**TITLES, **dict(zip(self.alone[1:], alone, strict=True))}
        return {name: titles[name] for name in self.names}

    @property
    def fingerprint(self) -> str:
        """What the methods' results depend on besides models and images."""
        rules = [[each.kind, rules_fingerprint(each)] for each in self.rules.rules]
        return fingerprint([rules, self.decision.prefer, self.decision.min_confidence, self.decision.contours])


def in_use(rules: RuleSet) -> Kind:
    """Return the kind that rules are scored as."""
    return "probability" if any(each.kind == "probability" for each in rules.rules) else "table"


def sub_methods(count: int) -> tuple[str, ...]:
    """Return the names of the methods of so many sub models alone."""
    return tuple("sub_only" if number == 1 else f"sub{number}_only" for number in range(1, count + 1))


def rules_fingerprint(rules: Rules) -> str:
    """Return the fingerprint of what rules of either kind decide and how sure they are, whoever learned them."""
    evidence = "" if rules.evidence is None else hashlib.sha256(rules.evidence.to_bytes()).hexdigest()
    learned = rules.to_parameters(arrays_sha256=evidence)
    return fingerprint([learned[name] for name in ("table", "confidence", "arrays_sha256")])


def _of_kind(rules: Rules, kind: Kind) -> Rules:
    """Return rules of a kind; those without evidence stay tables."""
    return rules if kind == "probability" and rules.evidence is None else replace(rules, kind=kind)
