"""Class lists for names that come without colours: a shipped list where the names are its own, or made colours."""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Sequence

from classaug_ros.io.shipped import shipped
from classaug_ros.models.labels import Color, LabelSpace

SHIPPED = ("cityscapes", "ade20k")
AGREEMENT = 0.9
"""Share of names that must agree, id by id, for a shipped list to be taken: spellings differ (television receiver)."""

_GOLDEN = 0.618033988749895  # turns of hue between neighbours: any number of them stay apart
_VIVIDNESS = ((0.85, 0.95), (0.55, 0.85), (0.9, 0.6))  # saturation and value, in turn


def shipped_classes(name: str) -> LabelSpace:
    """Return a class list of ``SHIPPED``.

    Raises:
        ConfigError: it is not installed.
    """
    return LabelSpace.from_csv(shipped(f"classes/{name}.csv"))


def classes_named(names: Sequence[str]) -> tuple[LabelSpace, str | None]:
    """Return classes of these names, in this order, with colours.

    Args:
        names: one for each id. Of synonyms (``sofa, couch``) the first is kept, spaces around it are not, and a name
            met before gets its id behind it.

    Returns:
        The classes, and which of ``SHIPPED`` they are: its names and colours are taken where it has as many and 9 in
        10 agree, so that the shipped tasks fit. None where the colours are made.
    """
    cleaned = [name.partition(",")[0].partition(";")[0].strip() for name in names]
    for known in SHIPPED:
        space = shipped_classes(known)
        same = sum(a.casefold() == b.casefold() for a, b in zip(cleaned, space.names, strict=False))
        if len(cleaned) == len(space) and same >= AGREEMENT * len(space):
            return space, known
    unique = _unique(cleaned)
    return LabelSpace(unique, colors(len(unique))), None


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    counts, unique = Counter(names), set[str]()
    result = []
    for number, name in enumerate(names):
        own = name if name and counts[name] == 1 else f"{name or 'class'} {number}"
        while own in unique or (own != name and own in counts):
            own = f"{own}*"
        unique.add(own)
        result.append(own)
    return tuple(result)


def colors(count: int) -> tuple[Color, ...]:
    """Return so many colours that differ, the same each time."""
    made = []
    for number in range(count):
        saturation, value = _VIVIDNESS[number % len(_VIVIDNESS)]
        red, green, blue = colorsys.hsv_to_rgb(number * _GOLDEN % 1, saturation, value)
        made.append((round(255 * red), round(255 * green), round(255 * blue)))
    return tuple(made)
