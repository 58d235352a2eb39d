"""Inspection: the rules as people read them, alone, or with the counts and the task behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classaug_ros.errors import ConfigError
from classaug_ros.learning.counts import Counts
from classaug_ros.learning.influence import describe_evidence, summarise_evidence
from classaug_ros.rules import Rules
from classaug_ros.rules.task import Task

MARGIN = 0.1
"""Two truths of a pair of predictions are nearly tied when they are this share of its pixels apart, or less."""

SMALLEST_TIE = 1e-5  # share of all pixels: of a rarer pair neither truth is worth a thought
SMALLEST_SHARE = 0.0005  # of a main class's pixels: what becomes of less is only counted
OUTCOMES_LISTED = 12
TIES_LISTED = 20
SUBS_LISTED = 4


@dataclass(frozen=True)
class Tie:
    """A pair of predictions whose two most frequent truths are nearly as frequent.

    Attributes:
        pair: ids of the main and the sub class predicted.
        pixels: how often the pair was seen.
        truths: ids of the two truths, sub classes; f is the first.
        shares: of the pair's pixels, 0..1, by truth.
        outputs: the label under each truth, output ids; the table has the first.
    """

    pair: tuple[int, int]
    pixels: int
    truths: tuple[int, int]
    shares: tuple[float, float]
    outputs: tuple[int, int]

    @property
    def matters(self) -> bool:
        """Whether the other truth would have given another label."""
        return self.outputs[0] != self.outputs[1]


def check_counts(rules: Rules, counts: Counts) -> None:
    """Refuse counts that the rules were not derived from.

    Raises:
        ConfigError: classes, models or the number of pixels differ.
    """
    made = rules.provenance
    pixels = int(counts.triples.sum())
    same = (
        (counts.main_classes, counts.sub_classes) == (rules.main_classes, rules.sub_classes)
        and (counts.main_model, counts.sub_model) == (made.main_model, made.sub_model)
        and pixels == made.pixels
    )
    if not same:
        raise ConfigError(
            f"the rules do not rest on these counts ({pixels:,} pixels of {len(counts.main_classes)} x "
            f"{len(counts.sub_classes)} classes; the rules on {made.pixels:,} of {len(rules.main_classes)} x "
            f"{len(rules.sub_classes)}); name their own, or derive the rules again with `classaug learn --from-counts`"
        )


def check_task(rules: Rules, task: Task) -> None:
    """Refuse a task that the rules were not derived for.

    Raises:
        ConfigError: it is another.
    """
    if task.fingerprint != rules.provenance.task:
        raise ConfigError("the rules were learned for another task than this one; name the one they were learned for")


def support(counts: Counts) -> NDArray[np.int64]:
    """Return how many pixels each pair of predictions was seen at, m x n."""
    pixels: NDArray[np.int64] = counts.triples.sum(axis=2)
    return pixels


def outcomes(rules: Rules, weights: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return what main classes turn into: m x output classes, the weights of pairs (m x n) summed by label."""
    result = np.zeros((len(rules.main_classes), len(rules.output)), np.int64)
    np.add.at(result, (np.arange(len(result))[:, np.newaxis], rules.table), weights)
    return result


def near_ties(rules: Rules, counts: Counts, margin: float = MARGIN) -> tuple[Tie, ...]:
    """Return the pairs that have a rule by a narrow margin: first those whose label hangs on it, then by pixels.

    Args:
        rules: the rules.
        counts: those the rules were derived from.
        margin: the two most frequent truths are at most this share of the pair's pixels apart.
    """
    pixels = support(counts)
    least = max(rules.provenance.min_support, SMALLEST_TIE * pixels.sum(), 1)
    output_of = _outputs_of_truths(rules)
    ties = []
    for i, j in np.argwhere(pixels >= least).tolist():
        triples, total = counts.triples[i, j], int(pixels[i, j])
        first, second = np.argsort(-triples, kind="stable")[:2].tolist() if len(triples) > 1 else (0, 0)
        if first == second or triples[first] - triples[second] > margin * total:
            continue
        shares = float(triples[first] / total), float(triples[second] / total)
        labels = (int(output_of[first]), int(output_of[second]))
        outputs = (i if labels[0] < 0 else labels[0], i if labels[1] < 0 else labels[1])
        ties.append(Tie((i, j), total, (first, second), shares, outputs))
    return tuple(sorted(ties, key=lambda tie: (not tie.matters, -tie.pixels)))


