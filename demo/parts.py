"""What the demo's scenes are made of, and what two annotators would call it.

The renderer draws one map of *parts*; each class set is a look-up in it. The main set names a cyclist, the bicycle and
the bag together *rider* and knows neither pedestrians nor signs (unlabelled there); the sub set takes them apart, under
names of its own.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

UNLABELLED = 255


class Part(IntEnum):
    """What a pixel shows; finer than either class set."""

    ROAD = 0
    SIDEWALK = 1
    BUILDING = 2
    SKY = 3
    TREE = 4
    CAR = 5
    POLE = 6
    CYCLIST = 7
    CYCLIST_BAG = 8
    BICYCLE = 9
    PERSON = 10
    BAG = 11
    SIGN = 12


MAIN_CLASSES = ("road", "sidewalk", "building", "sky", "tree", "car", "pole", "rider")
ADDED_CLASSES = ("person", "bag", "bicycle", "traffic sign")
SUB_CLASSES = ("street", "pavement", "house", "sky", "plant", "vehicle", "post", *ADDED_CLASSES)

_ROAD, _SIDEWALK, _BUILDING, _SKY = (128, 64, 128), (244, 35, 232), (70, 70, 70), (70, 130, 180)
_SHARED_COLORS = (_ROAD, _SIDEWALK, _BUILDING, _SKY, (107, 142, 35), (0, 0, 142), (153, 153, 153))
MAIN_COLORS = (*_SHARED_COLORS, (150, 0, 0))
SUB_COLORS = (*_SHARED_COLORS, (255, 80, 120), (255, 150, 0), (0, 200, 190), (220, 220, 0))

_MAIN_NAMES = {
    Part.ROAD: "road",
    Part.SIDEWALK: "sidewalk",
    Part.BUILDING: "building",
    Part.SKY: "sky",
    Part.TREE: "tree",
    Part.CAR: "car",
    Part.POLE: "pole",
    Part.CYCLIST: "rider",
    Part.CYCLIST_BAG: "rider",
    Part.BICYCLE: "rider",
}
_SUB_NAMES = {
    Part.ROAD: "street",
    Part.SIDEWALK: "pavement",
    Part.BUILDING: "house",
    Part.SKY: "sky",
    Part.TREE: "plant",
    Part.CAR: "vehicle",
    Part.POLE: "post",
    Part.CYCLIST: "person",
    Part.CYCLIST_BAG: "bag",
    Part.BICYCLE: "bicycle",
    Part.PERSON: "person",
    Part.BAG: "bag",
    Part.SIGN: "traffic sign",
}


def _table(names: dict[Part, str], classes: tuple[str, ...]) -> NDArray[np.uint8]:
    """Part -> class id, as a 256-entry look-up; a part without a name is unlabelled."""
    table = np.full(256, UNLABELLED, np.uint8)
    for part, name in names.items():
        table[part] = classes.index(name)
    return table


MAIN_OF_PART = _table(_MAIN_NAMES, MAIN_CLASSES)
SUB_OF_PART = _table(_SUB_NAMES, SUB_CLASSES)
