"""Pictures for people: images made smaller, text, and legends of classes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from classaug_ros.models.labels import Color

Picture = NDArray[np.uint8]  # H x W x 3, RGB

PAPER = 255
INK: Color = (32, 32, 32)
LETTERS = 15  # pixels from the highest to the lowest letters
MARK = 17  # pixels of a side of a legend's colours
LINE = 24  # pixels of a line of a legend
BETWEEN = 16  # pixels from one entry of a legend to the next

_FONT = cv2.FONT_HERSHEY_DUPLEX
_FONT_HEIGHT = 21  # pixels of its capitals at scale 1
_OVERSIZE = 4  # text is drawn so much larger and scaled down: OpenCV's own small letters are hard to read


def shrunk(picture: Picture, side: int) -> Picture:
    """Return a picture scaled down where its longer side has more than ``side`` pixels."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return picture
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def write(text: str) -> Picture:
    """Return text in a picture of its own; letters that OpenCV does not have come out as question marks."""
    scale = _OVERSIZE * LETTERS / (1.36 * _FONT_HEIGHT)
    (width, _), _ = cv2.getTextSize(text, _FONT, scale, _OVERSIZE)
    large = np.full(((LETTERS + 2) * _OVERSIZE, width + 2 * _OVERSIZE, 3), PAPER, np.uint8)
    base = int(_OVERSIZE * LETTERS * 0.76) + _OVERSIZE
    cv2.putText(large, text, (_OVERSIZE, base), _FONT, scale, INK, _OVERSIZE, cv2.LINE_AA)
    size = (-(-large.shape[1] // _OVERSIZE), LETTERS + 2)
    return np.asarray(cv2.resize(large, size, interpolation=cv2.INTER_AREA), np.uint8)


def legend(title: str, entries: Sequence[tuple[str, Color]], width: int) -> Picture:
    """Return colours and what they mean after a title, in as many lines of a width as it takes; H x width x 3."""
    return lined_up([write(title), *(marked(_framed(color), name) for name, color in entries)], width)


def lined_up(parts: Sequence[Picture], width: int) -> Picture:
    """Set pictures, none higher than ``LINE``, into as many lines of a width as it takes; H x width x 3."""
    lines = [blank(LINE, width)]
    left = 0
    for part in parts:
        if left and left + part.shape[1] > width:
            lines.append(blank(LINE, width))
            left = 0
        shown = part[:, : width - left]
        top = (LINE - part.shape[0]) // 2
        lines[-1][top : top + part.shape[0], left : left + shown.shape[1]] = shown
        left += part.shape[1] + BETWEEN
    return np.concatenate(lines)


def marked(mark: Picture, text: str) -> Picture:
    """Return text behind a mark, ``MARK`` pixels high."""
    words = write(text)
    entry = blank(MARK, mark.shape[1] + 6 + words.shape[1])
    entry[:, : mark.shape[1]] = mark
    entry[: words.shape[0], mark.shape[1] + 6 :] = words
    return entry


def blank(height: int, width: int) -> Picture:
    """Return an empty picture."""
    return np.full((height, width, 3), PAPER, np.uint8)


def _framed(color: Color) -> Picture:
    mark = np.full((MARK, MARK, 3), INK, np.uint8)
    mark[1:-1, 1:-1] = color
    return mark


def blend(image: NDArray[np.uint8], color: NDArray[np.uint8], alpha: float) -> NDArray[np.uint8]:
    """Return image * (1 - alpha) + color * alpha, H x W x 3 uint8, rounded half up; alpha is 0..1 in steps of 1/256."""
    weight = round(alpha * 256)
    mixed = image.astype(np.uint32) * (256 - weight) + color.astype(np.uint32) * weight
    return ((mixed + 128) >> 8).astype(np.uint8)
