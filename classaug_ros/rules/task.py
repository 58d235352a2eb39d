"""Task: which main and sub classes mean the same, and which sub classes are added."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from classaug_ros.errors import ConfigError, listed, quoted
from classaug_ros.io.yamlfile import Section, fingerprint, read_mapping
from classaug_ros.models.labels import LabelSpace

REST = "rest"  # `add: rest`: every sub class that is similar to no main class


@dataclass(frozen=True)
class Task:
    """The sets of the constraint rule (the paper's section 3.2).

    Attributes:
        main: S_main, m classes.
        sub: S_sub, n classes.
        similar: for each main class i the ids of its similar sub classes, S_Ci.
        added: ids of the sub classes to add, S_add, ascending.
    """

    main: LabelSpace
    sub: LabelSpace
    similar: tuple[frozenset[int], ...]
    added: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.similar) != len(self.main):
            raise ConfigError(f"expected a similar set per main class ({len(self.main)}), found {len(self.similar)}")
        if not set(self.added).union(*self.similar).issubset(range(len(self.sub))):
            raise ConfigError(f"sub class ids must be 0..{len(self.sub) - 1}")
        for main_id, similar in enumerate(self.similar):
            for sub_id in sorted(similar.intersection(self.added)):
                raise ConfigError(
                    f"sub class {quoted(self.sub.names[sub_id])} is both similar to {quoted(self.main.names[main_id])} "
                    "and added; keep it in one of the two"
                )
        for sub_id in self.added:
            if self.sub.names[sub_id] in self.main.names:
                raise ConfigError(
                    f"added class {quoted(self.sub.names[sub_id])} has the name of a main class; output names must be "
                    "unique: make it similar to a main class, leave it out, or rename it in classes.csv"
                )

    @property
    def output(self) -> LabelSpace:
        """S_aug: the main classes under their own ids, then the added classes."""
        return LabelSpace(
            self.main.names + tuple(self.sub.names[j] for j in self.added),
            self.main.colors + tuple(self.sub.colors[j] for j in self.added),
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the classes and sets; colours do not count."""
        sets = [sorted(ids) for ids in self.similar]
        return fingerprint([self.main.names, self.sub.names, sets, self.added])

    @classmethod
    def load(cls, path: Path) -> Task:
        """Read a task file: ``main`` and ``sub`` (paths of classes.csv, relative to it), ``similar`` and ``add``.

        Raises:
            ConfigError: a file is missing or malformed, a class is unknown, given twice, or both similar and added.
        """
        section = Section(read_mapping(path), str(path), {"main", "sub", "similar", "add"})
        main = LabelSpace.from_csv(path.parent / section.get("main", str))
        sub = LabelSpace.from_csv(path.parent / section.get("sub", str))
        try:
            similar = _similar_sets(section, main, sub, f"{path}: similar")
            added = _added_ids(section, sub, similar)
            return cls(main, sub, similar, added)
        except ConfigError as error:
            message = str(error)
            raise ConfigError(message if message.startswith(str(path)) else f"{path}: {message}") from None


def _similar_sets(section: Section, main: LabelSpace, sub: LabelSpace, where: str) -> tuple[frozenset[int], ...]:
    names = section.get("similar", dict, {})
    for name in names:
        if name not in main.names:
            raise ConfigError(f"{where}: {quoted(name)} is no main class; expected one of: {listed(main.names)}")
    lists = Section(names, where, set(main.names))
    return tuple(
        frozenset(_ids(lists.list_of(name, str), sub, f"{where}: {name}")) if name in names else frozenset()
        for name in main.names
    )


def _added_ids(section: Section, sub: LabelSpace, similar: tuple[frozenset[int], ...]) -> tuple[int, ...]:
    add = section.get("add", (str, list))
    if isinstance(add, str):
        if add != REST:
            raise ConfigError(f"add: expected a list of sub classes or {REST!r}, found {quoted(add)}")
        return tuple(sorted(set(range(len(sub))).difference(*similar)))
    return tuple(sorted(_ids(section.list_of("add", str), sub, "add")))


def _ids(names: tuple[str, ...], space: LabelSpace, where: str) -> list[int]:
    for position, name in enumerate(names):
        if name in names[:position]:
            raise ConfigError(f"{where}: {quoted(name)} is given twice; keep one")
        if name not in space.names:
            raise ConfigError(f"{where}: {quoted(name)} is no sub class; expected one of: {listed(space.names)}")
    return [space.index(name) for name in names]
