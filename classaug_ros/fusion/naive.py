"""The specification of fusion, in plain NumPy: short and slow. Every faster form must equal it label for label."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from classaug_ros.images import Frame
from classaug_ros.labels import LabelMap
from classaug_ros.models import Upsampling


def source_coordinates(out: int, size: int, convention: Upsampling) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return where each of ``out`` positions lies among ``size`` samples.

    ``half_pixel`` is (x + 0.5) * size / out - 0.5, ``align_corners`` x * (size - 1) / (out - 1), ``asymmetric``
    x * size / out (ONNX's Resize operator names them so); all are clamped to the samples.

    Returns:
        The sample before each position, 0..max(size - 2, 0), and the weight of the next one, float32 0..1.
    """
    x = np.arange(out, dtype=np.float64)
    if convention == "half_pixel":
        source = (x + 0.5) * size / out - 0.5
    elif convention == "align_corners":
        source = x * (size - 1) / max(out - 1, 1)
    else:
        source = x * size / out
    source = source.clip(0, size - 1)
    before = np.minimum(source.astype(np.intp), max(size - 2, 0))
    return before, (source - before).astype(np.float32)


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
    row, down = source_coordinates(size[0], h, convention)
    column, right = source_coordinates(size[1], w, convention)
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


def nearest(labels: LabelMap, size: tuple[int, int]) -> LabelMap:
    """Resize a label map h x w to (H, W), each pixel taking the label its centre lies in."""
    rows = (2 * np.arange(size[0]) + 1) * labels.shape[0] // (2 * size[0])
    columns = (2 * np.arange(size[1]) + 1) * labels.shape[1] // (2 * size[1])
    return labels.take(rows, axis=0).take(columns, axis=1)


def fuse(
    main: LabelMap,
    sub: LabelMap,
    table: LabelMap,
    *,
    palette: NDArray[np.uint8] | None = None,
    frame: Frame | None = None,
    alpha: float = 0.5,
) -> tuple[LabelMap, NDArray[np.uint8] | None, NDArray[np.uint8] | None]:
    """Apply the rules' table, and paint the result.

    Args:
        main: H x W labels of the main model, below m.
        sub: H x W labels of the sub model, below n.
        table: m x n output ids.
        palette: ids x 3 uint8 RGB; None for labels alone.
        frame: H x W image for the overlay; None for no overlay.
        alpha: weight of the colours in the overlay, 0..1 in steps of 1/256.

    Returns:
        H x W output ids of the table's type; H x W x 3 uint8 RGB colours, None without a palette; H x W x 3 uint8
        RGB overlay, image * (1 - alpha) + colour * alpha rounded half up, None without palette or frame.
    """
    label = table[main, sub]
    if palette is None:
        return label, None, None
    color = palette[label]
    return label, color, None if frame is None else blend(frame.rgb(), color, alpha)


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


def blend(image: NDArray[np.uint8], color: NDArray[np.uint8], alpha: float) -> NDArray[np.uint8]:
    """Return image * (1 - alpha) + color * alpha, H x W x 3 uint8, rounded half up; alpha is 0..1 in steps of 1/256."""
    weight = round(alpha * 256)
    mixed = image.astype(np.uint32) * (256 - weight) + color.astype(np.uint32) * weight
    return ((mixed + 128) >> 8).astype(np.uint8)
