"""Reading pixels from the bytes of an image message, on a GPU."""

from __future__ import annotations

import triton
import triton.language as tl

from classaug_ros.imaging.encodings import Layout

__all__ = ["Layout", "load_rgb"]


@triton.jit
def load_rgb(
    base,
    y,
    x,
    step,
    mask,
    STRIDE: tl.constexpr,
    RED: tl.constexpr,
    GREEN: tl.constexpr,
    BLUE: tl.constexpr,
    LUMA: tl.constexpr,
):
    """Return red, green and blue of pixels, 0..255 int32 each, of the shape that ``y`` and ``x`` have together.

    Args:
        base: where the image's first byte is, uint8.
        y: rows of the pixels.
        x: their columns.
        step: bytes from a row to the next.
        mask: where to read; elsewhere the colours mean nothing.
        STRIDE: the layout of the image, as are the others.
        RED: see there.
        GREEN: see there.
        BLUE: see there.
        LUMA: see there.
    """
    row = base + y.to(tl.int64) * step
    if LUMA >= 0:
        # OpenCV's conversion: BT.601, studio range, 20 bits behind the point. The pair's U comes before its V.
        pair = row + (x // 2) * 4 + (1 - LUMA)
        light = tl.maximum(tl.load(row + x * 2 + LUMA, mask, other=16).to(tl.int32) - 16, 0) * 1220542 + (1 << 19)
        u = tl.load(pair, mask, other=128).to(tl.int32) - 128
        v = tl.load(pair + 2, mask, other=128).to(tl.int32) - 128
        red = (light + 1673527 * v) >> 20
        green = (light - 852492 * v - 409993 * u) >> 20
        blue = (light + 2116026 * u) >> 20
        red = tl.minimum(tl.maximum(red, 0), 255)
        green = tl.minimum(tl.maximum(green, 0), 255)
        blue = tl.minimum(tl.maximum(blue, 0), 255)
    else:
        pixel = row + x * STRIDE
        red = tl.load(pixel + RED, mask, other=0).to(tl.int32)
        if RED == GREEN:
            green = red
            blue = red
        else:
            green = tl.load(pixel + GREEN, mask, other=0).to(tl.int32)
            blue = tl.load(pixel + BLUE, mask, other=0).to(tl.int32)
    return red, green, blue
