"""The specification of fusion, in plain NumPy: short and slow. Nothing that runs on a vehicle imports it.

The names of ``cpu`` mean the same here; besides there are the steps that the forms that run take in other ways, and
what all forms share.
"""

from classaug_ros.fusion.geometry import nearest, nearest_pixels
from classaug_ros.fusion.reference.contours import averaged, guided, guided_label_map
from classaug_ros.fusion.reference.evidence import confidence, group_scores, on_grid, output_scores, pool
from classaug_ros.fusion.reference.preprocess import colors, prepare
from classaug_ros.fusion.reference.table import count, interpolate, join, label_map, look_up, paint, upsample
from classaug_ros.fusion.scores import grid_positions, guide_grid, posterior
from classaug_ros.imaging.drawing import blend

__all__ = [
    "averaged",
    "blend",
    "colors",
    "confidence",
    "count",
    "grid_positions",
    "group_scores",
    "guide_grid",
    "guided",
    "guided_label_map",
    "interpolate",
    "join",
    "label_map",
    "look_up",
    "nearest",
    "nearest_pixels",
    "on_grid",
    "output_scores",
    "paint",
    "pool",
    "posterior",
    "prepare",
    "upsample",
]
