"""Charts as SVG; colours and letters that do not depend on the data are in style.css."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from classaug_ros.evaluation.report.markup import Markup, element, join

WIDTH, HEIGHT = 520, 210  # of a chart with axes, in its own units
LEFT, RIGHT, TOP, BOTTOM = 44, 20, 24, 38  # room around the plot
BINS = 32  # of a histogram
LEAST = 1e-9  # values below are as good as 0: an axis of them could not be labelled
FRAMES = "frame"  # unit of an axis that counts them
POINTS = 320  # most points along a chart: longer series are averaged


@dataclass(frozen=True)
class Series:
    """Values along an axis.

    Attributes:
        name: what they are.
        values: one per position; None where there is none.
        color: CSS colour; None for the style's own.
        style: class in style.css.
    """

    name: str
    values: Sequence[float | None]
    color: str | None = None
    style: str | None = None


def key_line(**names: str) -> Markup:
    """Tell what styles stand for in charts, by style: a swatch and a name for each."""
    entries = [(element("span", class_=f"swatch {style}"), f"{name} ") for style, name in names.items()]
    return element("p", *(part for entry in entries for part in entry), class_="key-line")


def bars(main: float | None, rules: float | None, subs: Sequence[float | None]) -> Markup:
    """Draw the IoU of a class, per cent: main model above the rules, and each sub model as a mark."""
    parts = [element("line", class_="base", x1=0.0, x2=0.0, y1=0, y2=18, vector_effect="non-scaling-stroke")]
    for style, value, top, height in (("main", main, 2, 6), ("rules", rules, 9, 7)):
        if value is not None:
            parts.append(element("rect", class_=style, x=0, y=top, width=value, height=height))
    for sub in subs:
        if sub is not None:
            mark = element("line", class_="sub", x1=sub, x2=sub, y1=0, y2=18, vector_effect="non-scaling-stroke")
            parts.append(mark)
    return element("svg", *parts, class_="bars", viewBox="0 0 100 18", preserveAspectRatio="none", aria_hidden="true")


def strip(parts: Sequence[tuple[str, str, float]]) -> Markup:
    """Draw shares of a whole, 0..1 each, side by side: name, CSS colour and share."""
    drawn, left = [], 0.0
    for name, color, share in parts:
        title = element("title", f"{name} {100 * share:.1f} %")
        drawn.append(element("rect", title, x=100 * left, y=0, width=100 * share, height=14, fill=color))
        left += share
    return element("svg", *drawn, class_="strip", viewBox="0 0 100 14", preserveAspectRatio="none", aria_hidden="true")


def histogram(values: Sequence[float], unit: str, what: str) -> Markup:
    """Draw how often values of 0 and more occur, at least one; few far above the rest share the last bar."""
    ordered = sorted(values)
    usual = ordered[max(math.ceil(0.99 * len(ordered)) - 1, 0)]
    most = min(ordered[-1], 1.15 * usual)
    top = ceiling(most if most > LEAST else 1.0)
    counts = [0] * BINS
    for value in ordered:
        counts[min(int(value / top * BINS), BINS - 1)] += 1
    plot = Plot(0, top, ceiling(max(counts)), counts_y=True)
    drawn = []
    for index, count in enumerate(counts):
        more = index == BINS - 1 and ordered[-1] > top
        start, end = index * top / BINS, (index + 1) * top / BINS
        span = f"from {index * top / BINS:.4g} {unit}" if more else f"to {(index + 1) * top / BINS:.4g} {unit}"
        drawn.append(plot.bar(start, end, count, f"{span}: {count} {what}", "more" if more else "rules"))
    if ordered[-1] > top:
        drawn.append(element("text", f"and up to {ordered[-1]:.4g}", x=plot.x(top), y=TOP - 9, text_anchor="end"))
    return plot.draw(drawn, unit, what)


def areas(xs: Sequence[float], series: Sequence[Series], x_unit: str) -> Markup:
    """Draw shares of a whole, 0..1, stacked in the order of the series over ascending positions, at least one."""
    xs, series = _thinned(xs, series)
    if len(xs) == 1:  # a single frame is drawn as wide as the chart
        xs, series = [xs[0], xs[0] + 1], [Series(s.name, [s.values[0]] * 2, s.color, s.style) for s in series]
    plot = Plot(xs[0], xs[-1], 100, counts_x=x_unit == FRAMES)
    base = [0.0] * len(xs)
    drawn = []
    for one in series:
        upper = [low + 100 * (value or 0) for low, value in zip(base, one.values, strict=True)]
        there = [plot.at(x, value) for x, value in zip(xs, upper, strict=True)]
        back = [plot.at(x, value) for x, value in zip(reversed(xs), reversed(base), strict=True)]
        title = element("title", one.name)
        drawn.append(element("polygon", title, points=" ".join(there + back), fill=one.color))
        base = upper
    return plot.draw(drawn, x_unit, "% of the pixels")


def lines(xs: Sequence[float], series: Sequence[Series], x_unit: str, what: str, top: float | None = None) -> Markup:
    """Draw values of 0 and more over ascending positions, at least one; lines are broken where there is none."""
    xs, series = _thinned(xs, series)
    most = max((value for one in series for value in one.values if value is not None), default=1.0)
    plot = Plot(xs[0], xs[-1] if len(xs) > 1 else xs[0] + 1, top or ceiling(most or 1.0), counts_x=x_unit == FRAMES)
    drawn = []
    for one in series:
        pen, path = "M", []
        for x, value in zip(xs, one.values, strict=True):
            if value is not None:
                path.append(f"{pen}{plot.at(x, value)}")
            pen = "M" if value is None else "L"
        if path:
            drawn.append(element("path", element("title", one.name), class_=f"line {one.style}", d=" ".join(path)))
    return plot.draw(drawn, x_unit, what)


def ceiling(value: float, steps: Sequence[float] = (1, 1.5, 2, 3, 4, 5, 6, 8, 10)) -> float:
    """Return the least of the steps (1 to 10) times a power of ten that is not below a value above 0."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in steps if step * power >= value * (1 - 1e-9))


