"""YAML files written by users: read safely, every mistake named with its file and key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from classaug_ros.errors import ConfigError

T = TypeVar("T")
S = TypeVar("S", bound=str)


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, of which plain YAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                key = (key_node.tag, key_node.value)
                if key in seen:
                    line = key_node.start_mark.line + 1
                    raise ConfigError(f"line {line}: {key_node.value!r} is given twice; keep one")
                seen.add(key)
        return super().construct_mapping(node, deep)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        # Nested aliases can expand a few bytes to gigabytes, and none of our formats needs one.
        if self.check_event(yaml.AliasEvent):
            raise ConfigError("YAML aliases (*name) are not allowed here; write the value out")
        return super().compose_node(parent, index)


def read_mapping(path: Path) -> dict[str, Any]:
    """Return the mapping a YAML file holds.

    Raises:
        ConfigError: the file is missing, is not YAML, holds no mapping, or gives a key twice.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from error
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
            raise ConfigError(f"{where}: expected keys and values, found {data!r}")
        unknown = [key for key in data if key not in allowed]
        if unknown:
            raise ConfigError(f"{where}: unknown key {unknown[0]!r}; expected some of {', '.join(sorted(allowed))}")
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
            found = repr(value) if key in self._data else "no such key"
            raise ConfigError(f"{self._where}: {key}: expected {expected}, found {found}")
        return value

    def choice(self, key: str, choices: tuple[S, ...], default: S | None = None) -> S:
        """Return the value of ``key``, one of ``choices``."""
        value = self.get(key, str, default)
        if value not in choices:
            raise ConfigError(f"{self._where}: {key}: expected one of {', '.join(choices)}, found {value!r}")
        return choices[choices.index(value)]

    def positive(self, key: str) -> int:
        """Return the value of ``key``, an integer of at least 1."""
        value = self.get(key, int)
        if value < 1:
            raise ConfigError(f"{self._where}: {key}: expected at least 1, found {value}")
        return value

    def list_of(self, key: str, kind: type[T], convert: Callable[[Any], T] | None = None) -> tuple[T, ...]:
        """Return the list at ``key`` (missing: empty), each item of ``kind``."""
        items = self.get(key, list, [])
        for item in items:
            number = kind is float and isinstance(item, int)
            if not (isinstance(item, kind) or number) or isinstance(item, bool):
                raise ConfigError(f"{self._where}: {key}: expected a list of {kind.__name__}, found {item!r}")
        return tuple(convert(item) if convert else item for item in items)


def fingerprint(value: object) -> str:
    """Return the SHA-256 hex digest of a JSON-able value, the same for equal values everywhere."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
