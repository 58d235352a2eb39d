"""Calibration: the expected calibration error against its definition, pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classaug_ros.evaluation.calibration import BINS, Calibration

PIXELS = st.lists(st.tuples(st.integers(0, 255), st.booleans()), min_size=1, max_size=200)


def of(pixels: list[tuple[int, bool]]) -> Calibration:
    calibration = Calibration()
    calibration.update(np.array([v for v, _ in pixels], np.uint8), np.array([right for _, right in pixels]))
    return calibration


def members(pixels: list[tuple[int, bool]], number: int) -> list[tuple[float, bool]]:
    """Return the pixels of a bin, ((number) / BINS, (number + 1) / BINS], by whole numbers."""
    low, high = 255 * number, 255 * (number + 1)
    return [(v / 255, right) for v, right in pixels if low < BINS * v <= high or (v == 0 and number == 0)]


@given(PIXELS)
def test_the_error_is_that_of_the_definition(pixels: list[tuple[int, bool]]) -> None:
    calibration = of(pixels)
    expected = 0.0
    for number, one in enumerate(calibration.bins()):
        inside = members(pixels, number)
        assert one.pixels == len(inside)
        if inside:
            confidence = sum(v for v, _ in inside) / len(inside)
            accuracy = sum(right for _, right in inside) / len(inside)
            assert (one.confidence, one.accuracy) == pytest.approx((confidence, accuracy))
            expected += len(inside) / len(pixels) * abs(accuracy - confidence)
        else:
            assert math.isnan(one.confidence)
            assert math.isnan(one.accuracy)
    assert calibration.pixels == len(pixels)
    assert calibration.error() == pytest.approx(expected)


@given(PIXELS, PIXELS)
def test_images_add_up(one: list[tuple[int, bool]], other: list[tuple[int, bool]]) -> None:
    calibration = of(one)
    calibration.update(np.array([v for v, _ in other], np.uint8), np.array([right for _, right in other]))
    assert calibration.error() == of(one + other).error()


def test_bins_are_of_equal_width_and_closed_above() -> None:
    bins = of([(0, True), (17, True), (18, False), (238, True), (239, True), (255, False)]).bins()
    assert len(bins) == 15
    assert [(one.start, one.end) for one in bins] == [(b / 15, (b + 1) / 15) for b in range(15)]
    assert [one.pixels for one in bins] == [2, 1, *[0] * 11, 1, 2]  # 17 / 255 is 1 / 15, 238 / 255 is 14 / 15


def test_sure_and_right_is_no_error_sure_and_wrong_is_all() -> None:
    assert of([(255, True)] * 3).error() == 0
    assert of([(255, False)] * 3).error() == 1
    assert of([(51, True), *[(51, False)] * 4]).error() == pytest.approx(0)
    assert math.isnan(Calibration().error())
