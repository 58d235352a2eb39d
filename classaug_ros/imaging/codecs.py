"""JPEG and PNG to pixels, none of which costs more memory or time than an image of its size may."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from classaug_ros.errors import ImageError

MAX_PIXELS = 2**26
"""Largest image that is taken: a few bytes may claim to be gigabytes of pixels."""

MAX_SCANS = 100
"""Passes over the image in a JPEG: ten are usual, and each costs as much time as decoding the whole image."""

MAX_PARTS = 2**16
"""Chunks of a PNG, and segments before the image of a JPEG: ten to a thousand are usual."""

# Labels and training data lie on the pixels as stored, so a camera's orientation tag must not turn the image.
COLOR = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION

Bytes = NDArray[np.uint8]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_DEPTH, _PNG_COLOR = 8, 9  # where the header has bits per sample and colour type
_PNG_GREY, _PNG_INDEXED = 0, 3  # colour types
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # samples of a pixel, by colour type
_PNG_WHOLE = ((0, 0, 1, 1),)  # first row and column, steps between rows and columns
_PNG_INTERLACED = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)
_MAX_RAW = 4 * MAX_PIXELS  # bytes of a PNG's rows
_PIECE = 2**20  # bytes of them in a chunk: OpenCV minds those of 8 MB

_JPEG_SIGNATURE = b"\xff\xd8\xff"
_JPEG_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # the rest of the range are tables
_JPEG_READ_EVERYWHERE = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive; Huffman-coded
_JPEG_MARKER = re.compile(rb"\xff+([^\xff])", re.DOTALL)  # it may be filled up with FF
_JPEG_SCAN_MARKER = 0xDA
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"
_JPEG_MARKS = re.compile(rb"\xff[\xd0-\xd7\xd9\xda]")  # restarts too, which bear numbers from 0 to 7 in turn
_JPEG_BLOCK = 8  # pixels a side
_JPEG_NOTHING = 128  # value of every sample for which there is no data
_JPEG_SEEN = 4  # pixels a side at the end of an image that are looked at


def check_size(height: int, width: int) -> None:
    """Refuse an image of no pixels, or of more than ``MAX_PIXELS``.

    Raises:
        ImageError: it is of such a size.
    """
    if not 0 < height * width <= MAX_PIXELS:
        raise ImageError(f"height {height}, width {width}: expected 1 to {MAX_PIXELS} pixels")


def decode_file(data: Bytes, flags: int = COLOR) -> NDArray[Any]:
    """Return the pixels of a JPEG or PNG, given as flat bytes, its size checked before memory is taken.

    Args:
        data: the file's bytes.
        flags: OpenCV's; without, the pixels are (H, W, 3) uint8 in BGR order.

    Raises:
        ImageError: it is no whole JPEG or PNG of at most ``MAX_PIXELS``, or one made to exhaust whoever decodes it.
    """
    if _starts_with(data, _PNG_SIGNATURE):
        return _decoded(_plain_png(*_png_parts(data.data)), flags)
    if _starts_with(data, _JPEG_SIGNATURE):
        return _decode_jpeg(data, flags)
    raise ImageError(f"expected JPEG or PNG, found {_told(data)}")


def decode_label(data: Bytes) -> NDArray[Any]:
    """Return the samples of a PNG as they are stored: H x W uint8 or uint16 grey values or indices of a palette.

    Decoders mean pictures: they stretch samples of 1, 2 and 4 bits to 0..255, and give a palette's colours. A PNG with
    more than one sample a pixel gives H x W x C.

    Args:
        data: the file's bytes, flat.

    Raises:
        ImageError: it is no whole PNG of at most ``MAX_PIXELS``.
    """
    if not _starts_with(data, _PNG_SIGNATURE):
        lossy = " (a JPEG changes labels)" if _starts_with(data, _JPEG_SIGNATURE) else ""
        raise ImageError(f"expected PNG, found {_told(data)}{lossy}")
    header, palette, rows = _png_parts(data.data)
    depth, color = header[_PNG_DEPTH], header[_PNG_COLOR]
    if color == _PNG_INDEXED:
        header = header[:_PNG_COLOR] + bytes([_PNG_GREY]) + header[_PNG_COLOR + 1 :]
        palette = b""
    samples = _decoded(_plain_png(header, palette, rows), cv2.IMREAD_UNCHANGED)
    return samples // np.uint8(255 // (2**depth - 1)) if depth < 8 else samples


def _starts_with(data: Bytes, signature: bytes) -> bool:
    return data[: len(signature)].tobytes() == signature


def _told(data: Bytes) -> str:
    return f"{data.size} bytes starting with {data[:8].tobytes().hex(' ') or 'nothing'}"


def _decoded(data: Bytes, flags: int) -> NDArray[Any]:
    try:
        pixels = cv2.imdecode(data, flags)
    except cv2.error as error:
        raise ImageError(f"cannot be decoded: {' '.join(str(error).split())}") from error
    if pixels is None:
        raise ImageError(f"a broken or cut-off image ({data.size} bytes)")
    return pixels


def _png_parts(data: memoryview) -> tuple[bytes, bytes, memoryview]:
    """Return a PNG's header, its palette (empty without), and its rows, whole and not compressed."""
    header, palette, packed = b"", b"", []
    for kind, content in _png_chunks(data):
        if not header:
            if kind != b"IHDR" or len(content) != 13:
                break
            header = bytes(content)
            check_size(*reversed(struct.unpack_from(">II", header)))
        elif kind == b"PLTE":
            palette = bytes(content)
        elif kind == b"IDAT":
            packed.append(content)
        elif kind == b"IEND":
            return header, palette, _stored(b"".join(packed), _raw_size(header))
    raise ImageError(f"a broken or cut-off PNG ({len(data)} bytes)")


