"""Rules of several sub models with one main model, and the classes they give together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classaug_ros.errors import ConfigError
from classaug_ros.models.labels import LabelMap, LabelSpace
from classaug_ros.rules.rules import Rules


class RuleSet:
    """One set of rules per sub model, in order of precedence.

    The first decides as it would alone. Each further one adds its classes: it replaces main classes as its own rules
    say, and a class that an earlier one added only where it is more confident of its own. Classes of one name that
    several add are one class, with the colour of the first.

    Attributes:
        rules: the rules, by sub model.
        output: the main classes under their own ids, then the added ones of each sub model in turn.
        sources: for each output class ``main`` or ``added``.
        added: for each output class whether it is an added one.
        ids: for each of the rules the output id of each of its own output classes.
    """

    def __init__(self, rules: Sequence[Rules]) -> None:
        """Put rules together.

        Raises:
            ConfigError: there are none, or their main classes or main models differ.
        """
        if not rules:
            raise ConfigError("expected rules for at least one sub model, found none")
        first = rules[0]
        colors = dict(zip(first.output.names, first.output.colors, strict=True))
        for number, other in enumerate(rules[1:], start=2):
            if (other.main_classes, other.provenance.main_model) != (first.main_classes, first.provenance.main_model):
                raise ConfigError(
                    f"rules {number} were learned with another main model than the first; learn them with the same one"
                )
            for name, color in zip(other.output.names, other.output.colors, strict=True):
                colors.setdefault(name, color)
        self.rules = tuple(rules)
        self.output = LabelSpace(tuple(colors), tuple(colors.values()))
        mains = len(first.main_classes)
        self.sources = ("main",) * mains + ("added",) * (len(colors) - mains)
        self.added: NDArray[np.bool_] = np.arange(len(colors)) >= mains
        self.ids: tuple[LabelMap, ...] = tuple(
            np.array([self.output.index(name) for name in each.output.names], self.output.dtype) for each in rules
        )

    def label_info(self) -> dict[str, Any]:
        """Return what a reader of label images needs: ids, names, colours, sources and the unlabelled id."""
        rows = zip(self.output.names, self.output.colors, self.sources, strict=True)
        classes = [
            {"id": number, "name": name, "color": list(color), "source": source}
            for number, (name, color, source) in enumerate(rows)
        ]
        return {"unlabelled": self.output.unlabelled, "classes": classes}