def never_produced(rules: Rules) -> tuple[str, ...]:
    """Return the added classes that no pair of predictions turns into."""
    used = set(np.unique(rules.table).tolist())
    return tuple(name for number, name in enumerate(rules.output.names) if number not in used and _added(rules, number))


def never_similar(task: Task, counts: Counts) -> dict[str, tuple[str, ...]]:
    """Return by main class the sub classes similar to it that were never the truth where main predicted it."""
    seen = counts.triples.sum(axis=1) > 0  # main prediction x truth
    missing = {
        name: tuple(task.sub.names[j] for j in sorted(similar) if not seen[i, j])
        for i, (name, similar) in enumerate(zip(task.main.names, task.similar, strict=True))
    }
    return {name: subs for name, subs in missing.items() if subs}


def summarise(counts: Counts, rules: Rules) -> str:
    """Return what was learned as a short text: of the table pairs seen, their support, and what main classes turn into.

    Then what the probability rule rests on, and its settings.
    """
    lines = [f"{len(counts.images)} images, {counts.triples.sum():,} labelled pixels", *_pairs(rules, support(counts))]
    lines.append("what main classes turn into (share of the pixels predicted as the class):")
    for i, pixels, turned in _by_pixels(outcomes(rules, support(counts))):
        shares = ", ".join(f"{rules.output.names[k]} {share:.1%}" for k, share in turned if share >= SMALLEST_SHARE)
        lines.append(f"  {rules.main_classes[i]:<16} {pixels:>12,} px  {shares}")
    return "\n".join(lines + summarise_evidence(rules))


def describe(rules: Rules, counts: Counts | None = None, task: Task | None = None) -> str:
    """Return all there is to tell about rules as text.

    Args:
        rules: the rules.
        counts: those they were derived from, for support and ties, and for what the scores do.
        task: the one they were derived for, for similar classes; used together with counts.

    Raises:
        ConfigError: counts or task are not those of the rules.
    """
    if task is not None:
        check_task(rules, task)
    if counts is None:
        parts = [_provenance(rules), describe_evidence(rules, None)]
        parts += [[f"table: added classes reached: {_reached(rules)}"], _becomes(rules, None)]
        return "\n\n".join("\n".join(part) for part in parts)
    check_counts(rules, counts)
    parts = [_provenance(rules), describe_evidence(rules, counts.samples)]
    parts += [
        _pairs(rules, support(counts)),
        _becomes(rules, support(counts)),
        _ties(rules, counts),
        _unused(rules, counts),
    ]
    if task is not None:
        parts.append(_dissimilar(task, counts))
    return "\n\n".join("\n".join(part) for part in parts if part)


def _outputs_of_truths(rules: Rules) -> NDArray[np.int64]:
    """Return the output id each truth gives, by sub class; -1 where the main class stays."""
    m = len(rules.main_classes)
    added = {name: m + number for number, name in enumerate(rules.output.names[m:])}
    return np.array([added.get(name, -1) for name in rules.sub_classes], np.int64)


def _added(rules: Rules, number: int) -> bool:
    return rules.sources[number] == "added"


def _provenance(rules: Rules) -> list[str]:
    made = rules.provenance
    added = len(rules.output) - len(rules.main_classes)
    return [
        f"{len(rules.main_classes)} main x {len(rules.sub_classes)} sub classes; output: the main and {added} added",
        (
            f"learned {made.created} from {made.images} images of {', '.join(made.datasets)}: {made.pixels:,} labelled "
            f"pixels, min_support {made.min_support}"
        ),
        f"models: main {made.main_model[:12]}, sub {made.sub_model[:12]}; task {made.task[:12]}",
    ]


def _pairs(rules: Rules, pixels: NDArray[np.int64]) -> list[str]:
    least = rules.provenance.min_support
    given = int((rules.table >= len(rules.main_classes)).sum())
    return [
        (
            f"table: {int((pixels > 0).sum())} of {pixels.size} pairs of predictions seen, "
            f"{int((pixels >= least).sum())} often enough for a rule (min_support {least}); {given} give an added class"
        ),
        f"added classes reached: {_reached(rules)}",
    ]


def _reached(rules: Rules) -> str:
    added, never = len(rules.output) - len(rules.main_classes), never_produced(rules)
    return f"{added - len(never)} of {added}" + (f"; never: {', '.join(never)}" if never else "")


def _by_pixels(turned: NDArray[np.int64]) -> list[tuple[int, int, list[tuple[int, float]]]]:
    """Return (main class, weight, [(output class, share of it)]), the heaviest first everywhere, none without any."""
    result = []
    for i in np.argsort(-turned.sum(axis=1), kind="stable").tolist():
        total = int(turned[i].sum())
        order = np.argsort(-turned[i], kind="stable").tolist()
        if total:
            result.append((i, total, [(k, float(turned[i, k] / total)) for k in order if turned[i, k]]))
    return result