def _plain_png(header: bytes, palette: bytes, rows: memoryview) -> Bytes:
    """Return a PNG that has nothing else in it.

    All else is where decoders have their weak spots: an animation's frame larger than the image makes OpenCV 4.11
    write past the end of its memory, and texts and rows of a few bytes may expand to gigabytes.
    """
    pieces = [_chunk(b"IDAT", rows[at : at + _PIECE]) for at in range(0, len(rows), _PIECE)]
    before = [_PNG_SIGNATURE, _chunk(b"IHDR", header), _chunk(b"PLTE", palette) if palette else b""]
    return np.frombuffer(b"".join([*before, *pieces, _chunk(b"IEND", b"")]), np.uint8)


def _png_chunks(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Return the chunks of a PNG up to the first that is not whole."""
    position = len(_PNG_SIGNATURE)
    for _ in range(MAX_PARTS):
        if position + 12 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > len(data) or zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return
        yield kind, data[position + 8 : end]
        position = end + 4


def _chunk(kind: bytes, content: bytes | memoryview) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return b"".join([struct.pack(">I", len(content)), kind, content, struct.pack(">I", checksum)])


def _raw_size(header: bytes) -> int:
    """Return how many bytes the rows of a PNG are, each with its filter's, as its header says."""
    width, height, depth, color, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if color not in _PNG_CHANNELS or depth not in (1, 2, 4, 8, 16) or interlaced > 1:
        raise ImageError(
            f"a PNG of colour type {color}, depth {depth}, interlacing {interlaced}: there is no such kind"
        )
    size = 0
    for y, x, step_y, step_x in _PNG_INTERLACED if interlaced else _PNG_WHOLE:
        rows, columns = (
            max(0, -(-(side - at) // step)) for side, at, step in ((height, y, step_y), (width, x, step_x))
        )
        size += rows * (1 + -(-columns * _PNG_CHANNELS[color] * depth // 8)) if columns else 0
    if size > _MAX_RAW:
        raise ImageError(f"a PNG whose rows are {size} bytes: expected at most {_MAX_RAW}")
    return size


def _stored(packed: bytes, size: int) -> memoryview:
    """Return compressed bytes without compression, having seen that they are so many, neither more nor fewer."""
    inflate, store = zlib.decompressobj(), zlib.compressobj(0)
    try:
        raw = inflate.decompress(packed, size + 1)
    except zlib.error as error:
        raise ImageError(f"a broken PNG: {error}") from error
    if len(raw) > size:
        raise ImageError(f"a PNG with more than the {size} bytes of its rows")
    if len(raw) < size or not inflate.eof:
        raise ImageError(f"a broken or cut-off PNG: {len(raw)} of the {size} bytes of its rows")
    return memoryview(store.compress(raw) + store.flush())


def _decode_jpeg(data: Bytes, flags: int) -> NDArray[Any]:
    """Decode a JPEG whose image has all its data.

    Decoders differ in what they make of a JPEG that breaks off: OpenCV fills the rest with grey.
    """
    height, width, start = _jpeg_frame(data.data)
    marks = _JPEG_MARKS.findall(data.data, start)
    blocks = -(-height // _JPEG_BLOCK) * -(-width // _JPEG_BLOCK)
    if _JPEG_SCAN not in marks or _JPEG_END not in marks or 8 * (data.size - start) < blocks:  # a bit each at the least
        raise _broken_jpeg(data.size)
    if (scans := marks.count(_JPEG_SCAN)) > MAX_SCANS:
        raise ImageError(f"a JPEG of {scans} scans: expected at most {MAX_SCANS}")
    if not _restarts_in_order(marks):
        raise _broken_jpeg(data.size)
    pixels = _decoded(data, flags)
    # Real images hardly ever end in exactly this grey. What has all its data takes no notice of more.
    if _ends_in_nothing(pixels):
        whole = data.tobytes()
        end = whole.index(_JPEG_END, start)
        more = np.frombuffer(whole[:end] + bytes(range(1, 128)) + whole[end:], np.uint8)
        if not np.array_equal(_decoded(more, flags), pixels):
            raise _broken_jpeg(data.size)
    return pixels


def _ends_in_nothing(pixels: NDArray[Any]) -> bool:
    """Tell whether a JPEG's last block looks as if it had no data.

    The colours of the blocks beside it reach two pixels into it, so that only what lies behind these is looked at.
    """
    rows, columns = (min(max((side - 1) % _JPEG_BLOCK - 1, 1), _JPEG_SEEN) for side in pixels.shape[:2])
    return bool(np.all(pixels[-rows:, -columns:] == _JPEG_NOTHING))


def _restarts_in_order(marks: Sequence[bytes]) -> bool:
    """Tell whether no restart marker is missing among a JPEG's marks, up to its end."""
    expected = 0
    for mark in marks:
        if mark == _JPEG_END:
            break
        if mark == _JPEG_SCAN:
            expected = 0
        elif mark[1] != 0xD0 + expected % 8:
            return False
        else:
            expected += 1
    return True


def _jpeg_frame(data: memoryview) -> tuple[int, int, int]:
    """Return (H, W) from a JPEG's frame header, and where the first scan starts.

    The tables between the two may have in them what looks like any mark.
    """
    size: tuple[int, int] | None = None
    position = 2
    for _ in range(MAX_PARTS):
        marker = _JPEG_MARKER.match(data, position)
        if marker is None or marker.end() + 7 > len(data):
            break
        length, depth, height, width = struct.unpack_from(">HBHH", data, marker.end())
        position = marker.end() + length
        kind = marker[1][0]
        if kind in _JPEG_FRAME_MARKERS:
            if kind not in _JPEG_READ_EVERYWHERE or depth != 8:
                raise ImageError(
                    f"a JPEG of kind SOF{kind - 0xC0} and {depth} bits: expected baseline or progressive, of 8 bits"
                )
            check_size(height, width)
            size = height, width
        elif kind == _JPEG_SCAN_MARKER and size is not None:
            return *size, marker.start()
    raise _broken_jpeg(len(data))


def _broken_jpeg(size: int) -> ImageError:
    return ImageError(f"a broken or cut-off JPEG ({size} bytes)")
