"""Comparison of reports: differences against the first, and bounds on what may be lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classaug_ros.errors import ConfigError
from classaug_ros.evaluation.report import load_report
from classaug_ros.evaluation.report.markdown import MEANS, in_use, number, table

IN_USE = "in_use"  # in the place of a method: the rules in use, in each report its own
SAME = 0.05  # points of IoU: less is told as unchanged
NOISE = 1e-9  # points: what rounding of binary numbers may make of a difference


@dataclass(frozen=True, eq=False)
class Run:
    """A report among others.

    Attributes:
        name: what the comparison calls it: A, B, ...
        path: where it was read.
        report: its data.
    """

    name: str
    path: Path
    report: Mapping[str, Any]


@dataclass(frozen=True)
class Bound:
    """The most a score of the rules in use may lose, in points of IoU per cent.

    Attributes:
        what: ``main``, ``added`` or ``all`` for that mean, else a class.
        points: 0 and more.
    """

    what: str
    points: float


def load_runs(paths: Sequence[Path]) -> list[Run]:
    """Read reports: folders, or files of the name report.json.

    Raises:
        ConfigError: there are fewer than two, or one cannot be read or has no scores.
    """
    if len(paths) < 2:
        raise ConfigError(f"expected two reports or more, found {len(paths)}")
    runs = [Run(_letter(index), path, load_report(path)) for index, path in enumerate(paths)]
    for run in runs:
        if not run.report["classes"]:
            raise ConfigError(f"{run.path}: has no scores: it is of images without ground truth")
    return runs


def warnings(runs: Sequence[Run]) -> list[str]:
    """Return what makes the others differ from the first besides their scores, or their scores hard to compare."""
    first, *others = runs
    found = []
    for run in others:
        pair = f"{first.name} and {run.name}"
        found += [f"{pair} are of {what}" for what in _other_data(first.report, run.report)]
        made, own = first.report["provenance"], run.report["provenance"]
        for role in dict.fromkeys([*made["models"], *own["models"]]):
            models = [side["models"].get(role) for side in (made, own)]
            if len({model and model["fingerprint"] for model in models}) > 1:
                names = " and ".join(f"{m['name']} {m['fingerprint'][:12]}" if m else "none" for m in models)
                found.append(f"{pair} have different {role} models ({names})")
        for key, what in (("task", "tasks"), ("fingerprint", "rules"), ("kind", "kinds of rules in use")):
            if [rules[key] for rules in made["rules"]] != [rules[key] for rules in own["rules"]]:
                found.append(f"{pair} have different {what}")
        if made["decision"] != own["decision"]:
            decisions = " and ".join(_decision(side["decision"]) for side in (made, own))
            found.append(f"{pair} decide differently ({decisions})")
        if made["package_version"] != own["package_version"]:
            versions = f"{made['package_version']} and {own['package_version']}"
            found.append(f"{pair} were evaluated with different versions of this program ({versions})")
    return found


def broken(runs: Sequence[Run], bounds: Sequence[Bound]) -> list[str]:
    """Return the bounds that the rules of a later run break against the first, in words.

    Raises:
        ConfigError: a bound cannot be judged: the runs are of different images or ground truth, or the first has no
            such score.
    """
    first, *others = runs
    found = []
    for run in others:
        for what in _other_data(first.report, run.report) if bounds else ():
            raise ConfigError(
                f"{first.path} and {run.path} are of {what}: no bound can be judged; evaluate both on the same data"
            )
        for bound in bounds:
            before, after = _score(first, bound.what), _score(run, bound.what)
            if before is None:
                raise ConfigError(
                    f"{first.path}: has no score for {bound.what!r}, so that it cannot be held to a bound"
                )
            if after is None:
                found.append(f"{bound.what}: {run.name} has no score, {first.name} has {before:.2f}")
            elif before - after > bound.points + NOISE:
                found.append(
                    f"{bound.what}: {run.name} lost {before - after:.2f} points ({before:.2f} to {after:.2f}), "
                    f"allowed are {bound.points:g}"
                )
    return found


def to_markdown(runs: Sequence[Run], methods: Sequence[str] = (IN_USE,)) -> str:
    """Return the comparison as Markdown: warnings, Table 2 and the classes of some methods, by size of change.

    Raises:
        ConfigError: no run has one of the methods.
    """
    parts = ["# Comparison", "\n".join(f"- {_told(run)}" for run in runs)]
    differing = warnings(runs)
    if differing:
        parts.append("\n".join(["> **They differ in more than scores:**", ">", *(f"> - {text}" for text in differing)]))
    parts += ["## mIoU %", _means(runs)]
    for method in methods:
        parts += [f"## IoU % per class, {_title(runs, method)}", *_classes(runs, method)]
    return "\n\n".join(parts) + "\n"


def _means(runs: Sequence[Run]) -> str:
    methods = list(dict.fromkeys(method for run in runs for method in run.report["methods"]))
    if len({run.report["in_use"] for run in runs}) > 1:
        methods.append(IN_USE)
    rows = []
    for method in methods:
        results = [_result(run, method) for run in runs]
        for mean in MEANS:
            values = [result and result["miou"][mean] for result in results]
            rows.append([_title(runs, method), mean, *_against_first(values)])
    return table(["", "classes", *_headings(runs)], rows)


def _result(run: Run, method: str) -> Any:
    """Return the result of a method; None where the report does not have it."""
    return in_use(run.report) if method == IN_USE else run.report["methods"].get(method)


def _title(runs: Sequence[Run], method: str) -> str:
    titles = list(dict.fromkeys(result["title"] for run in runs if (result := _result(run, method))))
    if not titles:
        expected = ", ".join([IN_USE, *dict.fromkeys(name for run in runs for name in run.report["methods"])])
        raise ConfigError(f"--method {method}: no report has it; expected one of: {expected}")
    return f"in use: {' / '.join(titles)}" if len(titles) > 1 else titles[0]


def _classes(runs: Sequence[Run], method: str) -> list[str]:
    names = list(dict.fromkeys(name for run in runs for name in run.report["classes"]))
    results = [_result(run, method) for run in runs]
    values = {name: [result and result["iou"].get(name) for result in results] for name in names}
    size = {name: _size(of_class) for name, of_class in values.items()}
    changed = sorted((name for name in names if size[name] >= SAME), key=lambda name: -size[name])
    parts = []
    if changed:
        kinds = {name: kind for run in reversed(runs) for name, kind in run.report["classes"].items()}
        rows = [[name, kinds[name], *_against_first(values[name])] for name in changed]
        parts.append(table(["class", "kind", *_headings(runs)], rows))
    if len(changed) < len(names):
        same = [name for name in names if name not in changed]
        parts.append(f"Unchanged (by less than {SAME} points): {', '.join(same)}.")
    return parts


def _against_first(values: Sequence[float | None]) -> list[str]:
    """Return the first value, then each other with its difference to the first."""
    first, *others = values
    cells = [number(first)]
    for value in others:
        change = None if first is None or value is None else round(value - first, 1)
        cells += [number(value), "-" if change is None else f"{change or 0.0:+.1f}"]
    return cells


def _headings(runs: Sequence[Run]) -> list[str]:
    first, *others = runs
    return [first.name, *(text for run in others for text in (run.name, f"{run.name} - {first.name}"))]


def _size(values: Sequence[float | None]) -> float:
    """Return how far values are from the first; one that is missing on one side alone is farthest."""
    first, *others = values
    far = 0.0
    for value in others:
        if first is None or value is None:
            far = max(far, 0.0 if value is first else 100.0)
        else:
            far = max(far, abs(value - first))
    return far


def _score(run: Run, what: str) -> float | None:
    result = in_use(run.report)
    scores: Mapping[str, float | None] = result["miou"] if what in MEANS else result["iou"]
    if what not in scores:
        expected = ", ".join((*MEANS, *result["iou"]))
        raise ConfigError(f"{run.path}: has no class {what!r}; expected one of: {expected}")
    return scores[what]


def _other_data(first: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return what differs of the images and the ground truth, in words."""
    found = []
    names = [[(frame["camera"], frame["name"]) for frame in report["frames"]] for report in (first, other)]
    if names[0] != names[1]:
        found.append(f"different images ({len(names[0])} and {len(names[1])}, {_common(*names)} of them the same)")
    pixels = [_pixels(report) for report in (first, other)]
    if pixels[0].keys() != pixels[1].keys():
        only = sorted(pixels[0].keys() ^ pixels[1].keys())
        found.append(f"different classes ({', '.join(only)} in one alone)")
    elif first["classes"] != other["classes"]:
        found.append("classes that are main or added in one alone")
    elif pixels[0] != pixels[1] and names[0] == names[1]:
        found.append("different ground truth of the same images")
    return found


def _common(one: Sequence[tuple[str, str]], other: Sequence[tuple[str, str]]) -> int:
    return len(set(one) & set(other))


def _pixels(report: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of annotated pixels of each scored class."""
    rows = in_use(report)["confusion"]
    return {name: sum(row) for name, row in zip(report["classes"], rows, strict=True)}


def _told(run: Run) -> str:
    made = run.report["provenance"]
    models = ", ".join(f"{role} {model['name']}" for role, model in made["models"].items())
    return f"{run.name}: {run.path} ({made['images']:,} images of {made['dataset']}, {models}, {made['created'][:10]})"


def _decision(decision: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in decision.items())


def _letter(index: int) -> str:
    return chr(ord("A") + index) if index < 26 else f"R{index + 1}"
