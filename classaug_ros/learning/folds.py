"""Folds: parts of the images that are held out in turn, whole recordings where their names tell them apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MOST = 5
BLOCKS = 4  # of a single recording
NEARLY_ALL = 0.8
"""Share of the images from which a recording counts as the only one."""

_NUMBER = re.compile(r"[\W_]*\d+(?![^\W_])")  # none that letters follow, as in the end of *_leftImg8bit


def recording_of(name: str) -> str:
    """Return an image's name up to its last number, which counts the frames of a recording."""
    dataset, slash, stem = name.rpartition("/")
    found = [*_NUMBER.finditer(stem)]
    return dataset + slash + (stem[: found[-1].start()] if found else stem)


def folds(names: Sequence[str]) -> NDArray[np.intp]:
    """Divide images into parts, so that frames of one recording, which look alike, are in one part.

    With more than ``MOST`` recordings, neighbours share a part. Where one recording holds nearly all images, all are
    cut into blocks of neighbours: without it there would be too little to learn from.

    Args:
        names: of the images, in order.

    Returns:
        The part of each image, 0..parts - 1; all 0 where there is only one image.
    """
    recordings = [recording_of(name) for name in names]
    if max(Counter(recordings).values(), default=0) > NEARLY_ALL * len(names):
        return np.arange(len(names)) * min(BLOCKS, len(names)) // len(names)
    found = list(dict.fromkeys(recordings))
    position = {recording: number for number, recording in enumerate(found)}
    numbers = np.array([position[recording] for recording in recordings])
    if len(found) <= MOST:
        return numbers
    images = np.bincount(numbers)
    middle = images.cumsum() - images / 2  # of each recording among the images
    _, parts = np.unique((middle * MOST / len(names)).astype(np.intp)[numbers], return_inverse=True)
    return np.asarray(parts)
