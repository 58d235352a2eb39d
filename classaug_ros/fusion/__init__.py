"""Fusion: scores of both models to label maps, the rules applied to them, confidence, colours and overlay.

``reference`` is the specification in plain NumPy, ``cpu`` and ``gpu`` the forms that run; tests hold them equal.
"""

from classaug_ros.fusion.cpu.compiled import telling
from classaug_ros.fusion.cpu.contours import guided_label_map
from classaug_ros.fusion.cpu.evidence import confidence, group_scores, label_by_evidence, output_scores
from classaug_ros.fusion.cpu.table import count, join, label_map, look_up, paint, warm_up
from classaug_ros.fusion.geometry import nearest
from classaug_ros.fusion.scores import Scores

__all__ = [
    "Scores",
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
