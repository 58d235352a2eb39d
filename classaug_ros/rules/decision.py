"""Decision: how labels are decided for, where the rules leave a choice."""

from __future__ import annotations

from dataclasses import dataclass

from classaug_ros.errors import ConfigError
from classaug_ros.rules.evidence import Prefer
from classaug_ros.rules.ruleset import RuleSet


@dataclass(frozen=True)
class Decision:
    """How labels are decided for.

    Attributes:
        prefer: ``evidence`` decides among all output classes; ``main`` leaves it to the main model which main class a
            pixel has, and to the evidence whether an added class replaces it. Rules of kind table always do so.
        min_confidence: pixels of less confidence, 0..1, are left unlabelled; 0 labels all.
        contours: whether labels follow the image's edges; for rules of kind probability only.
    """

    prefer: Prefer = "evidence"
    min_confidence: float = 0.0
    contours: bool = False

    def check(self, rules: RuleSet) -> None:
        """Refuse what the rules cannot do.

        Raises:
            ConfigError: contours with rules of kind table.
        """
        if self.contours and any(each.kind == "table" for each in rules.rules):
            raise ConfigError("contours need rules of kind probability; leave contours off, or choose that kind")
