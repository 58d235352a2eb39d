"""Fusion: scores of both models to label maps, the rules applied to them, confidence, colours and overlay.

``naive`` and ``naive_evidence`` are the specification, ``cpu`` and ``cpu_evidence`` the form that runs; tests hold
them equal.
"""

from classaug_ros.fusion.compiled import telling
from classaug_ros.fusion.cpu import count, join, label_map, look_up, paint, warm_up
from classaug_ros.fusion.cpu_evidence import confidence, group_scores, label_by_evidence, output_scores
from classaug_ros.fusion.cpu_guided import guided_label_map
from classaug_ros.fusion.naive import blend, nearest
from classaug_ros.fusion.naive_evidence import Scores

__all__ = [
    "Scores",
    "blend",
    "confidence",
    "count",
    "group_scores",
    "guided_label_map",
    "join",
    "label_by_evidence",
    "label_map",
    "look_up",
    "nearest",
    "output_scores",
    "paint",
    "telling",
    "warm_up",
]
