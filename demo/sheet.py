"""The contact sheet of a drive: pictures side by side, with a legend."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2

from classaug_ros.imaging.drawing import LINE, Picture, blank, write
from classaug_ros.io.files import write_whole

GAP = 8  # pixels between pictures


def contact_sheet(titles: Sequence[str], rows: Sequence[Sequence[Picture]], legend: Picture) -> Picture:
    """Lay pictures out in rows under column titles, with a legend below.

    Args:
        titles: one per column.
        rows: rows of equally large H x W x 3 uint8 RGB pictures.
        legend: h x w x 3 uint8 RGB, no wider than a row.
    """
    height, width = rows[0][0].shape[:2]
    sheet = blank(LINE + len(rows) * (height + GAP) + legend.shape[0], sheet_width(len(titles), width))
    for column, title in enumerate(titles):
        left = GAP + column * (width + GAP)
        _paste(sheet, write(title), (LINE - write(title).shape[0]) // 2, left)
        for row, pictures in enumerate(rows):
            _paste(sheet, pictures[column], LINE + row * (height + GAP), left)
    _paste(sheet, legend, sheet.shape[0] - legend.shape[0], 0)
    return sheet


def sheet_width(columns: int, width: int) -> int:
    """Return the width of a sheet with so many columns of pictures of a width, in pixels."""
    return GAP + columns * (width + GAP)


def write_picture(path: Path, picture: Picture) -> None:
    """Write an RGB picture as a PNG file; raises ConfigError where it cannot be written."""
    write_whole(path, cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes())


def _paste(sheet: Picture, part: Picture, top: int, left: int) -> None:
    sheet[top : top + part.shape[0], left : left + part.shape[1]] = part
