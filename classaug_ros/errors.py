"""The kinds of error a user can cause or meet, and how their messages quote what was found.

Each message is one line that names the value, what was expected and what to do. Files may hold anything, so that values
are quoted by ``quoted`` and lists by ``listed``: a megabyte in a file must not become a megabyte in a log.
"""

from __future__ import annotations

import reprlib
from collections.abc import Collection

GRACE = 0.3
"""Seconds that models have for ending once they are given up; then they are left to themselves."""


LISTED = 20
SHOWN = 80


class ClassaugError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigError(ClassaugError):
    """A file, option or parameter given by the user is wrong."""


class ImageError(ClassaugError):
    """An image, as a message or a file, that cannot be used."""


class EngineError(ClassaugError):
    """A model that cannot be loaded or run."""


class OutputError(EngineError):
    """A model's answer to an image that cannot be used; the answer to another image may be."""


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxother = self.maxlong = SHOWN

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write integers of thousands of digits out.
        return super().repr_int(x, level) if x.bit_length() < 1000 else f"an integer of {x.bit_length()} bits"


_short = _Short()


def quoted(value: object) -> str:
    """Return ``repr(value)``, with something left out of a long one."""
    return _short.repr(value)


def first_line(error: BaseException | str) -> str:
    """Return the first line of what an error says; the kind of error where it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def missing(error: ModuleNotFoundError, who: str, extra: str) -> str:
    """Return in a line that a library is not installed, and how to get it.

    Args:
        error: what importing it raised.
        who: what needs it.
        extra: the extra of this package that brings it.

    Raises:
        ModuleNotFoundError: ``error``, where the module is one of this package.
    """
    name = error.name or str(error)
    if name.startswith("classaug_ros"):
        raise error
    get = f"pip install 'classaug_ros[{extra}]' (from a checkout: pip install '.[{extra}]')"
    if name.startswith("tensorrt"):
        get = "on a Jetson install python3-libnvinfer, elsewhere pip install tensorrt; a .pt2 model needs neither"
    names = "'tensorrt' or 'tensorrt_rtx'" if name == "tensorrt_rtx" else repr(name)  # the first was tried before
    return f"there is no Python module {names} here, which {who} needs: {get}"


def listed(names: Collection[str], otherwise: str = "none") -> str:
    """Return the first ``LISTED`` names with commas between, and how many more there are; ``otherwise`` for none."""
    first = [
        name if len(name) <= SHOWN else f"{name[:SHOWN]}..." for name, _ in zip(names, range(LISTED), strict=False)
    ]
    more = f", ... and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(first) + more or otherwise
