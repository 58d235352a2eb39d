"""Where the pixels of an image and the samples of a model's output lie: the bilinear conventions."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from classaug_ros.models.card import Upsampling
from classaug_ros.models.labels import LabelMap

Positions: TypeAlias = tuple[NDArray[np.intp], NDArray[np.float32]]
"""Where positions lie among n samples: the one before each, 0..max(n - 2, 0), and the weight of the next, 0..1."""


def source_coordinates(out: int, size: int, convention: Upsampling) -> Positions:
    """Return where each of ``out`` pixels lies among ``size`` samples.

    ``half_pixel`` is (x + 0.5) * size / out - 0.5, ``align_corners`` x * (size - 1) / (out - 1), ``asymmetric``
    x * size / out (ONNX's Resize operator names them so); all are clamped to the samples.
    """
    return _among(np.arange(out, dtype=np.float64), out, size, convention)


def sample_coordinates(samples: int, convention: Upsampling, out: int, size: int, other: Upsampling) -> Positions:
    """Return where the samples of one output lie among those of another, through the ``out`` pixels both cover.

    Args:
        samples: how many there are along the axis.
        convention: where they lie among the pixels.
        out: pixels along the axis.
        size: number of samples of the other output.
        other: its convention.
    """
    x = np.arange(samples, dtype=np.float64)
    if convention == "half_pixel":
        pixels = (x + 0.5) * out / samples - 0.5
    elif convention == "align_corners":
        pixels = x * (out - 1) / max(samples - 1, 1)
    else:
        pixels = x * out / samples
    return _among(pixels, out, size, other)


def _among(pixels: NDArray[np.float64], out: int, size: int, convention: Upsampling) -> Positions:
    if convention == "half_pixel":
        source = (pixels + 0.5) * size / out - 0.5
    elif convention == "align_corners":
        source = pixels * (size - 1) / max(out - 1, 1)
    else:
        source = pixels * size / out
    source = source.clip(0, size - 1)
    before = np.minimum(source.astype(np.intp), max(size - 2, 0))
    return before, (source - before).astype(np.float32)


def nearest(labels: LabelMap, size: tuple[int, int]) -> LabelMap:
    """Resize a label map h x w to (H, W), each pixel taking the label its centre lies in."""
    rows = (2 * np.arange(size[0]) + 1) * labels.shape[0] // (2 * size[0])
    columns = (2 * np.arange(size[1]) + 1) * labels.shape[1] // (2 * size[1])
    resized: LabelMap = labels.take(rows, axis=0).take(columns, axis=1)
    return resized


def nearest_pixels(pixels: int, samples: int, convention: Upsampling) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the first of the pixels nearest to each sample along an axis, and the one after the last."""
    before, weight = source_coordinates(pixels, samples, convention)
    starts = np.searchsorted(before + (weight >= 0.5), np.arange(samples + 1))
    first = np.minimum(starts[:-1], pixels - 1)
    return first, np.maximum(starts[1:], first + 1)  # with more samples than pixels, one pixel serves several
