"""The form that report.json must have for those who read it again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from classaug_ros.errors import quoted

Form: TypeAlias = Any
"""A type, a tuple of types, a list of one form, a dictionary of one form under ``ANY``, or of forms by key."""

ANY = "*"

_SCORE = (int, float, type(None))
_SCORES = {ANY: _SCORE}
REPORT: Form = {
    "in_use": str,
    "methods": {ANY: {"title": str, "miou": _SCORES, "iou": _SCORES, "confusion": [[int]]}},
    "classes": {ANY: str},
    "frames": [{"name": str, "camera": str}],
    "provenance": {
        "dataset": str,
        "images": int,
        "models": {ANY: {"name": str, "fingerprint": str}},
        "rules": [{"task": str, "fingerprint": str, "kind": str}],
        "decision": {ANY: (str, int, float, bool)},
        "package_version": str,
        "created": str,
    },
}
"""What a comparison reads of a report, which has more in it."""


def misfit(report: Mapping[str, Any], form: Form) -> str | None:
    """Return what of a report is not of a form, in words; None where all is."""
    return next(_misfits(report, form, ""), None) or _contradiction(report)


def _misfits(value: Any, form: Form, where: str) -> Iterator[str]:
    kind = type(form) if isinstance(form, (dict, list)) else form
    if not _is(value, kind):
        yield f"{where.rstrip('.') or 'report'}: found {quoted(value)}"
    elif isinstance(form, list):
        for part in value:
            yield from _misfits(part, form[0], where)
    elif isinstance(form, dict):
        parts = dict.fromkeys(value, form[ANY]) if ANY in form else form
        for key, inner in parts.items():
            if key not in value:
                yield f"{where}{key}: is missing"
            else:
                yield from _misfits(value[key], inner, f"{where}{key:.40}.")


def _is(value: object, form: Form) -> bool:
    kinds: tuple[type, ...] = form if isinstance(form, tuple) else (form,)
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds) and not (isinstance(value, float) and not math.isfinite(value))


def _contradiction(report: Mapping[str, Any]) -> str | None:
    if report["in_use"] not in report["methods"]:
        return f"in_use: {quoted(report['in_use'])} is none of its methods"
    classes = report["classes"]
    for name, result in report["methods"].items():
        if not {"main", "added", "all"} <= result["miou"].keys() or (
            classes and not classes.keys() <= result["iou"].keys()
        ):
            return f"methods.{name:.40}: lacks a mean or a class"
        if classes and len(result["confusion"]) != len(classes):
            return f"methods.{name:.40}.confusion: has {len(result['confusion'])} rows for {len(classes)} classes"
    return None
