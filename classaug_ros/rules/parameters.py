"""Rules as ROS parameters: names, types, checks, and the text of a parameter file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

from classaug_ros.errors import ConfigError, quoted


@dataclass(frozen=True)
class Provenance:
    """Where rules come from, so that they are never used for another model or task.

    Attributes:
        task: fingerprint of the task.
        main_model: fingerprint of the main model file and card.
        sub_model: fingerprint of the sub model file and card.
        datasets: names of the data sets counted.
        images: number of images counted.
        pixels: number of labelled pixels counted.
        min_support: pixels a pair needs to have a rule.
        package_version: version of this package that derived the rules.
        created: UTC time, ISO 8601.
    """

    task: str
    main_model: str
    sub_model: str
    datasets: tuple[str, ...]
    images: int
    pixels: int
    min_support: int
    package_version: str
    created: str


def _parameter_types() -> Iterator[tuple[str, str]]:
    yield "format", "integer"
    yield "kind", "string"
    for name in ("main_classes", "sub_classes", "class_names", "class_sources"):
        yield name, "string_array"
    for name in ("class_colors", "table"):
        yield name, "integer_array"
    yield "confidence", "double_array"
    for name in ("arrays", "arrays_sha256"):
        yield name, "string"
    kinds = {int: "integer", str: "string"}
    for name, hint in get_type_hints(Provenance).items():
        yield f"provenance.{name}", kinds.get(hint, "string_array")


RULES_PARAMETERS: tuple[tuple[str, str], ...] = tuple(_parameter_types())
"""Flat name (without the leading ``rules.``) and ROS type of every parameter rules consist of."""

_ITEM = {"integer": int, "double": (float, int), "string": str}


def checked(values: Mapping[str, object]) -> dict[str, Any]:
    """Return every parameter of ``RULES_PARAMETERS`` by its flat name; arrays are lists.

    Raises:
        ConfigError: one is missing or of another type.
    """
    return {name: _checked(name, kind, values) for name, kind in RULES_PARAMETERS}


def flatten(data: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield nested parameters under their flat names."""
    if not isinstance(data, dict):
        yield prefix, data
        return
    for key, value in data.items():
        yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))


def as_yaml(values: Mapping[str, Any], columns: int) -> str:
    """Format flat parameters; strings are quoted JSON (a subset of YAML), tables have one line per main class."""
    lines = ["# Written by `classaug learn`; load with --params-file, or name it in rules_file.", "/**:"]
    lines += ["  ros__parameters:", "    rules:"]
    provenance = []
    for name, value in values.items():
        _, _, leaf = name.rpartition(".")
        if name in ("table", "confidence"):
            rows = [value[i : i + columns] for i in range(0, len(value), columns)]
            margin = " " * (len("      : [") + len(name))
            text = "[" + f",\n{margin}".join(", ".join(map(str, row)) for row in rows) + "]"
        else:
            text = json.dumps(value, ensure_ascii=False)
        if leaf == name:
            lines.append(f"      {leaf}: {text}")
        else:
            provenance.append(f"        {leaf}: {text}")
    return "\n".join([*lines, "      provenance:", *provenance, ""])


def _checked(name: str, kind: str, values: Mapping[str, object]) -> Any:
    value = values.get(name)
    if value is None:
        raise ConfigError(f"rules.{name}: missing; expected {kind}, as `classaug learn` writes it")
    array = kind.endswith("_array")
    items = value if array else [value]
    if not isinstance(items, Sequence) or isinstance(items, str):
        raise ConfigError(f"rules.{name}: expected {kind}, found {quoted(value)}")
    if not items:
        raise ConfigError(f"rules.{name}: expected {kind}, found an empty one")
    for item in items:
        right = isinstance(item, _ITEM[kind.removesuffix("_array")]) and not isinstance(item, bool)  # type: ignore[arg-type]
        if not right or (isinstance(item, int) and abs(item) >= 2**63):  # ROS's integers have 64 bits
            raise ConfigError(f"rules.{name}: expected {kind}, found {quoted(item)}")
    return list(items) if array else value