def _becomes(rules: Rules, pixels: NDArray[np.int64] | None) -> list[str]:
    """Tell what each main class turns into, and at which sub predictions; by pairs where there are no pixels."""
    weights = np.ones(rules.table.shape, np.int64) if pixels is None else pixels
    unit, units = ("pairs", "pairs") if pixels is None else ("px", "pixels")
    turned = _by_pixels(outcomes(rules, weights))
    lines = [f"what main classes turn into (share of the {units} with the class predicted), and where:"]
    for i, total, shares in turned:
        if [k for k, _ in shares] == [i]:
            continue
        lines.append(f"  {rules.main_classes[i]:<20} {total:>12,} {unit}")
        shown = [(k, share) for k, share in shares if share >= SMALLEST_SHARE][:OUTCOMES_LISTED]
        lines += [
            f"    {share:6.1%}  {rules.output.names[k]:<20} {_where(rules, weights, i, k)}".rstrip()
            for k, share in shown
        ]
        if len(shown) < len(shares):
            rest = shares[len(shown) :]
            lines.append(f"    {sum(share for _, share in rest):6.1%}  {len(rest)} more")
    kept = [rules.main_classes[i] for i, _, shares in turned if [k for k, _ in shares] == [i]]
    never = sorted(set(range(len(rules.main_classes))) - {i for i, _, _ in turned})
    lines += [f"  always kept: {', '.join(kept)}"] if kept else []
    lines += [f"  never predicted: {', '.join(rules.main_classes[i] for i in never)}"] if never else []
    return lines


def _where(rules: Rules, weights: NDArray[np.int64], i: int, k: int) -> str:
    """Name the sub predictions that turn main class i into output class k, the heaviest first."""
    if not _added(rules, k):
        return ""
    subs = [j for j in np.argsort(-weights[i], kind="stable").tolist() if rules.table[i, j] == k and weights[i, j]]
    names = [rules.sub_classes[j] for j in subs]
    return "where sub says so" if names == [rules.output.names[k]] else f"where sub says {_listed(names)}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SUBS_LISTED
    return ", ".join(names) if more <= 1 else f"{', '.join(names[:SUBS_LISTED])} and {more} more"


def _ties(rules: Rules, counts: Counts) -> list[str]:
    ties = near_ties(rules, counts)
    total = int(counts.triples.sum())
    if not ties:
        return [f"near ties (the two most frequent truths at most {MARGIN:.0%} apart): none"]
    swayed = [tie for tie in ties if tie.matters]
    lines = [
        (
            f"near ties (the two most frequent truths at most {MARGIN:.0%} apart): {len(ties)} pairs with "
            f"{sum(tie.pixels for tie in ties) / total:.2%} of the pixels; the label hangs on {len(swayed)} of them, "
            f"with {sum(tie.pixels for tie in swayed) / total:.2%}:"
        )
    ]
    names, truths = rules.output.names, rules.sub_classes
    for tie in ties[:TIES_LISTED]:
        (i, j), (first, second), (most, less) = tie.pair, tie.truths, tie.shares
        label = names[tie.outputs[0]]
        lines.append(
            f"  {tie.pixels:>12,} px  {rules.main_classes[i]} | {rules.sub_classes[j]}: truth {truths[first]} "
            f"{most:.1%}, {truths[second]} {less:.1%} -> {label}"
            + (f", else {names[tie.outputs[1]]}" if tie.matters else " either way")
        )
    if len(ties) > TIES_LISTED:
        lines.append(f"  and {len(ties) - TIES_LISTED} more")
    return lines


def _unused(rules: Rules, counts: Counts) -> list[str]:
    never = never_produced(rules)
    truths = counts.triples.sum(axis=(0, 1))
    lines = ["added classes never produced:"] if never else []
    for name in never:
        pixels = int(truths[rules.sub_classes.index(name)])
        why = f"the truth of {pixels:,} px, at no pair the most frequent" if pixels else "not in the ground truth"
        lines.append(f"  {name}: {why}")
    return lines


def _dissimilar(task: Task, counts: Counts) -> list[str]:
    missing = never_similar(task, counts)
    if not missing:
        return ["similar classes that never occur: none"]
    lines = ["similar classes that never occur (never the truth where main says so):"]
    return lines + [f"  {name}: {', '.join(subs)}" for name, subs in missing.items()]
