"""Charts: axes and bars by their numbers."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from classaug_ros.evaluation.report.charts import BINS, POINTS, Series, areas, ceiling, histogram, lines, strip, ticks
from classaug_ros.evaluation.report.markup import Markup, element, join, rgb


@given(st.floats(1e-9, 1e12))
def test_a_ceiling_is_round_and_not_far(value: float) -> None:
    top = ceiling(value)
    assert value * (1 - 1e-8) <= top <= 1.51 * value
    assert float(f"{top:.2g}") == pytest.approx(top, rel=1e-12)


@given(st.floats(0, 1e6), st.floats(1e-3, 1e6), st.integers(2, 10), st.booleans())
def test_ticks_are_few_round_and_within(low: float, width: float, most: int, whole: bool) -> None:
    marks = ticks(low, low + width, most, whole=whole)
    assert len(marks) <= most + 1
    assert all(low - 1e-6 * width <= mark <= low + width * (1 + 1e-6) for mark in marks)
    if whole:
        assert all(mark == pytest.approx(round(mark)) for mark in marks)


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=300))
@example([5e-324])
def test_every_value_is_in_one_bar(values: list[float]) -> None:
    told = re.findall(r"<title>(from|to) \S+ ms: (\d+) frames</title>", histogram(values, "ms", "frames"))
    assert len(told) == BINS
    assert sum(int(count) for _, count in told) == len(values)


def test_few_far_values_do_not_squeeze_the_rest() -> None:
    drawn = histogram([10.0] * 300 + [5000.0], "ms", "frames")
    assert "and up to 5000" in drawn
    assert "from " in drawn
    assert 'class="more"' in drawn
    assert 'class="more"' not in histogram([10.0, 11.0, 12.0], "ms", "frames")


def test_long_series_are_averaged() -> None:
    xs = [float(number) for number in range(10 * POINTS)]
    drawn = lines(xs, [Series("value", [number % 2 for number in range(10 * POINTS)], style="rules")], "s", "value")
    points = re.findall(r"([ML])([\d.]+),([\d.]+)", drawn)
    assert len(points) == POINTS
    assert len({y for _, _, y in points}) == 1


def test_lines_are_broken_where_there_is_no_value() -> None:
    drawn = lines([1, 2, 3, 4], [Series("value", [1, None, 2, 3], style="rules")], "frame", "value")
    assert [pen for pen, _ in re.findall(r"([ML])([\d.]+),", drawn)] == ["M", "M", "L"]


def test_a_single_frame_fills_the_chart() -> None:
    drawn = areas([1.0], [Series("road", [0.25], "#000000"), Series("sky", [0.75], "#ffffff")], "frame")
    corners = re.findall(r'points="([^"]*)"', drawn)
    assert [len({corner.split(",")[0] for corner in points.split()}) for points in corners] == [2, 2]


def test_a_strip_has_its_parts_side_by_side() -> None:
    drawn = strip([("road", "#000000", 0.25), ("sky", "#ffffff", 0.75)])
    boxes = re.findall(r'x="([\d.]+)" y="0" width="([\d.]+)"', drawn)
    assert boxes == [("0", "25"), ("25", "75")]


def test_text_is_escaped_and_markup_is_not() -> None:
    inner = element("b", "<&>", title='"', data_x=1.0, class_="y", hidden=None)
    assert inner == '<b title="&quot;" data-x="1" class="y">&lt;&amp;&gt;</b>'
    assert element("p", inner, "<") == f"<p>{inner}&lt;</p>"
    assert join([inner, "&"], "<") == f"{inner}&lt;&amp;"
    assert isinstance(inner, Markup)
    assert element("img", src="a") == '<img src="a">'
    assert rgb((0, 128, 255)) == "#0080ff"