def ticks(low: float, high: float, most: int, *, whole: bool = False) -> list[float]:
    """Return about ``most`` round numbers from low to high, all whole if need be."""
    step = ceiling((high - low) / most, (1, 2, 5, 10))
    if whole:
        step = max(step, 1.0)
    return [n * step for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Plot:
    """Axes from (left, 0) to (right, top); the marks of an axis that counts things are whole numbers."""

    left: float
    right: float
    top: float
    counts_x: bool = False
    counts_y: bool = False

    def x(self, value: float) -> float:
        """Return where a value along the axis lies, in the chart's units."""
        return LEFT + (value - self.left) / (self.right - self.left) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Return how far down a value lies; one above the top lies at the top."""
        return HEIGHT - BOTTOM - min(value / self.top, 1) * (HEIGHT - TOP - BOTTOM)

    def at(self, x: float, y: float) -> str:
        """Return where a point lies, as SVG has it in paths."""
        return f"{self.x(x):.1f},{self.y(y):.1f}"

    def bar(self, start: float, end: float, height: float, title: str, style: str) -> Markup:
        """Draw a bar between two positions along the axis."""
        left, right, top = self.x(start), self.x(end), self.y(height)
        box = {"x": left + 0.5, "y": top, "width": right - left - 1, "height": self.y(0) - top}
        return element("rect", element("title", title), class_=style, **box)

    def draw(self, drawn: Sequence[Markup], x_unit: str, what: str) -> Markup:
        """Return the chart of what was drawn, with its grid, marks and the names of both axes."""
        grid = []
        for value in ticks(0, self.top, 4, whole=self.counts_y):
            y = self.y(value)
            grid.append(element("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y))
            grid.append(element("text", f"{value:,.6g}", x=LEFT - 6, y=y + 4, text_anchor="end"))
        grid.extend(
            element("text", f"{value:,.6g}", x=self.x(value), y=HEIGHT - BOTTOM + 16, text_anchor="middle")
            for value in ticks(self.left, self.right, 8, whole=self.counts_x)
        )
        axes = [
            element("text", x_unit, class_="axis", x=WIDTH - RIGHT, y=HEIGHT - 4, text_anchor="end"),
            element("text", what, class_="axis", x=LEFT, y=TOP - 9),
        ]
        name = element("title", f"{what} by {x_unit}")
        return element(
            "svg", name, join([*drawn, *grid, *axes]), class_="chart", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img"
        )


def _thinned(xs: Sequence[float], series: Sequence[Series]) -> tuple[Sequence[float], Sequence[Series]]:
    """Average neighbours until there are at most ``POINTS`` of them."""
    size = math.ceil(len(xs) / POINTS)
    if size == 1:
        return xs, series
    starts = range(0, len(xs), size)

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    return [mean(xs[i : i + size]) or 0.0 for i in starts], [
        Series(one.name, [mean(one.values[i : i + size]) for i in starts], one.color, one.style) for one in series
    ]
