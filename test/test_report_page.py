"""The HTML report: one well-formed page, with the figures of report.json, that needs nothing else."""

from __future__ import annotations

import base64
import copy
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support.browser import browse, needs_chromium
from support.reports import CAMERAS, Evaluated, evaluate_world
from support.tinymodels import write_world

from classaug_ros.evaluation.report import write_report
from classaug_ros.evaluation.report.charts import ceiling
from classaug_ros.evaluation.report.markdown import number, origin
from classaug_ros.evaluation.report.page import to_html
from classaug_ros.evaluation.report.scores_section import difference
from classaug_ros.rules.decision import Decision

HOSTILE = '<script>alert("1")</script>&\'<img src=x>'
LIVE: dict[str, Any] = {
    "latency_ms": [20.0, 30.0, 25.0, 900.0],
    "sent": 5,
    "answered": 4,
    "dropped": 1,
    "refused": 0,
    "lost": 2,
    "cpu_percent": [[0.0, 80.0], [1.0, 120.0]],
    "memory_mib": [[0.0, 300.0], [1.0, 310.0]],
}


@dataclass
class Node:
    """An element of a page."""

    tag: str
    attributes: dict[str, str | None]
    parts: list[Node | str] = field(default_factory=list)

    def all(self, tag: str, **attributes: str) -> Iterator[Node]:
        """Find elements below this one, by tag and by attributes (``class_`` for ``class``)."""
        for part in self.parts:
            if isinstance(part, Node):
                wanted = all(part.attributes.get(name.rstrip("_")) == value for name, value in attributes.items())
                if part.tag == tag and wanted:
                    yield part
                yield from part.all(tag, **attributes)

    @property
    def text(self) -> str:
        return "".join(part if isinstance(part, str) else part.text for part in self.parts)


class Strict(HTMLParser):
    """Builds the tree of a page whose elements are all closed, in order."""

    VOID = ("meta", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.root = Node("", {})
        self.open = [self.root]
        self.feed(text)
        self.close()
        assert self.open == [self.root], f"<{self.open[-1].tag}> is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, dict(attrs))
        assert len(node.attributes) == len(attrs), f"<{tag}> has an attribute twice"
        self.open[-1].parts.append(node)
        if tag not in self.VOID:
            self.open.append(node)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].parts.append(data)


def parsed(evaluated: Evaluated, report: Mapping[str, Any] | None = None) -> Node:
    return Strict(to_html(report or evaluated.report, evaluated.pictures.groups)).root


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    return evaluate_world(write_world(tmp_path_factory.mktemp("world"), images=6, size=(60, 80)))


