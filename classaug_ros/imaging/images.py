"""Images as ROS messages and files carry them, to and from H x W x 3 bytes."""

from __future__ import annotations

import array
import sys
import threading
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from classaug_ros.errors import ConfigError, ImageError, quoted
from classaug_ros.imaging.codecs import Bytes, check_size, decode_file
from classaug_ros.imaging.encodings import ENCODINGS, LAYOUTS, Encoding, Layout, Order
from classaug_ros.io.files import read_whole

JPEG_SUFFIXES = frozenset({".jpg", ".jpeg"})
IMAGE_SUFFIXES = JPEG_SUFFIXES | {".png"}
"""Image files that are read, by the end of their names."""


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


class Frame:
    """One camera image, which several threads may read."""

    def __init__(self, pixels: Bytes, order: Order) -> None:
        """Take the pixels of an image.

        Args:
            pixels: (H, W, 3) uint8, 0..255; may be a read-only or strided view of a message's data.
            order: which colour the channels start with.
        """
        self._samples = pixels
        self._encoding = ENCODINGS["rgb8" if order == "rgb" else "bgr8"]
        self._converted: Bytes | None = None
        self._converting = threading.Lock()

    @classmethod
    def encoded(cls, samples: Bytes, encoding: Encoding) -> Frame:
        """Take an image as a message stores it; it is converted when somebody asks for its pixels.

        Args:
            samples: (H, W, channels) uint8, in size as the encoding demands; may be read-only or strided.
            encoding: what they mean.
        """
        frame = cls(samples, encoding.order)
        frame._encoding = encoding
        return frame

    @property
    def pixels(self) -> Bytes:
        """(H, W, 3) uint8, 0..255; may be read-only or strided. Converted once at most, and then kept.

        Raises:
            ImageError: the conversion fails, for want of memory say.
        """
        conversion = self._encoding.conversion
        if conversion is None:
            return self._samples
        with self._converting:
            if self._converted is None:
                self._converted = _convert(self._samples, conversion)
            return self._converted

    @property
    def order(self) -> Order:
        """Which colour the channels of ``pixels`` start with."""
        return self._encoding.order

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        height, width = self._samples.shape[:2]
        return height, width

    def raw(self) -> tuple[Layout, Bytes]:
        """Return the image's bytes, for a GPU to read: as they came, but mosaics and 16-bit samples as ``pixels``.

        Returns:
            How the bytes of a row lie, and (H, bytes of a row) uint8 without padding between pixels; may be a
            read-only or strided view.

        Raises:
            ImageError: see ``pixels``.
        """
        layout, samples = self._encoding.layout, self._samples
        if layout is None:
            layout, samples = LAYOUTS[self.order], self.pixels
        return layout, samples.reshape(samples.shape[0], -1)

    def rgb(self) -> Bytes:
        """Return the (H, W, 3) uint8 pixels in RGB order: the same array where they are in it already."""
        return self.pixels if self.order == "rgb" else _convert(self.pixels, cv2.COLOR_BGR2RGB)

    def grey(self, size: tuple[int, int]) -> Bytes:
        """Return the brightness, 0..255, resized to (H, W)."""
        grey = _convert(self.pixels, cv2.COLOR_RGB2GRAY if self.order == "rgb" else cv2.COLOR_BGR2GRAY)
        if size == self.size:
            return grey
        return np.asarray(cv2.resize(grey, size[::-1], interpolation=cv2.INTER_AREA), np.uint8)


_OUTPUTS: dict[str, tuple[type[np.uint8] | type[np.uint16], int]] = {
    "mono8": (np.uint8, 1),
    "rgb8": (np.uint8, 3),
    "bgr8": (np.uint8, 3),
    "16UC1": (np.uint16, 1),
}


def decode_image(msg: ImageMessage) -> Frame:
    """Return the image a raw image message holds; a read-only view of its data until it is converted.

    Raises:
        ImageError: its size, step, data or encoding make no image that can be read.
    """
    data = _as_bytes(msg.data)
    height, width, step = int(msg.height), int(msg.width), int(msg.step)
    check_size(height, width)
    if data.size < height * step:
        raise ImageError(f"data has {data.size} bytes, expected height {height} x step {step} = {height * step}")
    encoding = ENCODINGS.get(msg.encoding)
    if encoding is None:
        return _cv_bridge_frame(msg)
    return _table_frame(msg, encoding, data)


def _table_frame(msg: ImageMessage, encoding: Encoding, data: Bytes) -> Frame:
    """Decode a message of a known encoding whose data is long enough for its step."""
    height, width, step = int(msg.height), int(msg.width), int(msg.step)
    row = width * encoding.channels * encoding.sample
    # To cv_bridge it is an error too: most often the rows are longer than step says, and the image would be slanted.
    if data.size > height * step:
        raise ImageError(f"data has {data.size} bytes, more than height {height} x step {step} = {height * step}")
    if step < row:
        raise ImageError(f"step {step} is less than the {row} bytes of a row of {width} {msg.encoding} pixels")
    if encoding.pairs and width % 2:
        raise ImageError(f"width {width} is odd: {msg.encoding} stores pixels in pairs")
    if min(height, width) < encoding.smallest:
        need = encoding.smallest
        raise ImageError(f"height {height}, width {width}: {msg.encoding} needs at least {need} x {need} pixels")
    samples = data.reshape(height, step)[:, :row]
    if encoding.sample == 2:
        samples = samples[:, 0 if msg.is_bigendian else 1 :: 2]
    return Frame.encoded(samples.reshape(height, width, encoding.channels), encoding)


def _cv_bridge_frame(msg: ImageMessage) -> Frame:
    """Decode the rarer encodings where ROS's own converter is installed.

    Raises:
        ImageError: it is not installed or knows no way to RGB either.
    """
    reason = f"encoding {quoted(msg.encoding)} is not supported; publish one of {', '.join(ENCODINGS)}"
    if not msg.encoding:
        raise ImageError(reason)
    try:
        from cv_bridge import CvBridge
    except ImportError:
        raise ImageError(f"{reason}, or install cv_bridge") from None
    try:
        pixels = np.asarray(CvBridge().imgmsg_to_cv2(msg, "rgb8"))
    except Exception as error:  # whatever it makes of 8UC0, say: that must not look like a defect of a model
        raise ImageError(f"{reason} (cv_bridge: {quoted(_one_line(error))})") from error
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
        raise ImageError(
            f"format {quoted(msg.format)} is a sensor's mosaic; compress a colour image (bgr8) in its place"
        )
    try:
        pixels = _decode_colors(_as_bytes(msg.data))
    except ImageError as error:
        raise ImageError(f"format {quoted(msg.format)}: {error}") from error.__cause__
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
        content = read_whole(path)
    except ConfigError as error:
        raise ImageError(str(error)) from error
    try:
        return Frame(_decode_colors(np.frombuffer(content, np.uint8)), "bgr")
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


def _decode_colors(data: Bytes) -> Bytes:
    """Decode a JPEG's or PNG's bytes to (H, W, 3) uint8 in BGR order."""
    return np.asarray(decode_file(data), np.uint8)


def _convert(pixels: Bytes, code: int) -> Bytes:
    try:
        return np.asarray(cv2.cvtColor(pixels, code), np.uint8)
    except cv2.error as error:
        raise ImageError(f"pixels of shape {pixels.shape} cannot be converted: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
