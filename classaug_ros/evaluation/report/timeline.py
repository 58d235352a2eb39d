"""Sections of the HTML report over frames: class shares, scores, and how long each frame took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from classaug_ros.evaluation.report import charts
from classaug_ros.evaluation.report.charts import Series
from classaug_ros.evaluation.report.markdown import in_use, mean_shares
from classaug_ros.evaluation.report.markup import Markup, element, rgb

SHOWN = 12  # classes with an area of their own
REST = "#d9dde2"
ALWAYS_TOLD = ("sent", "answered", "dropped")  # of a live run, even if none


def over_time(report: Mapping[str, Any]) -> Markup:
    """Return each class's share of the pixels, and the scores, over the frames of each camera."""
    shares = mean_shares(report)
    largest = [k for k in sorted(range(len(shares)), key=lambda k: -shares[k]) if shares[k]][:SHOWN]
    output = report["output"]
    chips = [(output[k]["name"], rgb(output[k]["color"])) for k in largest]
    if sum(shares[k] for k in largest) < 1 - 1e-4:
        chips.append(("all others", REST))
    items = [element("li", element("span", class_="chip", style=f"background:{color}"), name) for name, color in chips]
    legend = element("div", element("ul", *items), class_="legend")
    parts: list[Markup] = []
    for camera in dict.fromkeys(frame["camera"] for frame in report["frames"]):
        frames = [frame for frame in report["frames"] if frame["camera"] == camera]
        if camera:
            parts.append(element("h3", camera))
        parts += _camera(report, frames, largest, legend)
    return element("section", element("h2", "Over time", id="time"), *parts)


def latency(report: Mapping[str, Any]) -> Markup:
    """Return how long frames took: live from stamp to arrival where that was measured, else computing alone."""
    live = report.get("live", {})
    if "latency_ms" in live:
        values, what = live["latency_ms"], "From an image to its label, at a subscriber of the running node."
    else:
        values = [1000 * frame["seconds"] for frame in report["frames"]]
        what = "All models, fusion and its confidence, for each frame, on the machine that evaluated."
    parts = [element("p", what, class_="note")]
    if "sent" in live:
        counts = [(name, count) for name, count in live.items() if isinstance(count, int)]
        told = [(f"frames {name}", f"{count:,}") for name, count in counts if count or name in ALWAYS_TOLD]
        parts.append(_facts(told))
    if values:
        quantiles = zip(("p50", "p95", "p99", "max"), np.percentile(values, (50, 95, 99, 100)), strict=True)
        facts = _facts([(name, f"{value:,.0f} ms") for name, value in quantiles])
        parts.append(element("div", facts, charts.histogram(values, "ms", "frames"), class_="together"))
    used_by_node = []
    for name, title, unit in (("cpu_percent", "CPU of the node", "% of a core"), ("memory_mib", "Its memory", "MiB")):
        if live.get(name):
            times, used = zip(*live[name], strict=True)
            series = [Series(title, used, style="rules")]
            drawn = [element("h3", title), charts.lines(times, series, "s", unit)]
            used_by_node.append(element("div", *drawn, class_="together"))
    if used_by_node:
        parts.append(element("div", *used_by_node, class_="pair"))
    return element("section", element("h2", "Latency", id="latency"), *parts)


def _camera(
    report: Mapping[str, Any], frames: Sequence[Mapping[str, Any]], largest: Sequence[int], legend: Markup
) -> list[Markup]:
    """Return the charts of one camera."""
    output, used = report["output"], report["in_use"]
    xs, unit = _positions(frames)
    series = [
        Series(output[k]["name"], [frame["shares"][k] for frame in frames], rgb(output[k]["color"])) for k in largest
    ]
    rest = [max(1 - sum(frame["shares"][k] for k in largest), 0.0) for frame in frames]
    areas = charts.areas(xs, [*series, Series("all others", rest, REST)], unit)
    drawn = [element("div", legend, areas, class_="together")]
    if len(frames) > 1 and any(frame["miou"][used] is not None for frame in frames):
        title = in_use(report)["title"]
        scores = [
            Series(name, [frame["miou"][method] for frame in frames], style=style)
            for method, name, style in (("main_only", "main alone", "main"), (used, title, "rules"))
        ]
        key = charts.key_line(main="main alone", rules=title)
        lines = charts.lines(xs, scores, unit, "mIoU % of the frame", 100)
        drawn.append(element("div", key, lines, class_="together"))
    return [element("div", *drawn, class_="pair")]


def _positions(frames: Sequence[Mapping[str, Any]]) -> tuple[list[float], str]:
    """Return where frames lie on the axis, and its unit: seconds where they have ascending stamps, else frames."""
    stamps = [frame["stamp"] for frame in frames]
    if stamps[0] and all(one < other for one, other in pairwise(stamps)):
        return [(stamp - stamps[0]) / 1e9 for stamp in stamps], "s"
    return [float(number) for number in range(1, len(frames) + 1)], charts.FRAMES


def _facts(facts: Sequence[tuple[str, str]]) -> Markup:
    cards = [
        element("div", element("span", name, class_="what"), element("span", value, class_="figure"), class_="key")
        for name, value in facts
    ]
    return element("div", *cards, class_="keys small")
