"""Rules: learned offline, applied to every frame. The paper's table, and weights of evidence in place of labels."""

from classaug_ros.rules.evidence import Evidence, Prefer, groups_of
from classaug_ros.rules.parameters import RULES_PARAMETERS, Provenance
from classaug_ros.rules.rules import KINDS, Kind, Rules, derive
from classaug_ros.rules.ruleset import RuleSet
from classaug_ros.rules.table import NO_RULE, constrain, cooccurrence, purity

__all__ = [
    "KINDS",
    "NO_RULE",
    "RULES_PARAMETERS",
    "Evidence",
    "Kind",
    "Prefer",
    "Provenance",
    "RuleSet",
    "Rules",
    "constrain",
    "cooccurrence",
    "derive",
    "groups_of",
    "purity",
]
