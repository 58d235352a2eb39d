"""The files of a report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from classaug_ros.errors import ConfigError, quoted
from classaug_ros.evaluation.report.form import REPORT, misfit
from classaug_ros.evaluation.report.markdown import to_markdown
from classaug_ros.evaluation.report.page import to_html
from classaug_ros.evaluation.report.pictures import Pictures
from classaug_ros.evaluation.report.report_data import FORMAT
from classaug_ros.io.files import kind_of, read_whole, write_all

MAX_BYTES = 2**28
"""Largest report.json read."""


def write_report(report: Mapping[str, Any], folder: Path, pictures: Pictures | None = None) -> None:
    """Write ``report.json``, ``report.md`` and ``report.html`` into a folder, made if need be.

    Args:
        report: what ``build_report`` made.
        folder: takes the files.
        pictures: frames to show in the HTML.

    Raises:
        ConfigError: a file cannot be written; then none is.
    """
    texts = {
        "report.json": _lines(report) + "\n",
        "report.md": to_markdown(report),
        "report.html": to_html(report, {} if pictures is None else pictures.groups),
    }
    write_all({folder / name: text.encode() for name, text in texts.items()})


def load_report(path: Path) -> dict[str, Any]:
    """Read a report: its folder, or its ``report.json``.

    Raises:
        ConfigError: there is none, or it is not one that this version reads.
    """
    file = path / "report.json" if kind_of(path) == "folder" else path
    try:
        report = json.loads(read_whole(file, MAX_BYTES), parse_constant=_no_number)
    except ConfigError as error:
        raise ConfigError(f"{error}; expected a report of `classaug evaluate`") from error.__cause__
    except (ValueError, RecursionError):
        report = None
    if not isinstance(report, dict) or not {"methods", "classes", "provenance"} <= report.keys():
        raise ConfigError(f"{file}: is no report.json of `classaug evaluate`; name one, or the folder it is in")
    if report.get("format") != FORMAT:
        raise ConfigError(f"{file}: expected format {FORMAT}, found {quoted(report.get('format'))}; evaluate again")
    if (wrong := misfit(report, REPORT)) is not None:
        raise ConfigError(f"{file}: {wrong}; evaluate again")
    return report


def _no_number(text: str) -> None:
    raise ValueError(text)


def _lines(value: Any, margin: str = "") -> str:
    """Return JSON with a line for each innermost list or object, so that it can be read and compared by lines."""
    inside = list(value.values() if isinstance(value, dict) else value) if isinstance(value, (dict, list)) else []
    if not any(isinstance(part, (dict, list)) for part in inside):
        return json.dumps(value, allow_nan=False, ensure_ascii=False)
    parts = [_lines(part, margin + " ") for part in inside]
    if isinstance(value, dict):
        parts = [f"{json.dumps(key, ensure_ascii=False)}: {part}" for key, part in zip(value, parts, strict=True)]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n" + ",\n".join(f"{margin} {part}" for part in parts) + f"\n{margin}{closing}"
