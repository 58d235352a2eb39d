"""Frames to model input: normalisation, channel order, resize."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import pytest

from classaug_ros.engines.preprocess import Preprocessor
from classaug_ros.imaging.images import Frame
from classaug_ros.models.card import InputSpec

MEAN, SCALE = (127.5, 100.0, 3.0), (0.0078125, 0.5, 2.0)
ORDERS: tuple[Literal["rgb", "bgr"], ...] = ("rgb", "bgr")


def spec(height: int, width: int, color: Literal["rgb", "bgr"] = "rgb") -> InputSpec:
    return InputSpec("image", height, width, color, MEAN, SCALE)


@pytest.mark.parametrize("wanted", ORDERS)
@pytest.mark.parametrize("given", ORDERS)
def test_channels_are_ordered_and_normalised(given: Literal["rgb", "bgr"], wanted: Literal["rgb", "bgr"]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    image = Preprocessor(spec(7, 9, wanted))(Frame(pixels, given))
    assert image.shape == (1, 3, 7, 9)
    assert image.dtype == np.float32
    assert image.flags.c_contiguous
    for channel in range(3):
        source = channel if given == wanted else 2 - channel
        expected = (pixels[:, :, source].astype(np.float64) - MEAN[channel]) * SCALE[channel]
        np.testing.assert_allclose(image[0, channel], expected, rtol=1e-6, atol=1e-6)


def test_all_256_levels_are_normalised() -> None:
    levels = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    image = Preprocessor(spec(16, 16))(Frame(levels, "rgb"))
    for channel in range(3):
        np.testing.assert_allclose(
            image[0, channel].ravel(), (np.arange(256) - MEAN[channel]) * SCALE[channel], rtol=1e-6
        )


@pytest.mark.parametrize("size", [(5, 7), (16, 20), (64, 90), (1, 1)], ids=str)
def test_frames_are_stretched_to_the_input(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    image = Preprocessor(spec(16, 20))(Frame(pixels, "rgb"))
    for channel in range(3):
        plane = cv2.resize(pixels[:, :, channel].astype(np.float32), (20, 16), interpolation=cv2.INTER_LINEAR)
        expected = (plane - MEAN[channel]) * SCALE[channel]
        # The resized channel is rounded to uint8: half a level, and a little for fixed-point weights.
        np.testing.assert_allclose(image[0, channel], expected, atol=0.75 * SCALE[channel])


@pytest.mark.parametrize("view", ["read-only", "padded rows", "flipped", "every second pixel", "reversed channels"])
def test_views_of_a_message_s_data_are_read_as_they_are(view: str) -> None:
    random = np.random.default_rng(2)
    pixels = random.integers(0, 256, (6, 8, 3), np.uint8)
    if view == "read-only":
        pixels.flags.writeable = False
    elif view == "padded rows":
        pixels = random.integers(0, 256, (6, 11, 3), np.uint8)[:, :8]
    elif view == "flipped":
        pixels = pixels[::-1]
    elif view == "every second pixel":
        pixels = random.integers(0, 256, (6, 16, 3), np.uint8)[:, ::2]
    else:
        pixels = pixels[:, :, ::-1]
    for size in ((6, 8), (9, 5)):
        preprocess = Preprocessor(spec(*size))
        copied = preprocess(Frame(np.ascontiguousarray(pixels), "rgb")).copy()
        np.testing.assert_array_equal(preprocess(Frame(pixels, "rgb")), copied)


def test_the_buffer_is_reused_and_wholly_rewritten() -> None:
    preprocess = Preprocessor(spec(4, 4))
    first = preprocess(Frame(np.zeros((4, 4, 3), np.uint8), "rgb"))
    black = first.copy()
    first.fill(np.nan)
    again = preprocess(Frame(np.zeros((9, 2, 3), np.uint8), "rgb"))
    assert again is first
    np.testing.assert_array_equal(again, black)


def test_an_input_handed_over_is_left_alone_by_the_next_frame() -> None:
    preprocess = Preprocessor(spec(4, 4))
    kept = preprocess(Frame(np.zeros((4, 4, 3), np.uint8), "rgb"))
    black = kept.copy()
    preprocess.hand_over()
    for _ in range(2):  # a frame that was prepared and came to nothing does no harm
        assert preprocess(Frame(np.full((4, 4, 3), 9, np.uint8), "rgb")) is not kept
    np.testing.assert_array_equal(kept, black)
