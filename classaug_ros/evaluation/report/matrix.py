"""The confusion matrix as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from classaug_ros.evaluation.report.markup import Markup, element, rgb

WIDTH = 1050  # pixels of the whole, where there are many classes
CELLS = (14, 26)  # pixels of a cell's side, least and most
ROOM = 22  # pixels of a cell's side that has room for a figure
LETTER = 6.6  # average width of a letter of the labels
LONGEST = 24  # letters of a label
NONE = "none of these"
LIGHT, DARK = np.array((246, 248, 251)), np.array((8, 48, 107))
KINDS = ("main", "added", "neither")


@dataclass(frozen=True)
class _Grid:
    """Where cells lie, in pixels."""

    left: float
    top: float
    cell: float

    def x(self, column: float) -> float:
        return self.left + self.cell * column

    def y(self, row: float) -> float:
        return self.top + self.cell * row


def confusion(title: str, names: Sequence[str], kinds: Sequence[str], counts: Sequence[Sequence[int]]) -> Markup:
    """Draw how the pixels of each true class were called; a row makes 100 per cent.

    Args:
        title: of the picture.
        names: of the K scored classes.
        kinds: of each, see ``Scoring``; classes of a kind stand together.
        counts: K x (K + 1) pixels by truth and prediction, the last column none of the classes.
    """
    order = sorted(range(len(names)), key=lambda index: KINDS.index(kinds[index]))
    cells = np.array(counts, np.float64).reshape(len(names), -1)[order][:, [*order, len(names)]]
    total = cells.sum(axis=1, keepdims=True)
    shares = np.divide(cells, total, out=np.zeros_like(cells), where=total > 0)
    rows = [names[index] for index in order]
    columns = [*rows, NONE]
    left = LETTER * min(max(map(len, rows)), LONGEST) + 12
    top = LETTER * 0.9 * min(max(map(len, columns)), LONGEST) + 24
    grid = _Grid(left, top, float(np.clip((WIDTH - left - 0.6 * top) / len(columns), *CELLS)))
    width, height = grid.x(len(columns)) + 0.6 * top, grid.y(len(rows)) + 4
    drawn = [element("title", title), *_labels(rows, columns, grid)]
    paper = {"width": grid.cell * len(columns), "height": grid.cell * len(rows)}
    drawn.append(element("rect", class_="paper", x=left, y=top, **paper))
    for (row, column), share in np.ndenumerate(shares):
        if share:
            what = f"{rows[row]} called {columns[column]}: {100 * share:.2f} %"
            drawn += _cell(float(share), grid.x(column), grid.y(row), grid.cell, what)
    drawn += _frame([kinds[index] for index in order], grid)
    box = f"0 0 {width:.0f} {height:.0f}"
    return element("svg", *drawn, class_="matrix", viewBox=box, width=width, height=height, role="img")


def _labels(rows: Sequence[str], columns: Sequence[str], grid: _Grid) -> list[Markup]:
    drawn = []
    for index, name in enumerate(rows):
        y = grid.y(index + 0.5) + 4
        drawn.append(element("text", _short(name), element("title", name), x=grid.left - 6, y=y, text_anchor="end"))
    for index, name in enumerate(columns):
        place = f"translate({grid.x(index + 0.5) + 3:.1f} {grid.top - 6:.1f}) rotate(-60)"
        drawn.append(element("text", _short(name), element("title", name), transform=place))
    return drawn


def _cell(share: float, x: float, y: float, side: float, title: str) -> list[Markup]:
    weight = share**0.6  # so that a few per cent are seen
    color = rgb(np.rint(LIGHT + (DARK - LIGHT) * weight).astype(int).tolist())
    drawn = [element("rect", element("title", title), x=x, y=y, width=side, height=side, fill=color)]
    if side >= ROOM and share >= 0.005:
        style = "figure light" if weight > 0.5 else "figure"
        drawn.append(element("text", f"{100 * share:.0f}", class_=style, x=x + side / 2, y=y + side / 2 + 4))
    return drawn


def _frame(kinds: Sequence[str], grid: _Grid) -> list[Markup]:
    """Draw lines between the kinds of classes, and the diagonal, where truth and prediction agree."""
    end = len(kinds)
    drawn = []
    for index in [*(i for i in range(1, end) if kinds[i] != kinds[i - 1]), end]:
        x, y = grid.x(index), grid.y(index)
        drawn.append(element("line", class_="kind", x1=x, x2=x, y1=grid.top, y2=grid.y(end)))
        if index < end:
            drawn.append(element("line", class_="kind", x1=grid.left, x2=grid.x(end + 1), y1=y, y2=y))
    drawn.extend(
        element("rect", class_="agree", x=grid.x(index), y=grid.y(index), width=grid.cell, height=grid.cell)
        for index in range(end)
    )
    return drawn


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
