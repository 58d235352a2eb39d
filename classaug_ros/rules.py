"""Rules: the paper's co-occurrence rule f, its constraint rule g, and the table a ROS parameter file carries."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
from numpy.typing import NDArray

from classaug_ros.errors import ConfigError
from classaug_ros.files import write_whole
from classaug_ros.labels import LabelMap, LabelSpace
from classaug_ros.task import Task
from classaug_ros.yamlfile import read_mapping

FORMAT = 1
NO_RULE = -1  # f of a pair never seen, or seen too seldom


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


@dataclass(frozen=True, eq=False)
class Rules:
    """The learned look-up: output id for each pair of main and sub prediction.

    Attributes:
        main_classes: names of the m main classes.
        sub_classes: names of the n sub classes.
        output: S_aug, the main classes under their own ids, then the added ones.
        sources: for each output class ``main`` or ``added``.
        table: m x n output ids, g(C_i, C_j); uint8, or uint16 past 255 output classes.
        provenance: models, task and data they were learned from.
    """

    main_classes: tuple[str, ...]
    sub_classes: tuple[str, ...]
    output: LabelSpace
    sources: tuple[str, ...]
    table: LabelMap
    provenance: Provenance

    def __post_init__(self) -> None:
        m, n = len(self.main_classes), len(self.sub_classes)
        if self.output.names[:m] != self.main_classes:
            raise ConfigError("class_names must start with main_classes in their order")
        expected = ("main",) * m + ("added",) * (len(self.output) - m)
        if self.sources != expected:
            raise ConfigError("class_sources must be 'main' for each main class, then 'added' for each further one")
        unknown = set(self.output.names[m:]).difference(self.sub_classes)
        if unknown:
            raise ConfigError(f"added class {min(unknown)!r} is not among sub_classes")
        if self.table.shape != (m, n):
            raise ConfigError(f"table: expected {m} x {n} values, found {' x '.join(map(str, self.table.shape))}")
        if self.table.dtype != self.output.dtype:
            raise ConfigError(f"table: expected {self.output.dtype.name}, found {self.table.dtype}")
        if int(self.table.max()) >= len(self.output):
            raise ConfigError(f"table: ids must be 0..{len(self.output) - 1}, found {int(self.table.max())}")

    def label_info(self) -> dict[str, Any]:
        """Return what a reader of label images needs: ids, names, colours, sources and the unlabelled id."""
        rows = zip(self.output.names, self.output.colors, self.sources, strict=True)
        classes = [
            {"id": number, "name": name, "color": list(color), "source": source}
            for number, (name, color, source) in enumerate(rows)
        ]
        return {"unlabelled": self.output.unlabelled, "classes": classes}

    def to_parameters(self) -> dict[str, Any]:
        """Return the rules as flat ROS parameters, named as in ``RULES_PARAMETERS``."""
        values: dict[str, Any] = {
            "format": FORMAT,
            "main_classes": list(self.main_classes),
            "sub_classes": list(self.sub_classes),
            "class_names": list(self.output.names),
            "class_colors": [channel for color in self.output.colors for channel in color],
            "class_sources": list(self.sources),
            "table": self.table.ravel().tolist(),
        }
        for name, value in asdict(self.provenance).items():
            values[f"provenance.{name}"] = list(value) if isinstance(value, tuple) else value
        return values

    @classmethod
    def from_parameters(cls, values: Mapping[str, object]) -> Rules:
        """Build rules from flat ROS parameters, named as in ``RULES_PARAMETERS``.

        Raises:
            ConfigError: a parameter is missing, of another type, or does not fit the others.
        """
        checked = {name: _checked(name, kind, values) for name, kind in RULES_PARAMETERS}
        if checked["format"] != FORMAT:
            raise ConfigError(f"rules.format: expected {FORMAT}, found {checked['format']}; learn the rules again")
        provenance = {field.name: _as_field(checked[f"provenance.{field.name}"]) for field in fields(Provenance)}
        try:
            output = LabelSpace(tuple(checked["class_names"]), _triples(checked["class_colors"]))
            return cls(
                tuple(checked["main_classes"]),
                tuple(checked["sub_classes"]),
                output,
                tuple(checked["class_sources"]),
                _table(checked["table"], len(checked["main_classes"]), len(checked["sub_classes"]), output),
                Provenance(**provenance),
            )
        except ConfigError as error:
            raise ConfigError(f"rules: {error}") from None

    @classmethod
    def load(cls, path: Path) -> Rules:
        """Read a ROS 2 parameter file that ``save`` wrote.

        Raises:
            ConfigError: the file is missing, is no parameter file with rules, or the rules are not sound.
        """
        for node in read_mapping(path).values():
            parameters = node.get("ros__parameters") if isinstance(node, dict) else None
            if isinstance(parameters, dict) and "rules" in parameters:
                try:
                    return cls.from_parameters(dict(_flatten(parameters["rules"])))
                except ConfigError as error:
                    raise ConfigError(f"{path}: {error}") from None
        raise ConfigError(f"{path}: no rules in it; expected a ROS parameter file written by `classaug learn`")

    def save(self, path: Path) -> None:
        """Write the rules as a ROS 2 parameter file, whole or not at all.

        Raises:
            ConfigError: the file cannot be written.
        """
        write_whole(path, _as_yaml(self.to_parameters(), len(self.sub_classes)).encode())


def cooccurrence(counts: NDArray[np.int64], min_support: int = 1) -> NDArray[np.int64]:
    """f, the co-occurrence rule (eq. 1): the truth most often seen where main says C_i and sub says C_j.

    Args:
        counts: m x n x n, pixels seen with (main prediction, sub prediction, truth).
        min_support: pixels a pair needs, at least 1.

    Returns:
        m x n truth ids, the lowest of equals; ``NO_RULE`` for a pair seen fewer than ``min_support`` times.
    """
    best: NDArray[np.int64] = counts.argmax(axis=2)
    best[counts.sum(axis=2) < max(min_support, 1)] = NO_RULE
    return best


def constrain(f: NDArray[np.int64], task: Task) -> LabelMap:
    """g, the constraint rule (eq. 2), as a table of output ids.

    The main class stays where f is similar to it, is not in S_aug (neither similar nor added), or is unknown;
    only an added class replaces it.

    Args:
        f: m x n truth ids from ``cooccurrence``.
        task: the similar sets and added classes.

    Returns:
        m x n output ids, uint8 or uint16.
    """
    output_of = np.full(len(task.sub) + 1, NO_RULE, np.int64)  # the extra last entry serves NO_RULE = -1
    output_of[list(task.added)] = len(task.main) + np.arange(len(task.added))
    replaced = output_of[f]
    main = np.arange(len(task.main))[:, np.newaxis]
    return np.where(replaced == NO_RULE, main, replaced).astype(task.output.dtype)


def derive(counts: NDArray[np.int64], task: Task, provenance: Provenance) -> Rules:
    """Derive the rules of a task from counted triples.

    Args:
        counts: m x n x n int64, see ``cooccurrence``.
        task: the similar sets and added classes.
        provenance: where the counts come from; its ``min_support`` is the one used.
    """
    sources = ("main",) * len(task.main) + ("added",) * len(task.added)
    table = constrain(cooccurrence(counts, provenance.min_support), task)
    return Rules(task.main.names, task.sub.names, task.output, sources, table, provenance)


def _parameter_types() -> Iterator[tuple[str, str]]:
    yield "format", "integer"
    for name in ("main_classes", "sub_classes", "class_names", "class_sources"):
        yield name, "string_array"
    for name in ("class_colors", "table"):
        yield name, "integer_array"
    kinds = {int: "integer", str: "string"}
    for name, hint in get_type_hints(Provenance).items():
        yield f"provenance.{name}", kinds.get(hint, "string_array")


RULES_PARAMETERS: tuple[tuple[str, str], ...] = tuple(_parameter_types())
"""Flat name (without the leading ``rules.``) and ROS type of every parameter rules consist of."""

_ITEM = {"integer": int, "string": str, "integer_array": int, "string_array": str}


def _checked(name: str, kind: str, values: Mapping[str, object]) -> Any:
    value = values.get(name)
    if value is None:
        raise ConfigError(f"rules.{name}: missing; expected {kind}, as `classaug learn` writes it")
    array = kind.endswith("_array")
    items = value if array else [value]
    if not isinstance(items, Sequence) or isinstance(items, str):
        raise ConfigError(f"rules.{name}: expected {kind}, found {value!r:.60}")
    if not items:
        raise ConfigError(f"rules.{name}: expected {kind}, found an empty one")
    for item in items:
        if not isinstance(item, _ITEM[kind]) or isinstance(item, bool):
            raise ConfigError(f"rules.{name}: expected {kind}, found {item!r:.60}")
    return list(items) if array else value


def _as_field(value: object) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _triples(flat: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    if len(flat) % 3:
        raise ConfigError(f"class_colors: expected three values per class, found {len(flat)} values")
    return tuple((flat[i], flat[i + 1], flat[i + 2]) for i in range(0, len(flat), 3))


def _table(flat: Sequence[int], m: int, n: int, output: LabelSpace) -> LabelMap:
    if len(flat) != m * n:
        raise ConfigError(f"table: expected {m} x {n} = {m * n} values, found {len(flat)}")
    if min(flat) < 0 or max(flat) >= len(output):
        raise ConfigError(f"table: ids must be 0..{len(output) - 1}, found {min(flat)}..{max(flat)}")
    return np.array(flat, output.dtype).reshape(m, n)


def _flatten(data: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    if not isinstance(data, dict):
        yield prefix, data
        return
    for key, value in data.items():
        yield from _flatten(value, f"{prefix}.{key}" if prefix else str(key))


def _as_yaml(values: Mapping[str, Any], columns: int) -> str:
    """Format flat parameters; strings are quoted JSON (a subset of YAML), the table has one line per main class."""
    lines = ["# Written by `classaug learn`; load with --params-file, or name it in rules_file.", "/**:"]
    lines += ["  ros__parameters:", "    rules:"]
    provenance = []
    for name, value in values.items():
        _, _, leaf = name.rpartition(".")
        if name == "table":
            rows = [value[i : i + columns] for i in range(0, len(value), columns)]
            text = "[" + ",\n              ".join(", ".join(map(str, row)) for row in rows) + "]"
        else:
            text = json.dumps(value, ensure_ascii=False)
        if leaf == name:
            lines.append(f"      {leaf}: {text}")
        else:
            provenance.append(f"        {leaf}: {text}")
    return "\n".join([*lines, "      provenance:", *provenance, ""])
