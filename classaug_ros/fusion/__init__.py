"""Fusion: scores of both models to label maps, the rules' look-up, colours and overlay.

``naive`` is the specification, ``cpu`` the form that runs; both have the same functions, and tests hold them equal.
"""

from classaug_ros.fusion.cpu import count, fuse, label_map, warm_up
from classaug_ros.fusion.naive import blend, nearest

__all__ = ["blend", "count", "fuse", "label_map", "nearest", "warm_up"]
