"""Section of the HTML report on calibration: how often the rules are right, by how sure they are of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from classaug_ros.evaluation.report.charts import Plot, ceiling
from classaug_ros.evaluation.report.markdown import calibration, number
from classaug_ros.evaluation.report.markup import Markup, element

UNIT = "confidence %"


def reliability(report: Mapping[str, Any]) -> Markup:
    """Return the expected calibration error, the reliability diagram and how many pixels it is made of."""
    bins = report["calibration"]["bins"]
    charts = [element("div", chart, class_="together") for chart in (diagram(bins), amounts(bins))]
    note = (
        "Pixels by confidence, in bins of equal width. A bar as high as the line is as often right as it is sure; one "
        "below it is too sure. Few pixels make a bar uncertain."
    )
    return element(
        "section",
        element("h2", "Calibration", id="calibration"),
        element("p", calibration(report), class_="note"),
        element("div", *charts, class_="pair"),
        element("p", note, class_="note below"),
    )


def diagram(bins: Sequence[Mapping[str, Any]]) -> Markup:
    """Draw the share of pixels that were right, by confidence; both are in per cent."""
    plot = Plot(0, 100, 100)
    drawn = []
    for index, one in enumerate(bins):
        if one["pixels"]:
            told = f"{_span(bins, index)}, {number(one['confidence'])} % sure, {number(one['accuracy'])} % right"
            drawn.append(plot.bar(*_bounds(bins, index), one["accuracy"], told, "rules"))
    x, y = (plot.x(0), plot.x(100)), (plot.y(0), plot.y(100))
    drawn.append(element("line", class_="ideal", x1=x[0], x2=x[1], y1=y[0], y2=y[1]))
    return plot.draw(drawn, UNIT, "% of the pixels right")


def amounts(bins: Sequence[Mapping[str, Any]]) -> Markup:
    """Draw the share of all pixels that each bin holds, in per cent."""
    every = sum(one["pixels"] for one in bins) or 1
    shares = [100 * one["pixels"] / every for one in bins]
    plot = Plot(0, 100, ceiling(max(shares) or 1.0))
    drawn = [
        plot.bar(*_bounds(bins, index), share, f"{_span(bins, index)}, {share:.2f} %", "amount")
        for index, share in enumerate(shares)
        if share
    ]
    return plot.draw(drawn, UNIT, "% of all pixels")


def _bounds(bins: Sequence[Mapping[str, Any]], index: int) -> tuple[float, float]:
    return 100 * index / len(bins), 100 * (index + 1) / len(bins)


def _span(bins: Sequence[Mapping[str, Any]], index: int) -> str:
    start, end = _bounds(bins, index)
    return f"confidence {start:.0f} to {end:.0f} %: {bins[index]['pixels']:,} pixels"
