"""Rules as pictures: the table, and what the probability rule makes of each score."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from classaug_ros.imaging.drawing import INK, LETTERS, LINE, MARK, PAPER, Picture, blank, lined_up, marked, write
from classaug_ros.learning.counts import Counts
from classaug_ros.learning.influence import Influence, group_names
from classaug_ros.learning.inspection import near_ties, support
from classaug_ros.models.labels import Color
from classaug_ros.rules import Rules

WIDEST = 2600  # pixels of all columns together, where there are many
CELLS = (LETTERS + 3, 28)  # pixels of a cell's side, least and most
MARGIN = 16
GRID: Color = (225, 225, 225)
DOT: Color = (150, 150, 150)
FADED = 0.3  # weight of the colour of a main class that stays
FOR: Color = (33, 102, 172)
AGAINST: Color = (178, 24, 43)
FULL = 1.5  # of log P: what is gained or lost with a colour's full strength

_OVERSIZE = 4  # rings are drawn so much larger and scaled down


def draw_table(rules: Rules, counts: Counts | None = None) -> Picture:
    """Draw the table, one cell for each pair: main classes down, sub classes across.

    A cell has the colour of its label, faded where the main class stays and framed where an added class takes its
    place. With counts, pairs never seen are blank with a dot, and a ring marks near ties that the label hangs on.

    Args:
        rules: the rules.
        counts: those the rules were derived from.

    Returns:
        H x W x 3 uint8 RGB.
    """
    m, n = rules.table.shape
    cell = int(np.clip(WIDEST // n, *CELLS))
    table = _table(rules, counts, cell)
    across, down = write("sub model says"), write("main model says")
    rows = _names(rules.main_classes, cell, to_the_right=True, least=down.shape[1] + 8)
    columns = np.rot90(_names(rules.sub_classes, cell, to_the_right=False))  # read from below
    legend = _legend(rules, counts, max(rows.shape[1] + table.shape[1], 900))
    left, top = MARGIN + rows.shape[1], MARGIN + LINE + columns.shape[0]
    height = top + m * cell + MARGIN + legend.shape[0] + MARGIN
    width = MARGIN + max(rows.shape[1] + n * cell, legend.shape[1]) + MARGIN
    picture = blank(height, width)
    _paste(picture, columns, MARGIN + LINE, left)
    _paste(picture, rows, top, MARGIN)
    _paste(picture, table, top, left)
    _paste(picture, across, MARGIN, left)
    _paste(picture, down, top - LINE, left - down.shape[1] - 6)
    _paste(picture, legend, top + m * cell + MARGIN, MARGIN)
    return picture


def draw_influence(rules: Rules, influence: Influence) -> Picture:
    """Draw what speaks for and against each class in the probability rule: classes down, scores across.

    Classes that are decided for nowhere are left out; the others come by their share of the pixels.

    Args:
        rules: rules with evidence.
        influence: what the evidence makes of the scores.

    Returns:
        H x W x 3 uint8 RGB.
    """
    decided, names = influence.decided(), group_names(rules)
    mains, count = len(rules.main_classes), influence.gains.shape[1]
    cell = int(np.clip(WIDEST // count, *CELLS))
    down = write("log P of")
    rows = _names(tuple(names[group] for group in decided), cell, to_the_right=True, least=down.shape[1] + 8)
    blocks = [influence.gains[decided, :mains], influence.gains[decided, mains:]]
    between = blank(len(decided) * cell, cell // 2)
    cells = np.hstack([_gains(blocks[0], cell), between, _gains(blocks[1], cell)])
    columns = [np.rot90(_names(each, cell, to_the_right=False)) for each in (rules.main_classes, rules.sub_classes)]
    left, second = MARGIN + rows.shape[1], MARGIN + rows.shape[1] + mains * cell + cell // 2
    top = MARGIN + LINE + max(each.shape[0] for each in columns)
    legend = _scale(max(rows.shape[1] + cells.shape[1], 900))
    height = top + cells.shape[0] + MARGIN + legend.shape[0] + MARGIN
    picture = blank(height, MARGIN + max(rows.shape[1] + cells.shape[1], legend.shape[1]) + MARGIN)
    for title, each, start in (("scores of main", columns[0], left), ("scores of sub", columns[1], second)):
        _paste(picture, write(title), MARGIN, start)
        _paste(picture, each, top - each.shape[0], start)
    _paste(picture, down, top - LINE, left - down.shape[1] - 6)
    _paste(picture, rows, top, MARGIN)
    _paste(picture, cells, top, left)
    _paste(picture, legend, top + cells.shape[0] + MARGIN, MARGIN)
    return picture


def encode(picture: Picture) -> bytes:
    """Return a picture as the bytes of a PNG file."""
    return cv2.imencode(".png", picture[:, :, ::-1])[1].tobytes()


def _table(rules: Rules, counts: Counts | None, cell: int) -> Picture:
    m, n = rules.table.shape
    seen = np.ones((m, n), bool) if counts is None else support(counts) > 0
    ties = set() if counts is None else {tie.pair for tie in near_ties(rules, counts) if tie.matters}
    picture = blank(m * cell, n * cell)
    for i in range(m):
        for j in range(n):
            box = picture[i * cell : (i + 1) * cell, j * cell : (j + 1) * cell]
            label = int(rules.table[i, j])
            if not seen[i, j]:
                _draw_unseen(box)
            elif rules.sources[label] == "added":
                _draw_added(box, rules.output.colors[label])
            else:
                _draw_kept(box, rules.output.colors[label])
            if (i, j) in ties:
                _draw_tie(box)
    picture[-1:] = picture[:, -1:] = GRID
    return picture


def _gains(gains: NDArray[np.float64], cell: int) -> Picture:
    """Draw a cell in the colour of each gain."""
    rows, columns = gains.shape
    picture = blank(rows * cell, columns * cell)
    for i in range(rows):
        for j in range(columns):
            _draw_gain(picture[i * cell : (i + 1) * cell, j * cell : (j + 1) * cell], float(gains[i, j]))
    picture[-1:] = picture[:, -1:] = GRID
    return picture


def _draw_gain(box: Picture, gain: float) -> None:
    strength = min(abs(gain) / FULL, 1)
    box[:] = GRID
    box[1:, 1:] = np.rint(strength * np.array(FOR if gain > 0 else AGAINST) + (1 - strength) * PAPER)


def _scale(width: int) -> Picture:
    """Explain the colours of gains."""
    steps = (-FULL, -FULL / 2, 0.0, FULL / 2, FULL)
    marks = [marked(_cell(partial(_draw_gain, gain=gain)), f"{gain:+.2f}".replace("+0.00", "0")) for gain in steps]
    told = write("gained by log P, on average, where the score is one standard deviation higher:")
    return lined_up([told, *marks], width)


def _draw_kept(box: Picture, color: Color) -> None:
    box[:] = GRID
    box[1:, 1:] = _faded(color)


def _draw_added(box: Picture, color: Color) -> None:
    box[:] = GRID
    box[1:, 1:] = INK
    box[3:-2, 3:-2] = color


def _draw_unseen(box: Picture) -> None:
    box[:] = GRID
    box[1:, 1:] = PAPER
    middle = box.shape[0] // 2
    box[middle : middle + 2, middle : middle + 2] = DOT


def _draw_tie(box: Picture) -> None:
    side = box.shape[0]
    large = cv2.resize(box, None, fx=_OVERSIZE, fy=_OVERSIZE, interpolation=cv2.INTER_NEAREST)
    middle = ((side + 1) * _OVERSIZE // 2,) * 2
    cv2.circle(large, middle, int(0.24 * side * _OVERSIZE), (255, 255, 255), -1, cv2.LINE_AA)
    cv2.circle(large, middle, int(0.24 * side * _OVERSIZE), INK, max(side // 10, 1) * _OVERSIZE, cv2.LINE_AA)
    box[:] = cv2.resize(large, (side, side), interpolation=cv2.INTER_AREA)


def _names(names: tuple[str, ...], cell: int, *, to_the_right: bool, least: int = 0) -> Picture:
    """Write names under each other, a cell's height each, along the right or the left edge."""
    lines = [write(name) for name in names]
    width = max(least, *(line.shape[1] + 8 for line in lines))
    picture = blank(len(names) * cell, width)
    for number, line in enumerate(lines):
        top = number * cell + (cell - line.shape[0]) // 2
        _paste(picture, line, top, width - 6 - line.shape[1] if to_the_right else 6)
    return picture


