"""Sections of the HTML report to look at: what main classes turned into, frames side by side, the legend."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from classaug_ros.evaluation.report import charts
from classaug_ros.evaluation.report.markdown import in_use, mean_shares, number
from classaug_ros.evaluation.report.markup import Markup, element, join, rgb
from classaug_ros.evaluation.report.pictures import Shot
from classaug_ros.evaluation.report.scores_section import difference

LISTED = 3  # classes a main class turned into that are told by name
UNLABELLED = {"name": "unlabelled", "color": (0, 0, 0)}
LEAST = 0.0005  # share of a main class's pixels that is told


def class_changes(report: Mapping[str, Any]) -> Markup:
    """Return what each main class that occurs became."""
    output, counts = [*report["output"], UNLABELLED], report["turned"]
    title, every = in_use(report)["title"], sum(map(sum, counts)) or 1
    changed = every - sum(row[number] for number, row in enumerate(counts))
    rows, same = [], []
    for main, row in sorted(enumerate(counts), key=lambda item: -sum(item[1])):
        total = sum(row)
        if not total:
            continue
        shares = [count / total for count in row]
        if shares[main] > 1 - LEAST:
            same.append(output[main]["name"])
        else:
            rows.append(_changes_row(main, shares, total / every, output))
    head = element("tr", *(element("th", title, scope="col") for title in ("main model says", "pixels", "", "became")))
    table = element("table", element("thead", head), element("tbody", *rows), class_="figures turned")
    return element(
        "section",
        element("h2", "What main classes turned into", id="turned"),
        element("p", f"The {title} changed {100 * changed / every:.1f} % of all pixels.", class_="note"),
        element("div", table, class_="scroll") if rows else "",
        element("p", f"Left as they are: {', '.join(same)}.", class_="note") if same else "",
    )


def frames(report: Mapping[str, Any], groups: Mapping[str, Sequence[Shot]]) -> Markup:
    """Return frames side by side, by what they show."""
    parts = []
    for title, shots in groups.items():
        drawn = [_shot(report, shot) for shot in shots]
        first, *others = drawn or [element("p", "None.", class_="note")]
        parts += [element("div", element("h3", title), first, class_="together"), *others]
    truth = any("truth" in shot.views for shots in groups.values() for shot in shots)
    note = "In the ground truth, black is not annotated, grey a class that no output class means." if truth else ""
    return element(
        "section",
        element("h2", "Frames", id="frames"),
        legend(report),
        element("p", note, class_="note") if note else "",
        *parts,
    )


def legend(report: Mapping[str, Any]) -> Markup:
    """Return the colours of the classes that occur: in what the rules give, the main model says or the truth holds."""
    shown = {name for names in report["classes"] for name in (names, *names.split("/"))}  # scored as one
    shown |= {one["name"] for one, share in zip(report["output"], mean_shares(report), strict=True) if share}
    shown |= {one["name"] for one, row in zip(report["output"], report.get("turned", ()), strict=False) if any(row)}
    lists = []
    for source in ("main", "added"):
        chips = [
            element("li", element("span", class_="chip", style=f"background:{rgb(one['color'])}"), one["name"])
            for one in report["output"]
            if one["source"] == source and one["name"] in shown
        ]
        if chips:
            lists.append(element("div", element("h4", f"{source} classes"), element("ul", *chips)))
    return element("div", *lists, class_="legend")


def frame_name(frame: Mapping[str, Any]) -> str:
    """Return what a frame is called: its name, with its camera in a recording."""
    return f"{frame['camera']} {frame['name']}" if frame["camera"] else str(frame["name"])


def _changes_row(main: int, shares: Sequence[float], part: float, output: Sequence[Mapping[str, Any]]) -> Markup:
    others = sorted((i for i, share in enumerate(shares) if share and i != main), key=lambda i: -shares[i])
    order = ([main] if shares[main] else []) + others
    drawn = [(output[i]["name"], rgb(output[i]["color"]), shares[i]) for i in order]
    told = [f"{output[i]['name']} {100 * shares[i]:.1f} %" for i in others[:LISTED] if shares[i] >= LEAST]
    rest = sum(shares[i] for i in others[LISTED:])
    if rest >= LEAST:
        told.append(f"others {100 * rest:.1f} %")
    return element(
        "tr",
        element("th", output[main]["name"], scope="row"),
        element("td", f"{100 * part:.1f} %"),
        element("td", charts.strip(drawn), class_="bar"),
        element(
            "td", element("b", f"stays {100 * shares[main]:.1f} %"), *(f", {what}" for what in told), class_="told"
        ),
    )


def _shot(report: Mapping[str, Any], shot: Shot) -> Markup:
    frame = report["frames"][shot.position]
    main, used = frame["miou"]["main_only"], frame["miou"][report["in_use"]]
    views = [
        element(
            "div",
            element(
                "img",
                src=f"data:image/jpeg;base64,{base64.b64encode(data).decode()}",
                alt=f"{what} of {frame_name(frame)}",
                width=shot.size[1],
                height=shot.size[0],
            ),
            element("span", what),
            class_="view",
        )
        for what, data in shot.views.items()
    ]
    score = "" if used is None else f"mIoU {number(used)} ({difference(used, main)} against main alone)"
    caption = element("figcaption", element("b", frame_name(frame)), f"  {score}")
    return element("figure", caption, element("div", join(views), class_="views"), class_="shot")
