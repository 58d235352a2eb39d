"""Sections of the HTML report on scores: Table 2, the IoU of each class, the confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from classaug_ros.report import charts
from classaug_ros.report.markdown import MEANS, TITLES, number
from classaug_ros.report.markup import Markup, element, join
from classaug_ros.report.matrix import KINDS, confusion

MINUS = "\N{MINUS SIGN}"
MEAN_TITLES = {"main": "main classes", "added": "added classes", "all": "all classes"}
KIND_TITLES = {
    "main": "main classes",
    "added": "added classes",
    "neither": "neither: in no mean, but others' pixels called so count against them",
}


def key_figures(report: Mapping[str, Any]) -> Markup:
    """Return what the rules reach, and the difference to the main model alone."""
    methods = report["methods"]
    cards = []
    for mean in MEANS:
        rules, main = methods["rules"]["miou"][mean], methods["main_only"]["miou"][mean]
        cards.append(
            element(
                "div",
                element("span", MEAN_TITLES[mean], class_="what"),
                element("span", number(rules), class_="figure"),
                element("span", f"{difference(rules, main)} against main alone", class_="against"),
                class_="key",
            )
        )
    return element("div", element("p", "mIoU % with the rules", class_="note"), *cards, class_="keys")


def table_2(report: Mapping[str, Any]) -> Markup:
    """Return the paper's Table 2 for this data."""
    head = _head("mIoU %", *MEAN_TITLES.values())
    rows = [
        element(
            "tr",
            element("th", TITLES[method], scope="row"),
            *(element("td", number(result["miou"][mean])) for mean in MEANS),
            class_="ours" if method == "rules" else None,
        )
        for method, result in report["methods"].items()
    ]
    counted = " and ".join(
        f"{sum(kind == wanted for kind in report['classes'].values())} {wanted}" for wanted in ("main", "added")
    )
    return element(
        "section",
        element("h2", "Scores", id="scores"),
        element("div", element("table", head, element("tbody", *rows), class_="figures"), class_="scroll"),
        element("p", f"Mean intersection over union, over the {counted} classes scored here.", class_="note"),
    )


def per_class(report: Mapping[str, Any]) -> Markup:
    """Return the IoU of each class, main model alone against the rules."""
    groups = []
    for kind in KINDS:
        names = [name for name, own in report["classes"].items() if own == kind]
        if names:
            title = element("th", KIND_TITLES[kind], colspan=6, scope="rowgroup")
            groups.append(
                element("tbody", element("tr", title, class_="group"), *(_class_row(report, name) for name in names))
            )
    key = charts.key_line("main", "rules", "sub")
    head = _head("class", "", "main", "sub", "rules", "gain")
    return element(
        "section",
        element("h2", "Classes", id="classes"),
        element("p", "IoU % of each class; a full bar is 100. Gain: rules less main model alone.", class_="note"),
        key,
        element("div", element("table", head, *groups, class_="figures classes"), class_="scroll"),
    )


def confusion_matrix(report: Mapping[str, Any]) -> Markup:
    """Return the confusion matrices of the rules, and of the main model alone behind a fold."""
    classes = report["classes"]

    def drawn(method: str) -> Markup:
        picture = confusion(
            f"confusion of the {TITLES[method]}",
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
            "What the rules called the pixels of each class: truth down, prediction across, per cent of the row.",
            class_="note",
        ),
        drawn("rules"),
        element("details", element("summary", "The same of the main model alone"), drawn("main_only")),
    )


def difference(value: float | None, base: float | None) -> str:
    """Return value - base with its sign and one decimal, a dash where one is missing."""
    if value is None or base is None:
        return "-"
    change = round(value - base, 1)
    return f"+{change:.1f}" if change > 0 else f"{MINUS}{-change:.1f}" if change < 0 else "±0.0"


def _class_row(report: Mapping[str, Any], name: str) -> Markup:
    main, sub, rules = (report["methods"][method]["iou"][name] for method in ("main_only", "sub_only", "rules"))
    return element(
        "tr",
        element("th", name, scope="row"),
        element("td", charts.bars(main, rules, sub), class_="bar"),
        *(element("td", number(value)) for value in (main, sub, rules)),
        element("td", difference(rules, main)),
    )


def _head(*titles: str) -> Markup:
    return element("thead", element("tr", join(element("th", title, scope="col") for title in titles)))
