"""The specification of preprocessing on a GPU, in plain NumPy: short and slow. The kernel equals it bit for bit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from classaug_ros.fusion.geometry import source_coordinates
from classaug_ros.fusion.reference.table import interpolate
from classaug_ros.imaging.encodings import Layout
from classaug_ros.models.card import InputSpec


def colors(rows: NDArray[np.uint8], layout: Layout) -> NDArray[np.uint8]:
    """Return the colours that an image's bytes stand for.

    Args:
        rows: (H, bytes of a row) uint8, without padding.
        layout: how the bytes lie.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    pixels = rows.reshape(rows.shape[0], -1, layout.stride)
    if layout.luma < 0:
        return pixels[:, :, [layout.red, layout.green, layout.blue]]
    # OpenCV's conversion: BT.601 of studio range, 20 binary places.
    u, v = (np.repeat(pixels[:, first::2, 1 - layout.luma], 2, axis=1).astype(np.int32) - 128 for first in (0, 1))
    light = np.maximum(pixels[:, :, layout.luma].astype(np.int32) - 16, 0) * 1220542 + (1 << 19)
    planes = light + 1673527 * v, light - 852492 * v - 409993 * u, light + 2116026 * u
    return np.stack([plane >> 20 for plane in planes], axis=2).clip(0, 255).astype(np.uint8)


def prepare(pixels: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    """Return a model's input of an image: stretched bilinearly, then (value - mean) * scale.

    ``Preprocessor`` rounds the stretched image to whole levels. Here it is not, so that they differ by a level.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        spec: the model's input.

    Returns:
        (3, height, width) float32, channels in the order of ``spec.color``.
    """
    height, width = pixels.shape[:2]
    ordered = pixels if spec.color == "rgb" else pixels[:, :, ::-1]
    rows = source_coordinates(spec.height, height, "half_pixel")
    columns = source_coordinates(spec.width, width, "half_pixel")
    stretched = interpolate(ordered.transpose(2, 0, 1).astype(np.float32), rows, columns)
    mean, scale = (np.asarray(values, np.float32)[:, np.newaxis, np.newaxis] for values in (spec.mean, spec.scale))
    normalised: NDArray[np.float32] = (stretched - mean) * scale
    return normalised
