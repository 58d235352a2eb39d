"""Reports of an evaluation: report.json for programs, report.md for people."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from classaug_ros import __version__
from classaug_ros.dataset import Dataset
from classaug_ros.evaluate import Evaluation
from classaug_ros.files import write_whole
from classaug_ros.pipeline import Pipeline
from classaug_ros.rules import Rules

TITLES = {"main_only": "main model alone", "sub_only": "sub model alone", "rules": "rules"}
MEANS = ("main", "added", "all")


def build_report(evaluation: Evaluation, pipeline: Pipeline, dataset: Dataset, rules: Rules) -> dict[str, Any]:
    """Return the report as JSON-able data; every IoU is in per cent, null where it is not defined."""
    return {
        "methods": {
            method: {
                "miou": _per_cent(evaluation.miou(method)),
                "iou": _per_cent(evaluation.iou(method)),
                "confusion": matrix.counts.tolist(),
            }
            for method, matrix in evaluation.matrices.items()
        },
        "classes": dict(zip(evaluation.scoring.names, evaluation.scoring.kinds, strict=True)),
        "provenance": {
            "dataset": dataset.name,
            "images": evaluation.images,
            "models": {
                role: {"name": model.card.name, "fingerprint": model.fingerprint}
                for role, model in (("main", pipeline.main), ("sub", pipeline.sub))
            },
            "rules": asdict(rules.provenance),
            "package_version": __version__,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        },
    }


def table_2(report: Mapping[str, Any]) -> str:
    """Return the paper's Table 2 for this data as a Markdown table, mIoU in per cent."""
    rows = [
        [TITLES[method], *(_number(result["miou"][mean]) for mean in MEANS)]
        for method, result in report["methods"].items()
    ]
    return _table(["mIoU %", "main classes", "added classes", "all"], rows)


def to_markdown(report: Mapping[str, Any]) -> str:
    """Return the report as Markdown: Table 2, the IoU of each class, and where the figures come from."""
    methods = report["methods"]
    per_class = [
        [name, kind, *(_number(result["iou"][name]) for result in methods.values())]
        for name, kind in report["classes"].items()
    ]
    made = report["provenance"]
    models = [f"{role} {model['name']} ({model['fingerprint'][:12]})" for role, model in made["models"].items()]
    learned = made["rules"]
    provenance = [
        f"- {made['images']} images of data set {made['dataset']}",
        f"- models: {', '.join(models)}",
        f"- rules: learned {learned['created']} from {learned['images']} images of {', '.join(learned['datasets'])}",
        f"- counted: {learned['pixels']:,} labelled pixels; min_support {learned['min_support']}",
        f"- classaug_ros {made['package_version']}, {made['created']}",
    ]
    parts = [
        f"# Class augmentation on {made['dataset']}",
        table_2(report),
        "## IoU % per class",
        _table(["class", "kind", *(TITLES[method] for method in methods)], per_class),
        "## Provenance",
        "\n".join(provenance),
    ]
    return "\n\n".join(parts) + "\n"


def write_report(report: Mapping[str, Any], folder: Path) -> None:
    """Write ``report.json`` and ``report.md`` into a folder, made if need be.

    Raises:
        ConfigError: a file cannot be written.
    """
    texts = {"report.json": json.dumps(report, indent=1, allow_nan=False) + "\n", "report.md": to_markdown(report)}
    for name, text in texts.items():
        write_whole(folder / name, text.encode())


def _per_cent(ratios: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(ratio) else 100 * ratio for name, ratio in ratios.items()}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _table(header: list[str], rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    head, *body = (
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in [header, *rows]
    )
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([head, rule, *body])
