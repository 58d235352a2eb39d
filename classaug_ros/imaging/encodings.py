"""The encodings of raw image messages, their ways to three channels, and how their bytes lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2

Order = Literal["rgb", "bgr"]


@dataclass(frozen=True)
class Layout:
    """How the colours of an image lie in a row of its bytes.

    Attributes:
        stride: bytes from a pixel to the next.
        red: offset of the pixel's red; ``green`` and ``blue`` likewise. Grey pixels have one offset for all.
        luma: -1, or in 4:2:2, where two pixels share their colour and the other offsets mean nothing, the offset of
            the brightness: 1 in uyvy, 0 in yuyv; ``stride`` is 2.
    """

    stride: int
    red: int
    green: int
    blue: int
    luma: int = -1


@dataclass(frozen=True)
class Encoding:
    """How an image message stores its pixels, and the way to three channels."""

    channels: int
    order: Order = "rgb"  # after the conversion
    conversion: int | None = None  # None: the samples are the pixels
    layout: Layout | None = None  # None: only the conversion reads it, or samples are wider than a byte
    sample: int = 1  # bytes; of wider samples the most significant byte is used
    pairs: bool = False  # two pixels share their colour, so the width must be even
    smallest: int = 1  # pixels each way


LAYOUTS: dict[Order, Layout] = {"rgb": Layout(3, 0, 1, 2), "bgr": Layout(3, 2, 1, 0)}
"""How pixels of three channels lie."""


def _encodings() -> dict[str, Encoding]:
    mono = Encoding(1, "rgb", cv2.COLOR_GRAY2RGB, Layout(1, 0, 0, 0))
    bgr = Encoding(3, "bgr", layout=LAYOUTS["bgr"])
    bgra = Encoding(4, "rgb", cv2.COLOR_BGRA2RGB, Layout(4, 2, 1, 0))
    uyvy = Encoding(2, "rgb", cv2.COLOR_YUV2RGB_UYVY, Layout(2, 0, 0, 0, luma=1), pairs=True)
    yuyv = Encoding(2, "rgb", cv2.COLOR_YUV2RGB_YUYV, Layout(2, 0, 0, 0, luma=0), pairs=True)
    # ROS names a mosaic by its first two rows, OpenCV by columns 1 and 2 of the second row: rggb is OpenCV's BG.
    mosaics = {
        "rggb": cv2.COLOR_BayerBG2RGB,
        "bggr": cv2.COLOR_BayerRG2RGB,
        "gbrg": cv2.COLOR_BayerGR2RGB,
        "grbg": cv2.COLOR_BayerGB2RGB,
    }
    families = {
        "mono": mono,
        "rgb": Encoding(3, layout=LAYOUTS["rgb"]),
        "bgr": bgr,
        "rgba": Encoding(4, "rgb", cv2.COLOR_RGBA2RGB, Layout(4, 0, 1, 2)),
        "bgra": bgra,
        # OpenCV gives black for a mosaic of less than 3 x 3 pixels.
        **{f"bayer_{name}": Encoding(1, "rgb", code, smallest=3) for name, code in mosaics.items()},
    }
    widened = {
        f"{name}16": Encoding(e.channels, e.order, e.conversion, sample=2, smallest=e.smallest)
        for name, e in families.items()
    }
    return {
        **{f"{name}8": encoding for name, encoding in families.items()},
        **widened,
        "8UC1": mono,
        "8UC3": bgr,
        "8UC4": bgra,
        "yuv422": uyvy,
        "uyvy": uyvy,
        "yuv422_yuy2": yuyv,
        "yuyv": yuyv,
    }


ENCODINGS = _encodings()
"""Encodings decoded here, by their names in sensor_msgs/image_encodings; 16-bit samples are scaled by >> 8."""
