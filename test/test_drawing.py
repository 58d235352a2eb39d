"""Pictures for people: sizes, text and legends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classaug_ros.imaging.drawing import LINE, legend, shrunk, write

CLASSES = [(f"class {number}", (40 * number, 10, 200)) for number in range(6)]


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 100))
def test_pictures_are_made_smaller_never_larger(height: int, width: int, side: int) -> None:
    picture = np.zeros((height, width, 3), np.uint8)
    small = shrunk(picture, side)
    assert max(small.shape[:2]) == min(side, max(height, width))
    scale = max(small.shape[:2]) / max(height, width)
    assert small.shape[0] == max(round(height * scale), 1)
    assert small.shape[1] == max(round(width * scale), 1)


def test_text_is_dark_on_white_and_as_wide_as_it_is_long() -> None:
    short, long = write("sky"), write("traffic light of some kind")
    assert short.shape[0] == long.shape[0]
    assert long.shape[1] > 4 * short.shape[1]
    assert short.min() < 100
    assert (short == 255).mean() > 0.4


@pytest.mark.parametrize(("width", "lines"), [(2000, 1), (420, 2), (130, 6)])
def test_a_legend_takes_the_lines_it_needs(width: int, lines: int) -> None:
    picture = legend("main:", CLASSES, width)
    assert picture.shape[1] == width
    assert picture.shape[0] >= lines * LINE
    found = {tuple(color) for color in picture.reshape(-1, 3).tolist()}
    assert {color for _, color in CLASSES} <= found


def test_a_name_wider_than_the_legend_is_cut() -> None:
    assert legend("", [("very " * 60, (1, 2, 3))], 200).shape[1] == 200
