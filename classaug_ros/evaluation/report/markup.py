"""HTML and SVG elements as text, escaped unless they are markup already."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

VOID = frozenset({"img", "meta"})  # elements of HTML that never close


class Markup(str):
    """Text that is HTML or SVG already; all other text is escaped where it enters an element."""

    __slots__ = ()


def element(tag: str, *content: str, **attributes: str | float | None) -> Markup:
    """Return an element.

    Args:
        tag: its name.
        content: what is in it, in order: markup as it is, other text escaped.
        attributes: by name, with ``_`` for ``-`` and a trailing ``_`` dropped (``class_``); those of None left out.
    """
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in VOID:
        return Markup(f"<{tag}{given}>")
    return Markup(f"<{tag}{given}>{join(content)}</{tag}>")


def join(parts: Iterable[str], between: str = "") -> Markup:
    """Return parts one after the other: markup as it is, other text escaped."""
    return Markup(escape(between).join(part if isinstance(part, Markup) else escape(part) for part in parts))


def rgb(color: Iterable[int]) -> str:
    """Return a colour of three values 0..255 as CSS has it."""
    red, green, blue = color
    return f"#{red:02x}{green:02x}{blue:02x}"


def _plain(value: str | float | None) -> str:
    if isinstance(value, float):  # two decimals of a pixel are plenty
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return str(value)
