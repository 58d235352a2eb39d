"""Influence: what the probability rule makes of each score of both models, for people to read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classaug_ros.learning.score_samples import Samples
from classaug_ros.rules import Evidence, Rules

NAMED = 3  # classes of a group
LISTED = 3  # scores that speak for a group, and as many against it
SMALLEST = 0.005  # of a logarithm: what moves it by less is not worth a word


@dataclass(frozen=True, eq=False)
class Influence:
    """How the groups of the probability rule depend on the scores, over all pixels that samples stand for.

    Attributes:
        gains: G x (m + n), what log P(group) gains on average where one score, of a main or then of a sub class, is
            higher by its standard deviation.
        shares: G, share of the pixels each group is decided for, 0..1.
    """

    gains: NDArray[np.float64]
    shares: NDArray[np.float64]

    @classmethod
    def of(cls, evidence: Evidence, samples: Samples) -> Influence:
        """Return it for samples, at least one.

        The derivative of log P(group) by a score is the group's weight of it, less the mean of all groups' weights,
        each as likely as it is there.
        """
        weights = np.hstack([evidence.main, evidence.sub]).astype(np.float64)
        both = (scores.astype(np.float64) for scores in (samples.main, samples.sub))
        scores = np.hstack([each - each.mean(axis=1, keepdims=True) for each in both])
        weight = samples.weight / samples.weight.sum(dtype=np.float64)
        spread = np.sqrt(weight @ np.square(scores - weight @ scores))
        pooled = scores @ weights.T + evidence.bias
        likely = np.exp(pooled - pooled.max(axis=1, keepdims=True))
        likely /= likely.sum(axis=1, keepdims=True)
        decided = (pooled + evidence.boost).argmax(axis=1)
        return cls(
            (weights - weight @ likely @ weights) * spread,
            np.bincount(decided, weight, len(weights)).astype(np.float64),
        )

    def decided(self) -> list[int]:
        """Return the groups that are decided for somewhere, those with the most pixels first."""
        return [group for group in np.argsort(-self.shares, kind="stable").tolist() if self.shares[group] > 0]


def summarise_evidence(rules: Rules) -> list[str]:
    """Return what the probability rule was fitted to, and its settings, as lines of text."""
    evidence = rules.evidence
    if evidence is None:
        return ["no probability rule: a model returns labels, and only scores can be weighed"]
    chosen = (
        f"settings that did best on {evidence.recordings} parts of the images, held out in turn"
        if evidence.recordings > 1
        else "of a single image no part can be held out, so the settings are the most cautious"
    )
    return [
        f"probability rule: fitted to {evidence.samples:,} pixels; {chosen}:",
        f"  penalty {evidence.penalty:g} on what is learned beyond the two models as they are",
        f"  temperature {evidence.temperature:.2f} divides the scores: above 1 where the fit was too sure of itself",
        f"  gamma {evidence.gamma:.2f} raises rare classes: 0 not at all, 1 as if all were as frequent",
    ]


def describe_evidence(rules: Rules, samples: Samples | None) -> list[str]:
    """Return the probability rule as lines of text; with samples, which scores speak for and against each group."""
    lines = [f"kind in use: {rules.kind}", *summarise_evidence(rules)]
    if rules.evidence is None or not samples:
        return lines
    evidence, influence = rules.evidence, Influence.of(rules.evidence, samples)
    names = group_names(rules)
    lines += [
        "share of the pixels decided for, and the scores that matter most (what the class's log P gains on average",
        "where the score is one standard deviation higher):",
    ]
    scores = [f"main {name}" for name in rules.main_classes] + [f"sub {name}" for name in rules.sub_classes]
    decided = influence.decided()
    for group in decided:
        boost = f"  raised by {evidence.boost[group]:.2f}" if evidence.boost[group] else ""
        lines.append(f"  {names[group]:<20} {influence.shares[group]:6.1%}{boost}")
        for word, sign in (("for", 1), ("against", -1)):
            gains = sign * influence.gains[group]
            most = [score for score in np.argsort(-gains, kind="stable")[:LISTED] if gains[score] >= SMALLEST]
            shown = ", ".join(f"{scores[score]} {sign * gains[score]:+.2f}" for score in most)
            lines += [f"    {word:<8} {shown}"] if shown else []
    never = [name for group, name in enumerate(names) if group not in decided]
    return [*lines, f"  decided for nowhere: {', '.join(never)}"] if never else lines


def group_names(rules: Rules) -> list[str]:
    """Return the names of the groups of rules with evidence: those of their classes, the first few of many."""
    groups = [] if rules.evidence is None else rules.evidence.groups.tolist()
    names: dict[int, list[str]] = {}
    for name, group in zip(rules.output.names, groups, strict=True):
        names.setdefault(group, []).append(name)
    joined = (names[group] for group in sorted(names))
    return [" / ".join(each[:NAMED] + [f"{len(each) - NAMED} more"] * (len(each) > NAMED)) for each in joined]
