"""LabelSpace: the classes of a model, a data set or an augmented output."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from classaug_ros.errors import ConfigError, listed, quoted
from classaug_ros.io.files import read_whole

COLUMNS = ("id", "name", "r", "g", "b")
MAX_CLASSES = 65535  # ids 0..65534; 65535 means unlabelled
MAX_BYTES = 2**23
"""Largest classes.csv read."""

Color = tuple[int, int, int]
LabelMap: TypeAlias = NDArray[np.unsignedinteger[Any]]  # class ids, H x W; uint8, or uint16 past 255 classes


@dataclass(frozen=True)
class LabelSpace:
    """Class names and colours; a class's id is its position, 0..n-1.

    Attributes:
        names: n unique, non-empty names.
        colors: n (r, g, b) triples, each 0..255.
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= MAX_CLASSES:
            raise ConfigError(f"expected 1 to {MAX_CLASSES} classes, found {len(self.names)}")
        if len(self.colors) != len(self.names):
            raise ConfigError(f"expected one colour per class ({len(self.names)}), found {len(self.colors)}")
        seen: set[str] = set()
        for name in self.names:
            if not name or name != name.strip() or not name.isprintable():  # YAML and ROS cannot carry all the others
                raise ConfigError(
                    f"class name {quoted(name)} is empty, or has spaces around it or control characters in it"
                )
            if name in seen:
                raise ConfigError(f"class {quoted(name)} is given twice; names must be unique")
            seen.add(name)
        for name, color in zip(self.names, self.colors, strict=True):
            if not all(0 <= channel <= 255 for channel in color):
                raise ConfigError(f"class {quoted(name)}: colour {quoted(color)} is not three values of 0..255")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger[Any]]:
        """Smallest unsigned type that holds every id and the unlabelled value."""
        return np.dtype(np.uint8 if len(self) <= 255 else np.uint16)

    @property
    def unlabelled(self) -> int:
        """Id that means *no class*: 255, or 65535 past 255 classes."""
        return int(np.iinfo(self.dtype).max)

    def index(self, name: str) -> int:
        """Return the id of a class.

        Raises:
            ConfigError: there is no class of that name.
        """
        try:
            return self.names.index(name)
        except ValueError:
            raise ConfigError(f"unknown class {quoted(name)}; expected one of: {listed(self.names)}") from None

    def palette(self) -> NDArray[np.uint8]:
        """Return the colours by id, (256 or 65536) x 3 uint8 RGB; ids without a class are black."""
        palette = np.zeros((self.unlabelled + 1, 3), np.uint8)
        palette[: len(self)] = self.colors
        return palette

    def to_csv(self) -> str:
        """Return the text of a ``classes.csv``, which ``from_csv`` reads."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(COLUMNS)
        rows.writerows((number, name, *self.colors[number]) for number, name in enumerate(self.names))
        return text.getvalue()

    @classmethod
    def from_csv(cls, path: Path) -> LabelSpace:
        """Read a ``classes.csv`` with the columns id,name,r,g,b and the ids 0..n-1 in any order.

        Raises:
            ConfigError: the file is missing or malformed, or an id or a name is missing or given twice.
        """
        content = read_whole(path, MAX_BYTES)
        try:
            rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
        except (csv.Error, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: is not CSV text: {error}") from error
        try:
            return _from_rows(rows)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None


def _from_rows(rows: Sequence[Sequence[str]]) -> LabelSpace:
    if not rows or tuple(rows[0]) != COLUMNS:
        found = quoted(",".join(rows[0])) if rows else "an empty file"
        raise ConfigError(f"line 1: expected the header {','.join(COLUMNS)}, found {found}")
    classes: dict[int, tuple[str, Color]] = {}
    for line, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        if len(row) != len(COLUMNS):
            raise ConfigError(f"line {line}: expected {len(COLUMNS)} columns ({','.join(COLUMNS)}), found {len(row)}")
        try:
            number, red, green, blue = (int(row[column]) for column in (0, 2, 3, 4))
        except ValueError:
            raise ConfigError(f"line {line}: id, r, g and b must be integers, found {quoted(','.join(row))}") from None
        if number in classes:
            raise ConfigError(
                f"line {line}: id {quoted(number)} is given twice ({quoted(classes[number][0])} and {quoted(row[1])})"
            )
        classes[number] = (row[1], (red, green, blue))
    missing = [number for number in range(len(classes)) if number not in classes]
    if missing:
        raise ConfigError(f"ids must be 0..{len(classes) - 1} without gaps; {missing[0]} is missing")
    ordered = [classes[number] for number in range(len(classes))]
    return LabelSpace(tuple(name for name, _ in ordered), tuple(color for _, color in ordered))
