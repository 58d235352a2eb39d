"""The report as Markdown, for a terminal or a pull request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

TITLES = {"main_only": "main model alone", "sub_only": "sub model alone", "rules": "rules"}
MEANS = ("main", "added", "all")


def table_2(report: Mapping[str, Any]) -> str:
    """Return the paper's Table 2 for this data as a Markdown table, mIoU in per cent."""
    rows = [
        [TITLES[method], *(number(result["miou"][mean]) for mean in MEANS)]
        for method, result in report["methods"].items()
    ]
    return table(["mIoU %", "main classes", "added classes", "all"], rows)


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
    learned = made["rules"]
    rules = (
        f"learned {learned['created']} from {learned['images']:,} images of {', '.join(learned['datasets'])}, "
        f"{learned['pixels']:,} labelled pixels, min_support {learned['min_support']} "
        f"(fingerprint {learned['fingerprint'][:12]}, classaug_ros {learned['package_version']})"
    )
    versions = {"classaug_ros": made["package_version"], **made["versions"]}
    return [
        ("images", f"{made['images']:,} of {made['dataset']}"),
        ("ground truth", _truth(report)),
        *(
            (f"{role} model", f"{model['name']} (fingerprint {model['fingerprint'][:12]})")
            for role, model in made["models"].items()
        ),
        ("rules", rules),
        ("evaluated", f"{made['created']} with {', '.join(f'{name} {value}' for name, value in versions.items())}"),
    ]


def mean_shares(report: Mapping[str, Any]) -> list[float]:
    """Return each output class's share of the pixels, the mean over all frames, 0..1; without frames 0."""
    frames = report["frames"]
    if not frames:
        return [0.0] * len(report["output"])
    return [sum(shares) / len(frames) for shares in zip(*(frame["shares"] for frame in frames), strict=True)]


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


def _scores(report: Mapping[str, Any]) -> list[str]:
    methods = report["methods"]
    per_class = [
        [name, kind, *(number(result["iou"][name]) for result in methods.values())]
        for name, kind in report["classes"].items()
    ]
    return [
        table_2(report),
        "## IoU % per class",
        table(["class", "kind", *(TITLES[method] for method in methods)], per_class),
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
