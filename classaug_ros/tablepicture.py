"""The rules' table as a picture."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from classaug_ros.counts import Counts
from classaug_ros.inspection import near_ties, support
from classaug_ros.labels import Color
from classaug_ros.rules import Rules

Picture = NDArray[np.uint8]  # H x W x 3, RGB

WIDEST = 2600  # pixels of all columns together, where there are many
CELLS = (17, 28)  # pixels of a cell's side, least and most
TEXT = 20  # pixels of a line of text
LETTERS = 13  # pixels of its letters
MARGIN = 16
PAPER = 255
INK: Color = (32, 32, 32)
GRID: Color = (225, 225, 225)
FADED = 0.3  # weight of the colour of a main class that stays

_FONT = cv2.FONT_HERSHEY_DUPLEX
_FONT_HEIGHT = 21  # pixels of its capitals at scale 1
_OVERSIZE = 4  # text is drawn so much larger and scaled down: OpenCV's own small letters are hard to read


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
    across, down = _text("sub model says"), _text("main model says")
    rows = _names(rules.main_classes, cell, to_the_right=True, least=down.shape[1] + 8)
    columns = np.rot90(_names(rules.sub_classes, cell, to_the_right=False))  # read from below
    legend = _legend(rules, counts, max(rows.shape[1] + table.shape[1], 900))
    left, top = MARGIN + rows.shape[1], MARGIN + TEXT + columns.shape[0]
    height = top + m * cell + MARGIN + legend.shape[0] + MARGIN
    width = MARGIN + max(rows.shape[1] + n * cell, legend.shape[1]) + MARGIN
    picture = np.full((height, width, 3), PAPER, np.uint8)
    _paste(picture, columns, MARGIN + TEXT, left)
    _paste(picture, rows, top, MARGIN)
    _paste(picture, table, top, left)
    _paste(picture, across, MARGIN, left)
    _paste(picture, down, top - TEXT, left - down.shape[1] - 6)
    _paste(picture, legend, top + m * cell + MARGIN, MARGIN)
    return picture


def encode(picture: Picture) -> bytes:
    """Return a picture as the bytes of a PNG file."""
    return cv2.imencode(".png", picture[:, :, ::-1])[1].tobytes()


def _table(rules: Rules, counts: Counts | None, cell: int) -> Picture:
    m, n = rules.table.shape
    seen = np.ones((m, n), bool) if counts is None else support(counts) > 0
    ties = set() if counts is None else {tie.pair for tie in near_ties(rules, counts) if tie.matters}
    picture = np.full((m * cell, n * cell, 3), PAPER, np.uint8)
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
    box[middle : middle + 2, middle : middle + 2] = (150, 150, 150)


def _draw_tie(box: Picture) -> None:
    side = box.shape[0]
    large = cv2.resize(box, None, fx=_OVERSIZE, fy=_OVERSIZE, interpolation=cv2.INTER_NEAREST)
    middle = ((side + 1) * _OVERSIZE // 2,) * 2
    cv2.circle(large, middle, int(0.24 * side * _OVERSIZE), (255, 255, 255), -1, cv2.LINE_AA)
    cv2.circle(large, middle, int(0.24 * side * _OVERSIZE), INK, max(side // 10, 1) * _OVERSIZE, cv2.LINE_AA)
    box[:] = cv2.resize(large, (side, side), interpolation=cv2.INTER_AREA)


def _names(names: tuple[str, ...], cell: int, *, to_the_right: bool, least: int = 0) -> Picture:
    """Write names under each other, a cell's height each, along the right or the left edge."""
    lines = [_text(name) for name in names]
    width = max(least, *(line.shape[1] + 8 for line in lines))
    picture = np.full((len(names) * cell, width, 3), PAPER, np.uint8)
    for number, line in enumerate(lines):
        top = number * cell + (cell - line.shape[0]) // 2
        _paste(picture, line, top, width - 6 - line.shape[1] if to_the_right else 6)
    return picture


def _legend(rules: Rules, counts: Counts | None, width: int) -> Picture:
    """Explain the marks, and the colours of the added classes in the table."""
    faded = _marked(lambda box: _draw_kept(box, rules.output.colors[0]))
    marks = [(faded, "the main class stays: the colour of its row, faded")]
    if counts is not None:
        marks.append((_marked(_draw_unseen), "pair never seen: the main class stays"))
        marks.append((_marked(_draw_tie), "the label hangs on a near tie"))
    produced = np.unique(rules.table[rules.table >= len(rules.main_classes)]).tolist()
    classes = [(_marked(partial(_draw_added, color=rules.output.colors[k])), rules.output.names[k]) for k in produced]
    lines = _flow([(picture, _text(text)) for picture, text in marks], width)
    if classes:
        title = (np.empty((TEXT, 0, 3), np.uint8), _text("added classes:"))
        lines += _flow([title, *((picture, _text(text)) for picture, text in classes)], width)
    return np.concatenate(lines)


def _marked(draw: Callable[[Picture], None]) -> Picture:
    """Return what ``draw`` makes of a cell, with the grid all around it."""
    box = np.full((TEXT, TEXT, 3), PAPER, np.uint8)
    draw(box)
    box[-1:] = box[:, -1:] = GRID
    return box


def _flow(entries: list[tuple[Picture, Picture]], width: int) -> list[Picture]:
    """Set marks with their texts into lines of a width."""
    lines: list[Picture] = [np.full((TEXT + 8, width, 3), PAPER, np.uint8)]
    left = 0
    for mark, text in entries:
        need = mark.shape[1] + 6 + text.shape[1] + 22
        if left and left + need > width:
            lines.append(np.full((TEXT + 8, width, 3), PAPER, np.uint8))
            left = 0
        _paste(lines[-1], mark, 4, left)
        start = left + mark.shape[1] + 6
        _paste(lines[-1], text[:, : width - start], 4 + (TEXT - text.shape[0]) // 2, start)
        left += need
    return lines


def _text(text: str) -> Picture:
    """Write text in a picture of its own, ``LETTERS`` pixels from its highest to its lowest letters.

    Letters that OpenCV does not have come out as question marks.
    """
    scale = _OVERSIZE * LETTERS / (1.36 * _FONT_HEIGHT)
    (width, _), _ = cv2.getTextSize(text, _FONT, scale, _OVERSIZE)
    large = np.full(((LETTERS + 2) * _OVERSIZE, width + 2 * _OVERSIZE, 3), PAPER, np.uint8)
    base = int(_OVERSIZE * LETTERS * 0.76) + _OVERSIZE
    cv2.putText(large, text, (_OVERSIZE, base), _FONT, scale, INK, _OVERSIZE, cv2.LINE_AA)
    size = (-(-large.shape[1] // _OVERSIZE), LETTERS + 2)
    return np.asarray(cv2.resize(large, size, interpolation=cv2.INTER_AREA), np.uint8)


def _faded(color: Color) -> NDArray[np.uint8]:
    return np.rint(FADED * np.array(color) + (1 - FADED) * PAPER).astype(np.uint8)


def _paste(picture: Picture, part: Picture, top: int, left: int) -> None:
    picture[top : top + part.shape[0], left : left + part.shape[1]] = part