def _legend(rules: Rules, counts: Counts | None, width: int) -> Picture:
    """Explain the marks, and the colours of the added classes in the table."""
    kept = partial(_draw_kept, color=rules.output.colors[0])
    marks = [marked(_cell(kept), "the main class stays: the colour of its row, faded")]
    if counts is not None:
        marks.append(marked(_cell(_draw_unseen), "pair never seen: the main class stays"))
        marks.append(marked(_cell(_draw_tie), "the label hangs on a near tie"))
    produced = np.unique(rules.table[rules.table >= len(rules.main_classes)]).tolist()
    classes = [
        marked(_cell(partial(_draw_added, color=rules.output.colors[k])), rules.output.names[k]) for k in produced
    ]
    lines = [lined_up(marks, width)]
    if classes:
        lines.append(lined_up([write("added classes:"), *classes], width))
    return np.concatenate(lines)


def _cell(draw: Callable[[Picture], None]) -> Picture:
    """Return what ``draw`` makes of a cell, with the grid all around it."""
    box = blank(MARK, MARK)
    draw(box)
    box[-1:] = box[:, -1:] = GRID
    return box


def _faded(color: Color) -> NDArray[np.uint8]:
    return np.rint(FADED * np.array(color) + (1 - FADED) * PAPER).astype(np.uint8)


def _paste(picture: Picture, part: Picture, top: int, left: int) -> None:
    picture[top : top + part.shape[0], left : left + part.shape[1]] = part
