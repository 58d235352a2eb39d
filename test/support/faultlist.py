"""The faults of docs/faults.md, and for each that is handled how that is taken out, from test/faults/*.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from support.programs import PROJECT

LIST = PROJECT / "docs/faults.md"
REMOVALS = PROJECT / "test/faults"

_CELLS = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True)
class Fault:
    """A row of the list: its name, the test that proves what it says, and whether anything is done about it."""

    name: str
    test: str
    handled: bool

    @property
    def test_file(self) -> Path:
        return PROJECT / "test" / self.test.partition("::")[0]

    @property
    def test_function(self) -> str:
        return self.test.partition("::")[2].partition("[")[0]


@dataclass(frozen=True)
class Removal:
    """How the handling of a fault is taken out.

    Attributes:
        source: the file, from the project's root.
        remove: text that is in it once.
        put: text that takes its place.
    """

    source: str
    remove: str
    put: str

    def applied(self, project: Path = PROJECT) -> str:
        """Return the file's text without the handling; ValueError where the text to remove is not there once."""
        text = (project / self.source).read_text(encoding="utf-8")
        found = text.count(self.remove)
        if found != 1:
            raise ValueError(f"{self.source}: the text to remove is there {found} times, expected once:\n{self.remove}")
        return text.replace(self.remove, self.put)


def faults() -> list[Fault]:
    """Return the rows of all tables of the list, in its order."""
    return list(_rows(LIST.read_text(encoding="utf-8")))


def removals() -> dict[str, Removal]:
    """Return how each fault's handling is taken out, by the fault's name."""
    found: dict[str, Removal] = {}
    for path in sorted(REMOVALS.glob("*.yaml")):
        entries: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
        for name, entry in entries.items():
            if name in found:
                raise ValueError(f"{path.name}: {name!r} is there twice")
            found[name] = Removal(entry["file"], entry["remove"], entry.get("put", ""))
    return found


def _rows(text: str) -> Iterator[Fault]:
    """Yield rows of four cells, and those of three, which lack what is said as nothing is done."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in _CELLS.split(line)[1:-1]]
        if len(cells) in (3, 4) and cells[-1] != "test" and not set(cells[0]) <= set("-: "):
            yield Fault(cells[0], cells[-1].strip("`"), len(cells) == 4)