@pytest.fixture(scope="module")
def weighed(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """By rules of both kinds, those of kind probability in use, that leave pixels unlabelled."""
    world = write_world(tmp_path_factory.mktemp("weighed"), images=3, size=(60, 80))
    return evaluate_world(world, kind="probability", decision=Decision(min_confidence=0.4))


@pytest.fixture(scope="module")
def unscored(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    world = write_world(tmp_path_factory.mktemp("drive"), images=6, size=(30, 40))
    return evaluate_world(world, truth=False, live=LIVE)


def section(page: Node, anchor: str) -> Node:
    return next(part for part in page.all("section") if any(part.all("h2", id=anchor)))


def rows(node: Node) -> list[list[str]]:
    cells = [[part for part in row.parts if isinstance(part, Node)] for row in node.all("tr")]
    return [[cell.text for cell in row] for row in cells]


def test_every_section_can_be_reached(evaluated: Evaluated) -> None:
    page = parsed(evaluated)
    links = [link.attributes["href"] for nav in page.all("nav") for link in nav.all("a")]
    anchors = [
        "scores",
        "classes",
        "edges",
        "calibration",
        "confusion",
        "turned",
        "frames",
        "time",
        "latency",
        "provenance",
    ]
    assert links == [f"#{anchor}" for anchor in anchors]
    assert [heading.attributes["id"] for heading in page.all("h2")] == anchors


def test_table_2_and_the_classes_have_the_figures_of_the_json(evaluated: Evaluated) -> None:
    page, methods = parsed(evaluated), evaluated.report["methods"]
    assert "unlabelled" not in section(page, "scores").text
    table = rows(section(page, "scores"))
    titles = ("main alone", "sub alone", "table rules")
    assert table[1:] == [
        [title, *map(number, result["miou"].values())] for title, result in zip(titles, methods.values(), strict=True)
    ]
    told = {row[0]: row[2:] for row in rows(section(page, "classes")) if len(row) == 6}
    for name in evaluated.report["classes"]:
        main, sub, rules = (methods[method]["iou"][name] for method in methods)
        assert told[name] == [number(main), number(sub), number(rules), difference(rules, main)]


def test_rules_of_both_kinds_stand_side_by_side_those_in_use_marked(weighed: Evaluated) -> None:
    page, methods = parsed(weighed), weighed.report["methods"]
    titles = ["main alone", "sub alone", "table rules", "probability rules (in use)"]
    table = rows(section(page, "scores"))
    assert table[1:] == [
        [title, *map(number, result["miou"].values())] for title, result in zip(titles, methods.values(), strict=True)
    ]
    [ours] = section(page, "scores").all("tr", class_="ours")
    assert next(ours.all("th")).text == titles[-1]
    classes = rows(section(page, "classes"))
    assert classes[0][2:] == ["main", "sub", "table", "probability", "gain"]
    told = {row[0]: row[2:] for row in classes if len(row) == 7}
    for name in weighed.report["classes"]:
        ious = [result["iou"][name] for result in methods.values()]
        assert told[name] == [*map(number, ious), difference(ious[3], ious[0])]
    for key, mean in zip(next(page.all("header")).all("div", class_="key"), ("main", "added", "all"), strict=True):
        figure = next(key.all("span", class_="figure"))
        assert figure.text == number(methods["probability"]["miou"][mean])


def test_scores_near_edges_are_those_of_the_json(weighed: Evaluated) -> None:
    first, second, *body = rows(section(parsed(weighed), "edges"))
    assert first[1:] == ["within 1 px", "within 3 px", "within 5 px"]
    assert second[1:] == ["main", "added", "all"] * 3
    for row, result in zip(body, weighed.report["methods"].values(), strict=True):
        assert row[1:] == [number(value) for miou in result["contours"].values() for value in miou.values()]


def test_the_reliability_diagram_has_a_bar_for_each_bin(weighed: Evaluated) -> None:
    calibration, part = weighed.report["calibration"], section(parsed(weighed), "calibration")
    assert f"probability rules: {number(calibration['error'])} points" in part.text
    filled = [(index, one) for index, one in enumerate(calibration["bins"]) if one["pixels"]]
    assert len(filled) > 3
    diagram, amounts = part.all("svg", class_="chart")
    every = sum(one["pixels"] for _, one in filled)
    right = [one["accuracy"] for _, one in filled]
    shares = [100 * one["pixels"] / every for _, one in filled]
    for chart, style, values, top in (
        (diagram, "rules", right, 100),
        (amounts, "amount", shares, ceiling(max(shares))),
    ):
        bars = list(chart.all("rect", class_=style))
        heights = [float(str(bar.attributes["height"])) for bar in bars]
        assert heights == pytest.approx([148 * value / top for value in values], abs=0.02)
        for bar, (index, one) in zip(bars, filled, strict=True):
            start, end = 100 * index / 15, 100 * (index + 1) / 15
            told = f"confidence {start:.0f} to {end:.0f} %: {one['pixels']:,} pixels, "
            assert next(bar.all("title")).text.startswith(told)


def test_what_was_left_unlabelled_is_told(weighed: Evaluated) -> None:
    assert weighed.report["unlabelled"] > 1
    part = section(parsed(weighed), "provenance")
    facts = dict(zip((n.text for n in part.all("dt")), (n.text for n in part.all("dd")), strict=True))
    left = f"{number(weighed.report['unlabelled'])} % of the pixels left unlabelled"
    assert facts["decision"] == f"prefer evidence, contours off, min_confidence 0.4: {left}"
    told = f"left {number(weighed.report['unlabelled'])} % of all pixels unlabelled, being less confident than 0.4"
    assert told in section(parsed(weighed), "scores").text
    assert ", unlabelled " in section(parsed(weighed), "turned").text


def test_bars_are_as_long_as_the_iou(evaluated: Evaluated) -> None:
    methods = evaluated.report["methods"]
    drawn = {}
    for row in section(parsed(evaluated), "classes").all("tr"):
        for bars in row.all("svg", class_="bars"):
            drawn[next(row.all("th")).text] = bars
    assert list(drawn) == ["road", "car", "person", "bicycle", "bag"]
    for name, bars in drawn.items():
        for method, style in (("main_only", "main"), ("table", "rules")):
            width = next(bars.all("rect", class_=style)).attributes["width"]
            assert float(str(width)) == pytest.approx(methods[method]["iou"][name], abs=0.005)
        mark = next(bars.all("line", class_="sub")).attributes["x1"]
        assert float(str(mark)) == pytest.approx(methods["sub_only"]["iou"][name], abs=0.005)


def test_the_confusion_matrix_tells_the_share_of_each_cell(evaluated: Evaluated) -> None:
    names = list(evaluated.report["classes"])
    counts = np.array(evaluated.report["methods"]["table"]["confusion"])
    matrix = next(section(parsed(evaluated), "confusion").all("svg", class_="matrix"))
    titles = {title.text for cell in matrix.all("rect") for title in cell.all("title")}
    expected = {
        f"{truth} called {called}: {100 * counts[t, p] / counts[t].sum():.2f} %"
        for t, truth in enumerate(names)
        for p, called in enumerate([*names, "none of these"])
        if counts[t, p]
    }
    assert titles == expected


def test_main_classes_are_told_with_what_they_became(evaluated: Evaluated) -> None:
    report = evaluated.report
    counts = np.array(report["turned"])
    part = section(parsed(evaluated), "turned")
    changed = 100 * (1 - np.trace(counts) / counts.sum())
    assert f"The table rules changed {changed:.1f} % of all pixels." in part.text
    names = [one["name"] for one in report["output"]]
    expected, same = {}, []
    for main, became in enumerate(counts):
        shares = 100 * became / became.sum()
        others = [k for k in np.argsort(-shares) if shares[k] and k != main]
        if others:
            told = [f"stays {shares[main]:.1f} %", *(f"{names[k]} {shares[k]:.1f} %" for k in others)]
            expected[names[main]] = [f"{100 * became.sum() / counts.sum():.1f} %", "", ", ".join(told)]
        else:
            same.append(names[main])
    assert expected
    assert {row[0]: [row[1], "", row[3]] for row in rows(part)[1:]} == expected
    assert f"Left as they are: {', '.join(same)}." in part.text


def test_frames_are_shown_in_pictures_that_decode(evaluated: Evaluated) -> None:
    part = section(parsed(evaluated), "frames")
    scores = {frame["name"]: frame["miou"]["table"] for frame in evaluated.report["frames"]}
    figures = list(part.all("figure"))
    assert figures
    for figure in figures:
        assert [view.text for view in figure.all("span")] == ["image", "truth", "main alone", "table rules"]
        caption = next(figure.all("figcaption"))
        name = next(caption.all("b")).text
        assert f"mIoU {number(scores[name])} (" in caption.text
        for image in figure.all("img"):
            head, _, data = str(image.attributes["src"]).partition(",")
            assert head == "data:image/jpeg;base64"
            picture = cv2.imdecode(np.frombuffer(base64.b64decode(data, validate=True), np.uint8), cv2.IMREAD_COLOR)
            assert picture is not None
            assert picture.shape == (60, 80, 3)
            assert (image.attributes["height"], image.attributes["width"]) == ("60", "80")


def test_it_says_where_it_comes_from(evaluated: Evaluated) -> None:
    part = section(parsed(evaluated), "provenance")
    names = [node.text for node in part.all("dt")]
    values = [node.text for node in part.all("dd")]
    assert list(zip(names, values, strict=True)) == origin(evaluated.report)


def test_without_ground_truth_there_are_no_scores(unscored: Evaluated) -> None:
    page = parsed(unscored)
    assert [heading.attributes["id"] for heading in page.all("h2")] == [
        "turned",
        "frames",
        "time",
        "latency",
        "provenance",
    ]
    assert "mIoU" not in page.text
    assert [view.text for view in next(page.all("figure")).all("span")] == ["image", "main alone", "table rules"]


def test_each_camera_has_its_course(unscored: Evaluated) -> None:
    part = section(parsed(unscored), "time")
    assert [heading.text for heading in part.all("h3")] == list(CAMERAS)
    charts = list(part.all("svg", class_="chart"))
    assert len(charts) == 2
    for chart in charts:
        assert next(chart.all("title")).text == "% of the pixels by s"


def test_areas_are_as_high_as_the_shares(evaluated: Evaluated) -> None:
    report = evaluated.report
    chart = next(section(parsed(evaluated), "time").all("svg", class_="chart"))
    for area in chart.all("polygon"):
        name = next(area.all("title")).text
        corners = [tuple(map(float, corner.split(","))) for corner in str(area.attributes["points"]).split()]
        upper, lower = corners[:6], corners[:5:-1]
        drawn = [low[1] - high[1] for high, low in zip(upper, lower, strict=True)]
        if name != "all others":
            output = [one["name"] for one in report["output"]].index(name)
            expected = [148 * frame["shares"][output] for frame in report["frames"]]
            assert drawn == pytest.approx(expected, abs=0.11)


def test_a_live_run_shows_its_latency_and_the_node(unscored: Evaluated) -> None:
    part = section(parsed(unscored), "latency")
    keys = {key.parts[0].text: key.parts[1].text for key in part.all("div", class_="key")}  # type: ignore[union-attr]
    frames = {name: value for name, value in keys.items() if name.startswith("frames ")}
    assert frames == {"frames sent": "5", "frames answered": "4", "frames dropped": "1", "frames lost": "2"}
    assert (keys["p50"], keys["max"]) == ("28 ms", "900 ms")
    assert [heading.text for heading in part.all("h3")] == ["CPU of the node", "Its memory"]
    assert len(list(part.all("path"))) == 2


def test_nothing_from_files_becomes_markup(evaluated: Evaluated) -> None:
    """Class names, frame names, cameras and the rest as a stranger could have chosen them."""
    report: dict[str, Any] = copy.deepcopy(evaluated.report)
    before = [(node.tag, len(node.attributes)) for node in _nodes(parsed(evaluated))]
    report["classes"] = {f"{name}{HOSTILE}": kind for name, kind in report["classes"].items()}
    for result in report["methods"].values():
        result["iou"] = {f"{name}{HOSTILE}": value for name, value in result["iou"].items()}
    for one in report["output"]:
        one["name"] += HOSTILE
    for frame in report["frames"]:
        frame["name"] += HOSTILE
        frame["camera"] += HOSTILE
    made = report["provenance"]
    made["dataset"] += HOSTILE
    made["truth"] += HOSTILE
    made["models"]["main"]["name"] += HOSTILE
    made["rules"][0]["datasets"] = [HOSTILE]
    page = parsed(evaluated, report)
    assert not any(page.all("script"))
    after = [(node.tag, len(node.attributes)) for node in _nodes(page)]
    # The camera is a heading, and a long name makes its label in the confusion matrix no more than shorter.
    assert sorted(after) == sorted([*before, ("h3", 0)])
    assert HOSTILE in page.text


def _nodes(node: Node) -> Iterator[Node]:
    for part in node.parts:
        if isinstance(part, Node):
            yield part
            yield from _nodes(part)


def test_it_asks_for_nothing_from_elsewhere(evaluated: Evaluated) -> None:
    text = to_html(evaluated.report, evaluated.pictures.groups)
    page = Strict(text).root
    assert not {"script", "link", "iframe", "object"} & {node.tag for node in _nodes(page)}
    for node in _nodes(page):
        for name in ("src", "href", "data", "poster", "srcset"):
            assert re.match(r"data:|#", node.attributes.get(name) or "#")
    assert "url(" not in text
    assert "@import" not in text


PROBE = """<script>addEventListener("load", () => {
  const images = [...document.images];
  const wide = [...document.querySelectorAll("body *")].filter(
    e => !e.closest(".scroll") && e.getBoundingClientRect().right > innerWidth + 1);
  document.title = JSON.stringify({
    images: images.length,
    missing: images.filter(i => !i.complete || !i.naturalWidth).length,
    wide: wide.map(e => e.tagName + "." + e.className.toString()),
  });
});</script>"""


@needs_chromium
@pytest.mark.parametrize("width", [1280, 500])
def test_a_real_browser_shows_it_whole(evaluated: Evaluated, tmp_path: Path, width: int) -> None:
    """No complaint on the console, no missing picture, nothing beyond the edge of the window."""
    write_report(evaluated.report, tmp_path, evaluated.pictures)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    expected = sum(len(shot.views) for shots in evaluated.pictures.groups.values() for shot in shots)

    shown = browse(
        tmp_path / "report.html", tmp_path / "a", f"--window-size={width},900", f"--screenshot={tmp_path / 'shot.png'}"
    )
    assert "CONSOLE" not in shown.stderr
    picture = cv2.imread(str(tmp_path / "shot.png"))
    assert picture is not None
    assert picture.shape == (900, width, 3)
    assert picture.std() > 5  # not an empty page

    # The page itself forbids scripts, so that the probe needs a copy that does not.
    probed = re.sub(r"<meta http-equiv.*?>", PROBE, text, count=1)
    (tmp_path / "probed.html").write_text(probed, encoding="utf-8")
    dumped = browse(tmp_path / "probed.html", tmp_path / "b", f"--window-size={width},900", "--dump-dom").stdout
    title = next(Strict(dumped).root.all("title")).text
    assert json.loads(title) == {"images": expected, "missing": 0, "wide": []}


@needs_chromium
def test_it_prints(evaluated: Evaluated, tmp_path: Path) -> None:
    write_report(evaluated.report, tmp_path, evaluated.pictures)
    browse(tmp_path / "report.html", tmp_path / "p", "--no-pdf-header-footer", f"--print-to-pdf={tmp_path / 'r.pdf'}")
    document = (tmp_path / "r.pdf").read_bytes()
    assert document.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", document)) <= 10
