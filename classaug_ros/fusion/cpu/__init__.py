"""Fusion on the CPU, compiled by Numba; equal to ``reference``."""

from classaug_ros.fusion.cpu.compiled import telling
from classaug_ros.fusion.cpu.contours import guided_label_map
from classaug_ros.fusion.cpu.evidence import confidence, group_scores, label_by_evidence, output_scores
from classaug_ros.fusion.cpu.table import count, join, label_map, look_up, paint, warm_up

__all__ = [
    "confidence",
    "count",
    "group_scores",
    "guided_label_map",
    "join",
    "label_by_evidence",
    "label_map",
    "look_up",
    "output_scores",
    "paint",
    "telling",
    "warm_up",
]
