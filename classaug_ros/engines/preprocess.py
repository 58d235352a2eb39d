"""Camera frame to model input."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from classaug_ros.imaging.images import Frame
from classaug_ros.models.card import InputSpec


class Preprocessor:
    """Turns frames into one model's input: bilinear resize to the model's size, then (value - mean) * scale.

    The whole frame is stretched to the input, so that the model's output covers the whole frame too. Normalisation
    is a table of 256 values per channel, since a resized channel is still uint8.
    """

    def __init__(self, spec: InputSpec) -> None:
        """Prepare for the input described by ``spec``."""
        self._spec = spec
        levels = np.arange(256, dtype=np.float32)
        self._tables = [
            (levels - np.float32(mean)) * np.float32(scale) for mean, scale in zip(spec.mean, spec.scale, strict=True)
        ]
        # Two, so that the next frame is prepared while the model still reads this one.
        self._inputs = [np.empty((1, 3, spec.height, spec.width), np.float32) for _ in range(2)]

    def __call__(self, frame: Frame) -> NDArray[np.float32]:
        """Return the model input of a frame.

        Args:
            frame: H x W x 3 uint8, in either channel order.

        Returns:
            1 x 3 x height x width float32; the next call overwrites it, unless ``hand_over`` was called.
        """
        size = (self._spec.width, self._spec.height)
        resized = cv2.resize(frame.pixels, size, interpolation=cv2.INTER_LINEAR)
        planes = cv2.split(resized)
        ordered = planes if frame.order == self._spec.color else planes[::-1]
        image = self._inputs[0]
        for plane, table, out in zip(ordered, self._tables, image[0], strict=True):
            cv2.LUT(plane, table, dst=out)
        return image

    def hand_over(self) -> None:
        """Leave the last input to the model; the one handed over before it is used for the next frame."""
        self._inputs.reverse()
