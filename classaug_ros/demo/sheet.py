"""Pictures of a drive: a contact sheet with a legend, and a video."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from classaug_ros.labels import LabelSpace

Picture = NDArray[np.uint8]  # H x W x 3, RGB

GAP = 8  # pixels between pictures
LINE = 26  # pixels of a line of text
BACKGROUND = 250
INK = (30, 30, 30)


def contact_sheet(titles: Sequence[str], rows: Sequence[Sequence[Picture]], classes: LabelSpace, mains: int) -> Picture:
    """Lay pictures out in rows under column titles, with a legend of the classes below.

    Args:
        titles: one per column.
        rows: rows of equally large H x W x 3 uint8 RGB pictures.
        classes: the output classes.
        mains: how many of them are main classes; the others are shown as added.
    """
    height, width = rows[0][0].shape[:2]
    columns = len(titles)
    legend = _legend(classes, mains, columns * (width + GAP) - GAP)
    sheet = np.full(
        (LINE + len(rows) * (height + GAP) + legend.shape[0], GAP + columns * (width + GAP), 3), BACKGROUND, np.uint8
    )
    for column, title in enumerate(titles):
        left = GAP + column * (width + GAP)
        _write(sheet, title, left, LINE - 8)
        for row, pictures in enumerate(rows):
            top = LINE + row * (height + GAP)
            sheet[top : top + height, left : left + width] = pictures[column]
    sheet[-legend.shape[0] :, GAP : GAP + legend.shape[1]] = legend
    return sheet


def write_picture(path: Path, picture: Picture) -> None:
    """Write an RGB picture as an image file."""
    cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


def write_video(path: Path, pictures: Iterable[Picture], rate: float) -> None:
    """Write RGB pictures of one size as an MPEG-4 video of ``rate`` frames per second."""
    video = None
    for picture in pictures:
        if video is None:
            size = (picture.shape[1], picture.shape[0])
            video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
        video.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if video is not None:
        video.release()


def _legend(classes: LabelSpace, mains: int, width: int) -> Picture:
    legend = np.full((3 * LINE, width, 3), BACKGROUND, np.uint8)
    groups = (("main", range(mains)), ("added", range(mains, len(classes))))
    for line, (title, ids) in enumerate(groups):
        left, base = 0, (line + 1) * LINE
        _write(legend, f"{title}:", left, base)
        left = 80
        for number in ids:
            name = classes.names[number]
            legend[base - 14 : base + 2, left : left + 22] = classes.colors[number]
            _write(legend, name, left + 28, base)
            left += 28 + 11 * len(name) + 24
    return legend


def _write(picture: Picture, text: str, left: int, base: int) -> None:
    cv2.putText(picture, text, (left, base), cv2.FONT_HERSHEY_SIMPLEX, 0.55, INK, 1, cv2.LINE_AA)
