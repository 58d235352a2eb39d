"""The report as one HTML page that needs nothing else: no network, no script, no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from classaug_ros.evaluation.report import frames_section, reliability, scores_section, timeline
from classaug_ros.evaluation.report.markdown import origin
from classaug_ros.evaluation.report.markup import Markup, element, join
from classaug_ros.evaluation.report.pictures import Shot

STYLE = Path(__file__).with_name("style.css")
NOTHING_FROM_ELSEWHERE = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def to_html(report: Mapping[str, Any], pictures: Mapping[str, Sequence[Shot]]) -> str:
    """Return the page.

    Args:
        report: what ``build_report`` made.
        pictures: frames to show, by what they show; see ``Pictures.groups``.
    """
    sections = _sections(report, pictures)
    title = f"Class augmentation on {report['provenance']['dataset']}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=NOTHING_FROM_ELSEWHERE),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Markup(STYLE.read_text(encoding="utf-8"))),
    )
    links = [element("a", name, href=f"#{anchor}") for anchor, (name, _) in sections.items()]
    body = [
        element("header", element("h1", title), element("p", _subtitle(report), class_="subtitle"), _key(report)),
        element("nav", join(links, " ")),
        element("main", *(section for _, section in sections.values())),
    ]
    return f"<!doctype html>\n{element('html', head, element('body', *body), lang='en')}\n"


def _sections(report: Mapping[str, Any], pictures: Mapping[str, Sequence[Shot]]) -> dict[str, tuple[str, Markup]]:
    """Return the sections there is something to say in, with their names, by anchor."""
    sections = {}
    if report["classes"]:
        sections["scores"] = ("Scores", scores_section.table_2(report))
        sections["classes"] = ("Classes", scores_section.per_class(report))
        sections["edges"] = ("Near edges", scores_section.near_edges(report))
        sections["calibration"] = ("Calibration", reliability.reliability(report))
        sections["confusion"] = ("Confusion", scores_section.confusion_matrix(report))
    if "turned" in report:
        sections["turned"] = ("What turned into what", frames_section.class_changes(report))
    if any(pictures.values()):
        sections["frames"] = ("Frames", frames_section.frames(report, pictures))
    if report["frames"]:
        sections["time"] = ("Over time", timeline.over_time(report))
    if report["frames"] or report.get("live"):
        sections["latency"] = ("Latency", timeline.latency(report))
    sections["provenance"] = ("Provenance", _provenance(report))
    return sections


def _key(report: Mapping[str, Any]) -> Markup:
    if report["classes"]:
        return scores_section.key_figures(report)
    return element("p", "No ground truth: nothing is scored.", class_="subtitle")


def _subtitle(report: Mapping[str, Any]) -> str:
    made = report["provenance"]
    models = " · ".join(f"{role} {model['name']}" for role, model in made["models"].items())
    title = report["methods"][report["in_use"]]["title"]
    return f"{made['images']:,} images · {models} · {title} · {made['created'][:10]}"


def _provenance(report: Mapping[str, Any]) -> Markup:
    facts = [part for name, value in origin(report) for part in (element("dt", name), element("dd", value))]
    return element("section", element("h2", "Provenance", id="provenance"), element("dl", *facts))
