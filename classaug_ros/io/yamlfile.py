"""YAML files written by users: read safely, every mistake named with its file and key."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from classaug_ros.errors import ConfigError, listed, quoted
from classaug_ros.io.files import read_whole

T = TypeVar("T")
S = TypeVar("S", bound=str)

MAX_BYTES = 2**23
"""Largest YAML file read, enough for rules of 600 x 600 classes: each byte may cost half a kilobyte."""

_OCTAL = re.compile(r"[-+]?0_*[0-9]")


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads nothing otherwise than people do, or at great cost.

    Keys given twice, of which plain YAML silently keeps the last, aliases, merge keys and tags but ``!!str`` are
    refused. Numbers that are octal or to base 60, as modes and times of other nodes are in ROS parameter files, stay
    text: a key that needs a number refuses them.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                key = (key_node.tag, key_node.value)
                if key in seen:
                    raise ConfigError(f"{_line(key_node)}: {quoted(key_node.value)} is given twice; keep one")
                if key_node.tag == _MERGE:
                    raise ConfigError(f"{_line(key_node)}: YAML merge keys (<<) are not allowed; write all out")
                seen.add(key)
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            raise ConfigError(f"{_line(node)}: a key is given twice, written differently; keep one")
        return mapping

    def construct_number(self, node: yaml.ScalarNode) -> int | float | str:
        if ":" in node.value or (node.tag == _INT and _OCTAL.match(node.value)):
            return str(node.value)
        return self.construct_yaml_int(node) if node.tag == _INT else self.construct_yaml_float(node)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        # Nested aliases can expand a few bytes to gigabytes, and none of our formats needs one.
        if self.check_event(yaml.AliasEvent):
            raise ConfigError("YAML aliases (*name) are not allowed here; write the value out")
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) not in (None, _STR):
            raise ConfigError(f"{_line(event)}: YAML tags ({event.tag:.80}) are not allowed here; write a plain value")
        return super().compose_node(parent, index)


_MERGE, _INT, _FLOAT, _STR = (f"tag:yaml.org,2002:{name}" for name in ("merge", "int", "float", "str"))
for _tag in (_INT, _FLOAT):
    _Loader.add_constructor(_tag, _Loader.construct_number)


def _line(place: Any) -> str:
    return f"line {place.start_mark.line + 1}"


def read_mapping(path: Path) -> dict[str, Any]:
    """Return the mapping a YAML file holds.

    Raises:
        ConfigError: the file is missing, of more than ``MAX_BYTES``, is not YAML, holds no mapping, or has in it what
            ``_Loader`` refuses.
    """
    content = read_whole(path, MAX_BYTES)
    try:
        data = yaml.load(content.decode(), Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except RecursionError as error:
        raise ConfigError(f"{path}: is not valid YAML: nested too deeply") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ConfigError(f"{path}: is not valid YAML: {' '.join(str(error).split()):.400}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected keys and values at the top, found {type(data).__name__}")
    return data


class Section:
    """One mapping of a YAML file, which knows where it stands, for reading its keys with checks."""

    def __init__(self, data: object, where: str, allowed: set[str]) -> None:
        """Take ``data`` found at ``where`` (file and key).

        Raises:
            ConfigError: ``data`` is no mapping, or has a key that is not in ``allowed``.
        """
        if not isinstance(data, Mapping):
            raise ConfigError(f"{where}: expected keys and values, found {quoted(data)}")
        unknown = [key for key in data if key not in allowed]
        if unknown:
            raise ConfigError(f"{where}: unknown key {quoted(unknown[0])}; expected some of {listed(sorted(allowed))}")
        self._data = data
        self._where = where

    def get(self, key: str, kind: type[T] | tuple[type[T], ...], default: T | None = None) -> T:
        """Return the value of ``key``, which must be of ``kind``; without a default it must be there."""
        if key not in self._data and default is not None:
            return default
        value = self._data.get(key)
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            expected = " or ".join(k.__name__ for k in kinds)
            found = quoted(value) if key in self._data else "no such key"
            raise ConfigError(f"{self._where}: {key}: expected {expected}, found {found}")
        return value

    def choice(self, key: str, choices: tuple[S, ...], default: S | None = None) -> S:
        """Return the value of ``key``, one of ``choices``."""
        value = self.get(key, str, default)
        if value not in choices:
            raise ConfigError(f"{self._where}: {key}: expected one of {', '.join(choices)}, found {quoted(value)}")
        return choices[choices.index(value)]

    def positive(self, key: str, most: int = 2**31) -> int:
        """Return the value of ``key``, an integer of 1 to ``most``."""
        value = self.get(key, int)
        if not 1 <= value <= most:
            expected = "at least 1" if value < 1 else f"at most {most}"
            raise ConfigError(f"{self._where}: {key}: expected {expected}, found {quoted(value)}")
        return value

    def list_of(self, key: str, kind: type[T], convert: Callable[[Any], T] | None = None) -> tuple[T, ...]:
        """Return the list at ``key`` (missing: empty), each item of ``kind``."""
        items = self.get(key, list, [])
        for item in items:
            number = kind is float and isinstance(item, int) and abs(item) < 2**1000
            if not (isinstance(item, kind) or number) or isinstance(item, bool):
                raise ConfigError(f"{self._where}: {key}: expected a list of {kind.__name__}, found {quoted(item)}")
        return tuple(convert(item) if convert else item for item in items)


def fingerprint(value: object) -> str:
    """Return the SHA-256 hex digest of a JSON-able value, the same for equal values everywhere."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
