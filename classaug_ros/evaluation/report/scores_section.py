"""Sections of the HTML report on scores: Table 2, the IoU of each class, the confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from classaug_ros.evaluation.report import charts
from classaug_ros.evaluation.report.markdown import MEANS, in_use, number, subs_alone, told
from classaug_ros.evaluation.report.markup import Markup, element, join
from classaug_ros.evaluation.report.matrix import KINDS, confusion

MINUS = "\N{MINUS SIGN}"
MEAN_TITLES = {"main": "main classes", "added": "added classes", "all": "all classes"}
KIND_TITLES = {
    "main": "main classes",
    "added": "added classes",
    "neither": "neither: in no mean, but others' pixels called so count against them",
}


def key_figures(report: Mapping[str, Any]) -> Markup:
    """Return what the rules reach, and the difference to the main model alone."""
    used, alone = in_use(report), report["methods"]["main_only"]
    cards = []
    for mean in MEANS:
        score = used["miou"][mean]
        cards.append(
            element(
                "div",
                element("span", MEAN_TITLES[mean], class_="what"),
                element("span", number(score), class_="figure"),
                element("span", f"{difference(score, alone['miou'][mean])} against main alone", class_="against"),
                class_="key",
            )
        )
    return element("div", element("p", f"mIoU % with the {used['title']}", class_="note"), *cards, class_="keys")


def table_2(report: Mapping[str, Any]) -> Markup:
    """Return the paper's Table 2 for this data."""
    head = _head("mIoU %", *MEAN_TITLES.values())
    rows = [
        element(
            "tr",
            element("th", told(report, method), scope="row"),
            *(element("td", number(result["miou"][mean])) for mean in MEANS),
            class_="ours" if method == report["in_use"] else None,
        )
        for method, result in report["methods"].items()
    ]
    counted = " and ".join(
        f"{sum(kind == wanted for kind in report['classes'].values())} {wanted}" for wanted in ("main", "added")
    )
    bound = report["provenance"]["decision"]["min_confidence"]
    left = (
        f" The rules in use left {number(report['unlabelled'])} % of all pixels unlabelled, being less confident than "
        f"{bound:g}; these count as wrong."
        if bound
        else ""
    )
    return element(
        "section",
        element("h2", "Scores", id="scores"),
        element("div", element("table", head, element("tbody", *rows), class_="figures"), class_="scroll"),
        element("p", f"Mean intersection over union, over the {counted} classes scored here.{left}", class_="note"),
    )


def near_edges(report: Mapping[str, Any]) -> Markup:
    """Return the scores of the pixels near edges of the ground truth."""
    # The first of the columns of a distance stands apart from the last of the one before.
    columns = [(px, mean, "first" if mean == MEANS[0] else None) for px in in_use(report)["contours"] for mean in MEANS]
    spans = [
        element("th", f"within {px} px", colspan=len(MEANS), scope="colgroup") for px in in_use(report)["contours"]
    ]
    titles = [element("th", mean, scope="col", class_=style) for _, mean, style in columns]
    head = element(
        "thead", element("tr", element("td", ""), *spans), element("tr", element("th", "mIoU %", scope="col"), *titles)
    )
    rows = [
        element(
            "tr",
            element("th", told(report, method), scope="row"),
            *(element("td", number(result["contours"][px][mean]), class_=style) for px, mean, style in columns),
            class_="ours" if method == report["in_use"] else None,
        )
        for method, result in report["methods"].items()
    ]
    note = (
        "The same over the pixels within 1, 3 or 5 pixels of an edge between two classes of the ground truth: how well "
        "contours are met."
    )
    return element(
        "section",
        element("h2", "Near edges", id="edges"),
        element("p", note, class_="note"),
        element("div", element("table", head, element("tbody", *rows), class_="figures edges"), class_="scroll"),
    )


def per_class(report: Mapping[str, Any]) -> Markup:
    """Return the IoU of each class, main model alone against the rules in use."""
    groups = []
    methods = report["methods"]
    for kind in KINDS:
        names = [name for name, own in report["classes"].items() if own == kind]
        if names:
            title = element("th", KIND_TITLES[kind], colspan=3 + len(methods), scope="rowgroup")
            groups.append(
                element("tbody", element("tr", title, class_="group"), *(_class_row(report, name) for name in names))
            )
    title, subs = in_use(report)["title"], subs_alone(report)
    key = charts.key_line(main="main alone", rules=title, sub=", ".join(sub["title"] for sub in subs))
    columns = [result["title"].removesuffix(" alone").removesuffix(" rules") for result in methods.values()]
    head = _head("class", "", *columns, "gain")
    return element(
        "section",
        element("h2", "Classes", id="classes"),
        element("p", f"IoU % of each class; a full bar is 100. Gain: {title} less main alone.", class_="note"),
        key,
        element("div", element("table", head, *groups, class_="figures classes"), class_="scroll"),
    )


def confusion_matrix(report: Mapping[str, Any]) -> Markup:
    """Return the confusion matrices of the rules in use, and of the main model alone behind a fold."""
    classes = report["classes"]

    def drawn(method: str) -> Markup:
        picture = confusion(
            f"confusion of {report['methods'][method]['title']}",
            list(classes),
            list(classes.values()),
            report["methods"][method]["confusion"],
        )
        return element("div", picture, class_="scroll")

    return element(
        "section",
        element("h2", "Confusion", id="confusion"),
        element(
            "p",
            f"What the {in_use(report)['title']} called the pixels of each class: truth down, prediction across, "
            "per cent of the row.",
            class_="note",
        ),
        drawn(report["in_use"]),
        element("details", element("summary", "The same of main alone"), drawn("main_only")),
    )


def difference(value: float | None, base: float | None) -> str:
    """Return value - base with its sign and one decimal, a dash where one is missing."""
    if value is None or base is None:
        return "-"
    change = round(value - base, 1)
    return f"+{change:.1f}" if change > 0 else f"{MINUS}{-change:.1f}" if change < 0 else "±0.0"


def _class_row(report: Mapping[str, Any], name: str) -> Markup:
    ious = {method: result["iou"][name] for method, result in report["methods"].items()}
    main, used = ious["main_only"], ious[report["in_use"]]
    subs = [result["iou"][name] for result in subs_alone(report)]
    return element(
        "tr",
        element("th", name, scope="row"),
        element("td", charts.bars(main, used, subs), class_="bar"),
        *(
            element("td", number(value), class_="used" if method == report["in_use"] else None)
            for method, value in ious.items()
        ),
        element("td", difference(used, main)),
    )


def _head(*titles: str) -> Markup:
    return element("thead", element("tr", join(element("th", title, scope="col") for title in titles)))
