"""The report as Markdown, for a terminal or a pull request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MEANS = ("main", "added", "all")
MEAN_TITLES = {"main": "main classes", "added": "added classes", "all": "all"}


def table_2(report: Mapping[str, Any]) -> str:
    """Return the paper's Table 2 for this data as a Markdown table, mIoU in per cent."""
    rows = [
        [told(report, method), *(number(result["miou"][mean]) for mean in MEANS)]
        for method, result in report["methods"].items()
    ]
    return table(["mIoU %", *MEAN_TITLES.values()], rows)


def contours(report: Mapping[str, Any]) -> str:
    """Return the scores near edges of the ground truth as a Markdown table, mIoU in per cent."""
    methods = report["methods"]
    columns = [(px, mean) for px in in_use(report)["contours"] for mean in MEANS]
    rows = [
        [told(report, method), *(number(result["contours"][px][mean]) for px, mean in columns)]
        for method, result in methods.items()
    ]
    return table(["", *(f"{px} px: {mean}" for px, mean in columns)], rows)


def told(report: Mapping[str, Any], method: str) -> str:
    """Return what a method is called beside others; of rules of both kinds those in use are marked."""
    title: str = report["methods"][method]["title"]
    several = {"table", "probability"} <= report["methods"].keys()
    return f"{title} (in use)" if several and method == report["in_use"] else title


def in_use(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of the rules in use."""
    result: dict[str, Any] = report["methods"][report["in_use"]]
    return result


def subs_alone(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the results of each sub model alone."""
    return [result for method, result in report["methods"].items() if method.startswith("sub")]


def to_markdown(report: Mapping[str, Any]) -> str:
    """Return the report as Markdown: Table 2, the IoU of each class, and where the figures come from.

    Without ground truth it has each class's share of the pixels instead of scores.
    """
    made = report["provenance"]
    parts = [
        f"# Class augmentation on {made['dataset']}",
        *(_scores(report) if report["classes"] else _shares(report)),
        "## Provenance",
        "\n".join(f"- {name}: {value}" for name, value in origin(report)),
    ]
    return "\n\n".join(parts) + "\n"


def origin(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return where a report comes from, as names and values."""
    made = report["provenance"]
    versions = {"classaug_ros": made["package_version"], **made["versions"]}
    return [
        ("images", f"{made['images']:,} of {made['dataset']}"),
        ("ground truth", _truth(report)),
        *(
            (f"{role} model", f"{model['name']} (fingerprint {model['fingerprint'][:12]})")
            for role, model in made["models"].items()
        ),
        *(("rules", _learned(rules)) for rules in made["rules"]),
        ("decision", _decision(made["decision"], report["unlabelled"])),
        ("evaluated", f"{made['created']} with {', '.join(f'{name} {value}' for name, value in versions.items())}"),
    ]


def mean_shares(report: Mapping[str, Any]) -> list[float]:
    """Return each output class's share of the pixels, the mean over all frames, 0..1; without frames 0."""
    frames = report["frames"]
    if not frames:
        return [0.0] * len(report["output"])
    return [sum(shares) / len(frames) for shares in zip(*(frame["shares"] for frame in frames), strict=True)]


def calibration(report: Mapping[str, Any]) -> str:
    """Return the expected calibration error in words."""
    pixels = sum(one["pixels"] for one in report["calibration"]["bins"])
    error = number(report["calibration"]["error"])
    return (
        f"Expected calibration error of the {in_use(report)['title']}: {error} points, over {pixels:,} pixels: how far "
        "their confidence and the share of pixels that are right lie apart."
    )


def number(value: float | None) -> str:
    """Return a figure with one decimal, a dash for none."""
    return "-" if value is None else f"{value:.1f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns line up; a `|` in a cell is escaped."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    head, *body = (
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    )
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([head, rule, *body])


def _truth(report: Mapping[str, Any]) -> str:
    if report["provenance"]["truth"] is None:
        return "none"
    found = [abs(frame["apart"]) for frame in report["frames"] if frame["apart"] is not None]
    parts = [f"{report['provenance']['truth']}, for {len(found):,} of {len(report['frames']):,} images"]
    if any(found):
        parts.append(f"at most {max(found) / 1e6:.3g} ms from its image's stamp")
    return ", ".join(parts)


def _learned(rules: Mapping[str, Any]) -> str:
    return (
        f"of kind {rules['kind']}, learned {rules['created']} from {rules['images']:,} images of "
        f"{', '.join(rules['datasets'])}, {rules['pixels']:,} labelled pixels, min_support {rules['min_support']} "
        f"(fingerprint {rules['fingerprint'][:12]}, classaug_ros {rules['package_version']})"
    )


def _decision(decision: Mapping[str, Any], unlabelled: float | None) -> str:
    parts = [f"prefer {decision['prefer']}", f"contours {'on' if decision['contours'] else 'off'}"]
    if decision["min_confidence"]:
        left = f"{number(unlabelled)} % of the pixels left unlabelled"
        parts.append(f"min_confidence {decision['min_confidence']:g}: {left}")
    return ", ".join(parts)


def _scores(report: Mapping[str, Any]) -> list[str]:
    methods = report["methods"]
    per_class = [
        [name, kind, *(number(result["iou"][name]) for result in methods.values())]
        for name, kind in report["classes"].items()
    ]
    return [
        table_2(report),
        "## IoU % per class",
        table(["class", "kind", *(told(report, method) for method in methods)], per_class),
        "## mIoU % near edges",
        "Over the pixels within so many pixels of an edge of the ground truth.",
        contours(report),
        "## Calibration",
        calibration(report),
    ]


def _shares(report: Mapping[str, Any]) -> list[str]:
    rows = [
        [output["name"], output["source"], number(100 * share)]
        for output, share in zip(report["output"], mean_shares(report), strict=True)
        if share
    ]
    return [
        "No ground truth: nothing is scored.",
        "## Share of the pixels %",
        table(["class", "source", "share"], rows),
    ]
