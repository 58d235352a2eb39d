"""Smooth random textures."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def octaves(seed: int, height: int, width: int, first: int, count: int) -> NDArray[np.float32]:
    """Smooth noise (height, width), zero mean, about ±1, repeating at its borders."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width), np.float32)
    for octave in range(count):
        rows, columns = first << octave, (first << octave) * width // height
        grid = np.pad(rng.standard_normal((rows, columns)).astype(np.float32), 2, mode="wrap")
        scaled = cv2.resize(
            grid, (width * (columns + 4) // columns, height * (rows + 4) // rows), interpolation=cv2.INTER_CUBIC
        )
        top, left = 2 * height // rows, 2 * width // columns
        total += scaled[top : top + height, left : left + width] * 0.6**octave
    return total / 1.6
