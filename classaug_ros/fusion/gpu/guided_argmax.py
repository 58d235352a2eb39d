"""Which class wins each pixel of a tile where scores follow the image's edges; equal to ``fusion.reference``.

A pixel's score lies between what it would be were the image black and were it white, both interpolated: between eight
corner values in place of four. ``compare`` has found for each cell the classes that can win in it, and only those of a
tile's cells are interpolated, with eight loads a pixel each: of the 8 to 11 classes in the demo's scenes two a cell,
five a tile. At 1920x1080 five are 83 million loads from the L1 cache; at 32 a cycle and multiprocessor that takes an
H100 12 us at least, by reckoning, and of 19 classes all would take 45.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from classaug_ros.fusion.gpu.argmax import lowest_bit
from classaug_ros.fusion.gpu.pixels import load_rgb
from classaug_ros.fusion.gpu.sampling_grid import COLUMNS, ROWS, Source, corners_of, interpolate

GREY = (9798, 19235, 3735)
"""Weights of red, green and blue in OpenCV's brightness, 15 bits behind the point."""

GUIDED = 128
"""Registers of a thread, see ``argmax.REGISTERS``: with 32 corner values on their way it spills at 80, and any number
from there to 128 lets two programs on a multiprocessor."""

_RED, _GREEN, _BLUE = (tl.constexpr(weight) for weight in GREY)
WORD = tl.constexpr(32)


class Bent(NamedTuple):
    """Scores that follow the image's edges, as kernels take them.

    Attributes:
        black: what the scores would be where the image is black, N x classes x h x w float32.
        white: where it is white. Neither holds anything of use of a class that is greatest at no sample.
        contenders: N x words x h x w int32, a bit for each class that can be greatest in the cell that starts at a
            sample, 32 in a word.
    """

    black: Source
    white: Any
    contenders: Any


@triton.jit
def brightness(image, y, x, step, mask, LAYOUT: tl.constexpr):
    """Return the brightness of pixels, 0..255 int32, as OpenCV has it; see ``load_rgb``."""
    red, green, blue = load_rgb(image, y, x, step, mask, LAYOUT[0], LAYOUT[1], LAYOUT[2], LAYOUT[3], LAYOUT[4])
    return (red * _RED + green * _GREEN + blue * _BLUE + (1 << 14)) >> 15


@triton.jit
def guided_winners(bent, view, tile, LAYOUT: tl.constexpr):
    """Return the class of the greatest guided score of each pixel of a tile, the lowest of equals.

    Args:
        bent: a ``Bent``.
        view: a ``painting.View``.
        tile: see ``winners``.
        LAYOUT: of the frames.
    """
    number, y, x, height, width = tile
    ys = (y + tl.arange(0, ROWS))[:, None]
    xs = (x + tl.arange(0, COLUMNS))[None, :]
    inside = (ys < height) & (xs < width)
    grey = brightness(view.frames + number * view.length, ys, xs, view.step, inside, LAYOUT)
    light = tl.div_rn(grey.to(tl.float32), 255.0)
    classes = bent.black.classes
    plane = bent.black.h * bent.black.w
    corners = corners_of(bent.black, tile)
    black = bent.black.output + number * classes * plane
    white = bent.white + number * classes * plane
    contenders = bent.contenders + number * tl.cdiv(classes, WORD) * plane
    label = tl.zeros((ROWS, COLUMNS), tl.int32)
    best = tl.full((ROWS, COLUMNS), float("-inf"), tl.float32)
    for first in range(0, classes, WORD):
        rest = tl.reduce_or(tl.reduce_or(tl.load(contenders + corners[0]), 1), 0)
        while rest != 0:
            chosen = first + lowest_bit(rest)
            rest &= rest - 1
            start = chosen.to(tl.int64) * plane
            dark = interpolate(black + start, 0, corners)
            bright = interpolate(white + start, 0, corners)
            score = dark * (1.0 - light) + bright * light
            label = tl.where(score > best, chosen, label)
            best = tl.maximum(score, best)
        contenders += plane
    return label
