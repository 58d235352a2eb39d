"""The specification of fusion, in plain NumPy: short and slow. Every faster form must equal it label for label."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from classaug_ros.fusion.geometry import Positions, source_coordinates
from classaug_ros.imaging.drawing import blend
from classaug_ros.imaging.images import Frame
from classaug_ros.models.card import Upsampling
from classaug_ros.models.labels import LabelMap


def upsample(scores: NDArray[np.float32], size: tuple[int, int], convention: Upsampling) -> NDArray[np.float32]:
    """Interpolate scores bilinearly, first along the rows, then along the columns.

    Written as a * (1 - w) + b * w, which in floating point too never falls when a or b rises: a class that is
    greatest at all four corners of a cell then stays greatest inside it, which the fast forms build on.

    Args:
        scores: classes x h x w float32.
        size: (H, W) of the result.
        convention: where output pixels lie among the scores, see ``source_coordinates``.

    Returns:
        classes x H x W float32.
    """
    _, h, w = scores.shape
    return interpolate(scores, source_coordinates(size[0], h, convention), source_coordinates(size[1], w, convention))


def interpolate(scores: NDArray[np.float32], rows: Positions, columns: Positions) -> NDArray[np.float32]:
    """Return scores, classes x h x w, at the crossings of positions along each axis; see ``upsample``."""
    _, h, w = scores.shape
    (row, down), (column, right) = rows, columns
    next_row, next_column = np.minimum(row + 1, h - 1), np.minimum(column + 1, w - 1)
    across: NDArray[np.float32] = scores[:, :, column] * (1 - right) + scores[:, :, next_column] * right
    weight = down[:, np.newaxis]
    return across[:, row] * (1 - weight) + across[:, next_row] * weight


def label_map(
    scores: NDArray[np.float32], size: tuple[int, int], convention: Upsampling, dtype: np.dtype[Any]
) -> LabelMap:
    """Return the class of the greatest upsampled score of each pixel, the lowest id of equals.

    Args:
        scores: classes x h x w float32.
        size: (H, W) of the result.
        convention: see ``source_coordinates``.
        dtype: uint8 or uint16.

    Returns:
        H x W class ids.
    """
    labels: LabelMap = upsample(scores, size, convention).argmax(axis=0).astype(dtype)
    return labels


def look_up(main: LabelMap, sub: LabelMap, table: LabelMap) -> LabelMap:
    """Apply the rules' table.

    Args:
        main: H x W labels of the main model, below m.
        sub: H x W labels of the sub model, below n.
        table: m x n output ids.

    Returns:
        H x W output ids of the table's type.
    """
    label: LabelMap = table[main, sub]
    return label


def paint(
    label: LabelMap, palette: NDArray[np.uint8], frame: Frame | None = None, alpha: float = 0.5
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Paint a label map.

    Args:
        label: H x W ids.
        palette: ids x 3 uint8 RGB.
        frame: H x W image for the overlay; None for no overlay.
        alpha: weight of the colours in the overlay, 0..1 in steps of 1/256.

    Returns:
        H x W x 3 uint8 RGB colours; H x W x 3 uint8 RGB overlay, image * (1 - alpha) + colour * alpha rounded half up,
        None without a frame.
    """
    color = palette[label]
    return color, None if frame is None else blend(frame.rgb(), color, alpha)


def join(
    first: LabelMap,
    sure: NDArray[np.uint8],
    further: LabelMap,
    surer: NDArray[np.uint8],
    added: NDArray[np.bool_],
) -> tuple[LabelMap, NDArray[np.uint8]]:
    """Let a further sub model's added classes in: where the label is a main class, or where they are surer.

    Args:
        first: H x W output ids so far.
        sure: H x W, their confidence.
        further: H x W output ids by the further sub model.
        surer: H x W, their confidence.
        added: for each output class whether it is an added one.

    Returns:
        H x W output ids, and their confidence.
    """
    wins = added[further] & (~added[first] | (surer > sure))
    return np.where(wins, further, first), np.where(wins, surer, sure)


def count(main: LabelMap, sub: LabelMap, truth: LabelMap, triples: NDArray[np.int64]) -> None:
    """Add 1 to triples[main, sub, truth] for each pixel.

    Args:
        main: H x W labels of the main model, below m.
        sub: H x W labels of the sub model, below n.
        truth: H x W sub class ids; pixels of n and more are unlabelled and not counted.
        triples: m x n x n, changed in place.
    """
    labelled = truth < triples.shape[2]
    np.add.at(triples, (main[labelled], sub[labelled], truth[labelled]), 1)
