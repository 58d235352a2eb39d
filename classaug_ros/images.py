"""Images as ROS messages and files carry them, to and from H x W x 3 bytes."""

from __future__ import annotations

import array
import re
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from classaug_ros.errors import ConfigError, ImageError

JPEG_SUFFIXES = frozenset({".jpg", ".jpeg"})
IMAGE_SUFFIXES = JPEG_SUFFIXES | {".png"}
"""Image files that are read, by the end of their names."""

MAX_PIXELS = 2**26
"""Largest compressed image that is decoded: a few bytes may claim to be gigabytes of pixels."""

# Labels and training data lie on the pixels as stored, so a camera's orientation tag must not turn the image.
_DECODE_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_SIGNATURE = b"\xff\xd8\xff"
_JPEG_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # the rest of the range are tables
_JPEG_END = re.compile(rb"\xff\xd9")

Order = Literal["rgb", "bgr"]
Bytes = NDArray[np.uint8]


class ImageMessage(Protocol):
    """What a sensor_msgs/Image has, be it rclpy's or rosbags'."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any


class CompressedMessage(Protocol):
    """What a sensor_msgs/CompressedImage has."""

    format: str
    data: Any


@dataclass(frozen=True)
class Frame:
    """One camera image.

    Attributes:
        pixels: (H, W, 3) uint8, 0..255; may be a read-only or strided view of a message's data.
        order: which colour the channels start with.
    """

    pixels: Bytes
    order: Order

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        height, width = self.pixels.shape[:2]
        return height, width

    def rgb(self) -> Bytes:
        """Return the (H, W, 3) uint8 pixels in RGB order: the same array where they are in it already."""
        return self.pixels if self.order == "rgb" else _convert(self.pixels, cv2.COLOR_BGR2RGB)

    def grey(self, size: tuple[int, int]) -> Bytes:
        """Return the brightness, 0..255, resized to (H, W)."""
        grey = _convert(self.pixels, cv2.COLOR_RGB2GRAY if self.order == "rgb" else cv2.COLOR_BGR2GRAY)
        if size == self.size:
            return grey
        return np.asarray(cv2.resize(grey, size[::-1], interpolation=cv2.INTER_AREA), np.uint8)


@dataclass(frozen=True)
class _Encoding:
    """How an image message stores its pixels, and the way to three channels."""

    channels: int
    order: Order = "rgb"  # after the conversion
    conversion: int | None = None  # None: the samples are the pixels
    sample: int = 1  # bytes; of wider samples the most significant byte is used
    pairs: bool = False  # two pixels share their colour, so the width must be even
    smallest: int = 1  # pixels each way


def _encodings() -> dict[str, _Encoding]:
    mono = _Encoding(1, "rgb", cv2.COLOR_GRAY2RGB)
    bgr = _Encoding(3, "bgr")
    bgra = _Encoding(4, "rgb", cv2.COLOR_BGRA2RGB)
    uyvy = _Encoding(2, "rgb", cv2.COLOR_YUV2RGB_UYVY, pairs=True)
    yuyv = _Encoding(2, "rgb", cv2.COLOR_YUV2RGB_YUYV, pairs=True)
    # ROS names a mosaic by its first two rows, OpenCV by columns 1 and 2 of the second row: rggb is OpenCV's BG.
    mosaics = {
        "rggb": cv2.COLOR_BayerBG2RGB,
        "bggr": cv2.COLOR_BayerRG2RGB,
        "gbrg": cv2.COLOR_BayerGR2RGB,
        "grbg": cv2.COLOR_BayerGB2RGB,
    }
    families = {
        "mono": mono,
        "rgb": _Encoding(3),
        "bgr": bgr,
        "rgba": _Encoding(4, "rgb", cv2.COLOR_RGBA2RGB),
        "bgra": bgra,
        # OpenCV gives black for a mosaic of less than 3 x 3 pixels.
        **{f"bayer_{name}": _Encoding(1, "rgb", code, smallest=3) for name, code in mosaics.items()},
    }
    widened = {
        f"{name}16": _Encoding(e.channels, e.order, e.conversion, sample=2, smallest=e.smallest)
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

_OUTPUTS: dict[str, tuple[type[np.uint8] | type[np.uint16], int]] = {
    "mono8": (np.uint8, 1),
    "rgb8": (np.uint8, 3),
    "bgr8": (np.uint8, 3),
    "16UC1": (np.uint16, 1),
}


def decode_image(msg: ImageMessage) -> Frame:
    """Return the image a raw image message holds; rgb8 and bgr8 as a read-only view of its data.

    Raises:
        ImageError: its size, step, data or encoding make no image that can be read.
    """
    data = _as_bytes(msg.data)
    height, width, step = int(msg.height), int(msg.width), int(msg.step)
    if height < 1 or width < 1:
        raise ImageError(f"height {height}, width {width}: both must be at least 1")
    if data.size < height * step:
        raise ImageError(f"data has {data.size} bytes, expected height {height} x step {step} = {height * step}")
    encoding = ENCODINGS.get(msg.encoding)
    if encoding is None:
        return _cv_bridge_frame(msg)
    return _table_frame(msg, encoding, data)


def _table_frame(msg: ImageMessage, encoding: _Encoding, data: Bytes) -> Frame:
    """Decode a message of a known encoding whose data is long enough for its step."""
    height, width, step = int(msg.height), int(msg.width), int(msg.step)
    row = width * encoding.channels * encoding.sample
    if step < row:
        raise ImageError(f"step {step} is less than the {row} bytes of a row of {width} {msg.encoding} pixels")
    if encoding.pairs and width % 2:
        raise ImageError(f"width {width} is odd: {msg.encoding} stores pixels in pairs")
    if min(height, width) < encoding.smallest:
        need = encoding.smallest
        raise ImageError(f"height {height}, width {width}: {msg.encoding} needs at least {need} x {need} pixels")
    samples = data[: height * step].reshape(height, step)[:, :row]
    if encoding.sample == 2:
        samples = samples[:, 0 if msg.is_bigendian else 1 :: 2]
    pixels: Bytes = samples.reshape(height, width, encoding.channels)
    return Frame(pixels if encoding.conversion is None else _convert(pixels, encoding.conversion), encoding.order)


def _cv_bridge_frame(msg: ImageMessage) -> Frame:
    """Decode the rarer encodings where ROS's own converter is installed.

    Raises:
        ImageError: it is not installed or knows no way to RGB either.
    """
    reason = f"encoding {msg.encoding!r} is not supported; publish one of {', '.join(ENCODINGS)}"
    if not msg.encoding:
        raise ImageError(reason)
    try:
        from cv_bridge import CvBridge
    except ImportError:
        raise ImageError(f"{reason}, or install cv_bridge") from None
    try:
        pixels = np.asarray(CvBridge().imgmsg_to_cv2(msg, "rgb8"))
    except (cv2.error, KeyError, RuntimeError, TypeError, ValueError) as error:  # CvBridgeError is a TypeError
        raise ImageError(f"{reason} (cv_bridge: {_one_line(error)})") from error
    if pixels.dtype != np.uint8 or pixels.shape != (msg.height, msg.width, 3):
        raise ImageError(f"{reason} (cv_bridge gave {pixels.dtype} pixels of shape {pixels.shape})")
    return Frame(pixels, "rgb")


def decode_compressed(msg: CompressedMessage) -> Frame:
    """Return the image a JPEG or PNG message holds, as stored: an orientation tag turns nothing.

    ``format`` is what image_transport writes, as in ``rgb8; jpeg compressed bgr8``; the data's own signature
    decides how it is decoded.

    Raises:
        ImageError: the data is no whole JPEG or PNG image of at most MAX_PIXELS, or a sensor's mosaic or depth.
    """
    original, _, stored = msg.format.partition(";")
    if original.startswith("bayer_") and "compressed bgr" not in stored and "compressed rgb" not in stored:
        raise ImageError(f"format {msg.format!r} is a sensor's mosaic; compress a colour image (bgr8) in its place")
    try:
        pixels = _decode_file(_as_bytes(msg.data))
    except ImageError as error:
        raise ImageError(f"format {msg.format!r}: {error}") from error.__cause__
    # Decoders give BGR; some publishers hand their RGB pixels to the encoder unchanged, and say so.
    return Frame(pixels, "rgb" if "compressed rgb" in stored else "bgr")


def image_files(folder: Path) -> list[Path]:
    """Return the image files in a folder by name, hidden ones left out.

    Raises:
        ConfigError: the folder cannot be read, or has none.
    """
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read: {error.strerror}") from error
    if not (shown := [file for file in files if not file.name.startswith(".")]):
        raise ConfigError(f"{folder}: expected a folder with {', '.join(sorted(IMAGE_SUFFIXES))} files, found none")
    return shown


def read_image(path: Path) -> Frame:
    """Return the image in a JPEG or PNG file, as stored: an orientation tag turns nothing.

    Raises:
        ImageError: the file cannot be read or is no whole JPEG or PNG image of at most MAX_PIXELS.
    """
    try:
        return Frame(_decode_file(np.frombuffer(path.read_bytes(), np.uint8)), "bgr")
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error.__cause__


def fill_image(msg: Any, pixels: NDArray[np.uint8] | NDArray[np.uint16], encoding: str) -> None:
    """Set everything but the header of a sensor_msgs/Image.

    Args:
        msg: the message.
        pixels: (H, W) uint8 for mono8, (H, W) uint16 for 16UC1, (H, W, 3) uint8 for rgb8 and bgr8.
        encoding: one of these four.

    Raises:
        ImageError: the pixels do not fit the encoding.
    """
    if encoding not in _OUTPUTS:
        raise ImageError(f"encoding {encoding!r}: expected one of {', '.join(_OUTPUTS)}")
    dtype, channels = _OUTPUTS[encoding]
    expected = pixels.shape[:2] if channels == 1 else (*pixels.shape[:2], channels)
    if pixels.ndim < 2 or pixels.shape != expected or pixels.dtype != dtype:
        shape = "(H, W)" if channels == 1 else f"(H, W, {channels})"
        raise ImageError(
            f"{encoding} takes {np.dtype(dtype).name} pixels of shape {shape}, not {pixels.dtype} of {pixels.shape}"
        )
    data = array.array("B")  # rclpy checks any other type byte by byte
    if pixels.size:
        data.frombytes(np.ascontiguousarray(pixels).data.cast("B"))
    msg.height, msg.width = pixels.shape[:2]
    msg.encoding = encoding
    msg.is_bigendian = int(sys.byteorder == "big")
    msg.step = pixels.shape[1] * channels * pixels.itemsize
    msg.data = data


def _as_bytes(data: Any) -> Bytes:
    """View message data (array.array, bytes, memoryview, ndarray) as flat read-only bytes, without a copy."""
    try:
        view = np.frombuffer(data, np.uint8)
    except (BufferError, TypeError, ValueError) as error:
        raise ImageError(f"data of type {type(data).__name__} is not a block of bytes: {_one_line(error)}") from error
    view.flags.writeable = False
    return view


def _decode_file(data: Bytes) -> Bytes:
    """Decode a JPEG's or PNG's bytes to (H, W, 3) uint8 in BGR order, its size checked before memory is taken."""
    height, width = _stored_size(data.data)
    if not 0 < height * width <= MAX_PIXELS:
        raise ImageError(f"height {height}, width {width}: expected 1 to {MAX_PIXELS} pixels")
    try:
        pixels = cv2.imdecode(data, _DECODE_FLAGS)
    except cv2.error as error:
        raise ImageError(f"cannot be decoded: {_one_line(error)}") from error
    if pixels is None:
        raise ImageError(f"a broken or cut-off image ({data.size} bytes)")
    return np.asarray(pixels, np.uint8)


def _stored_size(data: memoryview) -> tuple[int, int]:
    """Return (H, W) as the header of a PNG or JPEG says."""
    start = bytes(data[:8])
    if start == _PNG_SIGNATURE and bytes(data[12:16]) == b"IHDR" and len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
        return height, width
    if start[:3] == _JPEG_SIGNATURE:
        return _jpeg_size(data)
    raise ImageError(f"expected JPEG or PNG, found {len(data)} bytes starting with {start.hex(' ') or 'nothing'}")


def _jpeg_size(data: memoryview) -> tuple[int, int]:
    """Return (H, W) from a JPEG's frame header, having seen that the image has an end.

    Decoders differ in what they make of a JPEG that breaks off: some fill the rest with grey.
    """
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        length, _, height, width = struct.unpack_from(">HBHH", data, position + 2)
        position += 2 + length
        if marker in _JPEG_FRAME_MARKERS:
            if not _JPEG_END.search(data, position):
                break
            return height, width
    raise ImageError(f"a broken or cut-off JPEG ({len(data)} bytes)")


def _convert(pixels: Bytes, code: int) -> Bytes:
    try:
        return np.asarray(cv2.cvtColor(pixels, code), np.uint8)
    except cv2.error as error:
        raise ImageError(f"pixels of shape {pixels.shape} cannot be converted: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
