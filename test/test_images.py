from __future__ import annotations

import array
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from classaug_ros.errors import ImageError
from classaug_ros.fusion import reference
from classaug_ros.imaging.codecs import MAX_PIXELS
from classaug_ros.imaging.encodings import ENCODINGS, Order
from classaug_ros.imaging.images import Frame, decode_compressed, decode_image, fill_image, read_image

Pixels = NDArray[np.uint8]

CHANNELS = {"mono": "g", "rgb": "rgb", "bgr": "bgr", "rgba": "rgba", "bgra": "bgra"}
PACKED = {
    **{f"{name}{bits}": (order, bits // 8) for name, order in CHANNELS.items() for bits in (8, 16)},
    "8UC1": ("g", 1),
    "8UC3": ("bgr", 1),
    "8UC4": ("bgra", 1),
}
MOSAICS = ("rggb", "bggr", "gbrg", "grbg")
BUFFERS: dict[str, Callable[[bytes], Any]] = {
    "array": lambda data: array.array("B", data),
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "numpy": lambda data: np.frombuffer(data, np.uint8),
}


@dataclass
class Message:
    """A sensor_msgs/Image without its header."""

    height: int = 0
    width: int = 0
    encoding: str = "rgb8"
    is_bigendian: int = 0
    step: int = 0
    data: Any = b""


@dataclass
class Compressed:
    """A sensor_msgs/CompressedImage without its header."""

    data: Any = b""
    format: str = "jpeg"


@dataclass(frozen=True)
class Stored:
    """An image message and the RGB pixels it was made of."""

    msg: Message
    rgb: Pixels = field(repr=False)


@st.composite
def packed_images(draw: st.DrawFn) -> Stored:
    """Messages of every packed encoding, with padding, either byte order and any buffer type."""
    encoding = draw(st.sampled_from(sorted(PACKED)))
    order, sample = PACKED[encoding]
    height, width = draw(st.integers(1, 17)), draw(st.integers(1, 17))
    padding = draw(st.integers(0, 9))
    big = draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rgb = rng.integers(0, 256, (height, width, 3), np.uint8)
    if order == "g":
        rgb = np.repeat(rgb[..., :1], 3, axis=2)
    planes = {"r": rgb[..., 0], "g": rgb[..., 1], "b": rgb[..., 2], "a": rng.integers(0, 256, (height, width))}
    pixels = np.stack([planes[channel] for channel in order], axis=2).astype(np.uint8)
    if sample == 2:
        low = rng.integers(0, 256, pixels.shape)
        pixels = (pixels.astype(np.uint16) << 8 | low).astype(">u2" if big else "<u2")
    rows = [row.tobytes() + rng.bytes(padding) for row in pixels]
    data = BUFFERS[draw(st.sampled_from(sorted(BUFFERS)))](b"".join(rows))
    return Stored(Message(height, width, encoding, int(big), len(rows[0]), data), rgb)


def street(height: int = 64, width: int = 96) -> Pixels:
    """A smooth image whose channels differ everywhere: demosaicing and chroma subsampling hardly change it."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [200 - y * 100 / height, 60 + x * 100 / width, 40 + (x + y) * 60 / (height + width)]
    pixels: NDArray[np.uint8] = np.stack(channels, axis=2).round().astype(np.uint8)
    return pixels


def mosaic(rgb: Pixels, pattern: str) -> Pixels:
    """What a sensor with this pattern sees: ROS names the first row's two colours, then the second row's."""
    out = np.zeros(rgb.shape[:2], np.uint8)
    for position, colour in enumerate(pattern):
        y, x = divmod(position, 2)
        out[y::2, x::2] = rgb[y::2, x::2, "rgb".index(colour)]
    return out


def yuv422(rgb: Pixels, order: str) -> bytes:
    """BT.601 studio-range YUV 4:2:2 with the bytes of two pixels in ``order``."""
    r, g, b = (rgb[..., channel].astype(float) for channel in range(3))
    y = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    u = 128 - 0.148 * r - 0.291 * g + 0.439 * b
    v = 128 + 0.439 * r - 0.368 * g - 0.071 * b
    samples = {"u": (u[:, ::2] + u[:, 1::2]) / 2, "v": (v[:, ::2] + v[:, 1::2]) / 2, "0": y[:, ::2], "1": y[:, 1::2]}
    pixels: NDArray[np.uint8] = np.stack([samples[name] for name in order], axis=2).round().astype(np.uint8)
    return pixels.tobytes()


def encoded(extension: str, rgb: Pixels, parameters: tuple[int, ...] = ()) -> bytes:
    ok, data = cv2.imencode(extension, np.ascontiguousarray(rgb[..., ::-1]), parameters)
    assert ok
    return data.tobytes()


def difference(a: Pixels, b: Pixels) -> int:
    return int(np.abs(a.astype(int) - b).max())


@given(packed_images())
def test_packed_encodings_decode_to_the_pixels_they_hold(stored: Stored) -> None:
    frame = decode_image(stored.msg)
    assert frame.size == stored.rgb.shape[:2]
    assert frame.pixels.dtype == np.uint8
    np.testing.assert_array_equal(frame.rgb(), stored.rgb)


@pytest.mark.parametrize("kind", sorted(BUFFERS))
@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "8UC3"])
def test_colour_is_a_read_only_view_of_the_message(encoding: str, padding: int, kind: str) -> None:
    data = BUFFERS[kind](bytes(4 * (6 * 3 + padding)))
    frame = decode_image(Message(4, 6, encoding, step=6 * 3 + padding, data=data))
    assert np.shares_memory(frame.pixels, np.frombuffer(data, np.uint8))
    assert frame.order == ("rgb" if encoding == "rgb8" else "bgr")
    with pytest.raises(ValueError, match="read-only"):
        frame.pixels[0, 0, 0] = 1


def test_rgb_of_an_rgb_frame_is_the_same_array() -> None:
    frame = Frame(street(), "rgb")
    assert frame.rgb() is frame.pixels


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_grey_is_the_brightness_of_a_frame(order: Order) -> None:
    rgb = street()
    pixels = rgb if order == "rgb" else rgb[:, :, ::-1].copy()
    pixels.flags.writeable = False
    grey = Frame(pixels, order).grey((rgb.shape[0], rgb.shape[1]))
    assert grey.dtype == np.uint8
    assert difference(grey, np.rint(rgb @ [0.299, 0.587, 0.114]).astype(np.uint8)) <= 1


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_grey_of_a_smaller_size_is_the_mean_of_the_pixels(order: Order) -> None:
    values = np.random.default_rng(6).integers(0, 256, (12, 20), np.uint8)
    frame = Frame(np.repeat(values[:, :, np.newaxis], 3, axis=2), order)
    np.testing.assert_array_equal(frame.grey((12, 20)), values)
    means = values.reshape(6, 2, 5, 4).mean(axis=(1, 3))
    assert difference(frame.grey((6, 5)), np.rint(means).astype(np.uint8)) <= 1
    assert frame.grey((24, 60)).shape == (24, 60)


def message_of(name: str) -> Message:
    """A message of a known encoding, its data at random and each row padded by three bytes."""
    encoding = ENCODINGS[name]
    step = 6 * encoding.channels * encoding.sample + 3
    return Message(4, 6, name, step=step, data=np.random.default_rng(5).bytes(4 * step))


@pytest.mark.parametrize("name", ENCODINGS)
def test_raw_bytes_and_their_layout_stand_for_the_same_colours(name: str) -> None:
    frame = decode_image(message_of(name))
    layout, rows = frame.raw()
    assert rows.dtype == np.uint8
    assert rows.shape == (4, 6 * layout.stride)
    np.testing.assert_array_equal(reference.colors(rows, layout), frame.rgb())


@pytest.mark.parametrize("name", [name for name in ENCODINGS if "16" not in name and "bayer" not in name])
def test_raw_bytes_are_a_view_of_the_message_and_convert_nothing(name: str, conversions: list[int]) -> None:
    msg = message_of(name)
    layout, rows = decode_image(msg).raw()
    assert np.shares_memory(rows, np.frombuffer(msg.data, np.uint8))
    assert rows.tobytes() == b"".join(msg.data[y * msg.step : (y + 1) * msg.step - 3] for y in range(4))
    assert layout.stride == ENCODINGS[name].channels
    assert not conversions


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_raw_bytes_of_any_view_are_its_pixels(order: Order) -> None:
    pixels = street()
    for view in (pixels, pixels[::-1], pixels[:, ::2], pixels[:, ::-1], pixels[3:9, 5:11], pixels[:, :, ::-1]):
        layout, rows = Frame(view, order).raw()
        np.testing.assert_array_equal(reference.colors(rows, layout), Frame(view, order).rgb())


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """OpenCV's code of each conversion that is made."""
    codes: list[int] = []
    convert = cv2.cvtColor

    def counted(pixels: Pixels, code: int) -> Any:
        codes.append(code)
        return convert(pixels, code)

    monkeypatch.setattr(cv2, "cvtColor", counted)
    return codes


def test_an_image_is_converted_once_and_only_when_its_pixels_are_asked_for(conversions: list[int]) -> None:
    frame = decode_image(message_of("yuv422"))
    assert frame.size == (4, 6)
    assert frame.order == "rgb"
    assert not conversions
    with ThreadPoolExecutor(8) as pool:
        barrier = threading.Barrier(8)
        seen = list(pool.map(lambda _: (barrier.wait(), frame.pixels)[1], range(8)))
    assert all(pixels is seen[0] for pixels in seen)
    assert frame.rgb() is seen[0]
    assert conversions == [cv2.COLOR_YUV2RGB_UYVY]


@pytest.mark.parametrize("name", ["yuyv", "bayer_rggb8", "mono16"])
def test_what_cannot_be_converted_is_refused_when_it_is_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(pixels: Pixels, code: int) -> Any:
        raise cv2.error("Insufficient memory\n")

    monkeypatch.setattr(cv2, "cvtColor", fail)
    frame = decode_image(message_of(name))
    reads: list[Callable[[], object]] = [lambda: frame.pixels, frame.rgb, lambda: frame.grey((2, 3))]
    for read in reads:
        with pytest.raises(ImageError, match=r"cannot be converted: Insufficient memory$"):
            read()


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("pattern", MOSAICS)
def test_bayer_patterns_follow_the_names_of_ros(pattern: str, depth: int) -> None:
    rgb = street()
    raw = mosaic(rgb, pattern)
    data = raw.tobytes() if depth == 8 else (raw.astype("<u2") << 8 | 0x7F).astype("<u2").tobytes()
    height, width = rgb.shape[:2]
    msg = Message(height, width, f"bayer_{pattern}{depth}", step=width * depth // 8, data=data)
    inner = (slice(2, -2), slice(2, -2))
    assert difference(decode_image(msg).rgb()[inner], rgb[inner]) <= 3
    for other in set(MOSAICS) - {pattern}:
        msg.encoding = f"bayer_{other}{depth}"
        assert difference(decode_image(msg).rgb()[inner], rgb[inner]) > 20


@pytest.mark.parametrize("pattern", MOSAICS)
@pytest.mark.parametrize("colour", [(250, 10, 20), (10, 250, 20), (10, 20, 250)], ids=["red", "green", "blue"])
def test_bayer_keeps_one_colour_up_to_the_border(pattern: str, colour: tuple[int, int, int]) -> None:
    rgb = np.full((5, 7, 3), colour, np.uint8)
    msg = Message(5, 7, f"bayer_{pattern}8", step=7, data=mosaic(rgb, pattern).tobytes())
    np.testing.assert_array_equal(decode_image(msg).rgb(), rgb)


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize(
    ("encoding", "order"),
    [("yuv422", "u0v1"), ("uyvy", "u0v1"), ("yuv422_yuy2", "0u1v"), ("yuyv", "0u1v")],
)
def test_yuv422_follows_the_byte_orders_of_ros(encoding: str, order: str, padding: int) -> None:
    rgb = street()
    height, width = rgb.shape[:2]
    rows = np.frombuffer(yuv422(rgb, order), np.uint8).reshape(height, 2 * width)
    data = np.pad(rows, ((0, 0), (0, padding)), constant_values=255).tobytes()
    frame = decode_image(Message(height, width, encoding, step=2 * width + padding, data=data))
    assert difference(frame.rgb(), rgb) <= 4


@pytest.mark.parametrize(
    ("msg", "cause"),
    [
        (Message(0, 4, step=12, data=bytes(48)), "height 0, width 4"),
        (Message(4, 0, step=12, data=bytes(48)), "height 4, width 0"),
        (Message(4, 4, step=12, data=bytes(47)), "data has 47 bytes, expected height 4 x step 12 = 48"),
        (Message(4, 4, step=11, data=bytes(44)), "step 11 is less than the 12 bytes"),
        (Message(4, 4, step=12, data=bytes(49)), "data has 49 bytes, more than height 4 x step 12 = 48"),
        (Message(4, 4, step=0), "step 0 is less than the 12 bytes"),
        (Message(4, 4, "rgb16", step=23, data=bytes(92)), "step 23 is less than the 24 bytes"),
        (Message(2**32 - 1, 2**32 - 1, step=2**32 - 1, data=bytes(48)), f"expected 1 to {MAX_PIXELS} pixels"),
        (Message(2**16, 2**16, step=2**16, data=bytes(48)), f"height 65536, width 65536: expected 1 to {MAX_PIXELS}"),
        (Message(1, MAX_PIXELS, "rgba16", step=48, data=bytes(48)), f"step 48 is less than the {8 * MAX_PIXELS} bytes"),
        (Message(4, 4, step=2**32 - 1, data=bytes(48)), "data has 48 bytes, expected height 4 x step 4294967295"),
        (Message(4, 4, "", step=12, data=bytes(48)), "encoding '' is not supported"),
        (
            Message(4, 4, "RGB8", step=12, data=bytes(48)),
            "encoding 'RGB8' is not supported; publish one of mono8, rgb8",
        ),
        (Message(4, 5, "yuv422", step=10, data=bytes(40)), "width 5 is odd"),
        (Message(2, 4, "bayer_rggb8", step=4, data=bytes(8)), "needs at least 3 x 3 pixels"),
        (Message(4, 4, step=12, data=[0] * 48), "data of type list"),
        (Message(4, 4, step=12, data=None), "data of type NoneType"),
        (Message(4, 4, step=12, data=np.zeros((96, 2), np.uint8)[:, 0]), "data of type ndarray"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_unusable_messages_are_refused_with_the_cause(msg: Message, cause: str) -> None:
    with pytest.raises(ImageError) as error:
        decode_image(msg)
    assert cause in str(error.value)
    assert "\n" not in str(error.value)


def test_an_image_too_large_for_its_labels_is_refused() -> None:
    """Its data is all there: 1.2 GB, which takes no memory as long as nobody writes to it."""
    with pytest.raises(ImageError, match=f"height 20000, width 20000: expected 1 to {MAX_PIXELS} pixels"):
        decode_image(Message(20000, 20000, "rgb8", step=60000, data=np.zeros(1_200_000_000, np.uint8)))


def test_any_byte_order_but_0_is_big_endian() -> None:
    samples = np.arange(12, dtype=">u2").reshape(3, 4) << 8
    for order in (1, 7, 255):
        frame = decode_image(Message(3, 4, "mono16", order, 8, samples.astype(">u2").tobytes()))
        np.testing.assert_array_equal(frame.pixels[:, :, 0].ravel(), np.arange(12))


ODD_TEXTS = {
    "megabytes": "x" * 2**21,
    "lines": "rgb8\n[INFO] all is well\r\n" * 99,
    "control characters": "\x1b[2J\x00\x07\x7f\x9b",
    "format characters": "\u202e\u200b\ufeff\U000e0001" * 999,
    "other letters": "rgb\u0668 \u753b\u50cf \U0001f4f7" * 99,
    "what is no character": "\ud800\udfff\U0010ffff" * 99,
}


@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS)
def test_what_is_quoted_of_a_message_stays_short_and_on_one_line(
    text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class CvBridge:
        def imgmsg_to_cv2(self, msg: Message, encoding: str) -> Pixels:
            raise TypeError(f"Unrecognized image encoding [{msg.encoding}] for {encoding}")

    def refusals() -> Iterator[str]:
        for message in (Message(4, 4, text, step=12, data=bytes(48)), Message(1, 1, f"rgb8{text}", 0, 3, bytes(3))):
            with pytest.raises(ImageError) as refused:
                decode_image(message)
            yield str(refused.value)
        for packed in (Compressed(b"", text), Compressed(b"", f"bayer_{text}")):
            with pytest.raises(ImageError) as refused:
                decode_compressed(packed)
            yield str(refused.value)

    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    said = list(refusals())
    module = ModuleType("cv_bridge")
    monkeypatch.setattr(module, "CvBridge", CvBridge, raising=False)
    monkeypatch.setitem(sys.modules, "cv_bridge", module)
    for line in [*said, *refusals()]:
        assert len(line) < 700
        assert line.isprintable()


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """Messages of any fields, half of them with as much data as they say."""
    height = draw(st.one_of(st.integers(0, 9), st.integers(0, 2**32 - 1)))
    width = draw(st.one_of(st.integers(0, 9), st.integers(0, 2**32 - 1)))
    encoding = draw(st.one_of(st.sampled_from(sorted(ENCODINGS)), st.text(max_size=200)))
    needed = (
        8 * width if encoding not in ENCODINGS else width * ENCODINGS[encoding].channels * ENCODINGS[encoding].sample
    )
    step = draw(st.one_of(st.just(needed), st.integers(0, 90), st.integers(0, 2**32 - 1)))
    whole = height * step if height * step < 2**12 else 0
    data = draw(st.one_of(st.just(bytes(whole)), st.integers(-3, 3).map(lambda more: bytes(max(0, whole + more)))))
    return Message(height, width, encoding, draw(st.integers(0, 255)), step, data)


@given(messages())
def test_any_message_decodes_or_is_refused(msg: Message) -> None:
    start = time.thread_time()
    said = said_of(msg)
    assert len(said) < 700
    assert said.isprintable()
    assert time.thread_time() - start < 1.0


def said_of(msg: Message) -> str:
    """Decode a message to pixels that are its own or a copy's, or return why it is refused."""
    try:
        frame = decode_image(msg)
    except ImageError as error:
        return str(error)
    assert frame.pixels.shape == (msg.height, msg.width, 3)
    assert frame.pixels.dtype == np.uint8
    data = np.frombuffer(msg.data, np.uint8)
    if np.may_share_memory(frame.pixels, data):
        (first, last), (begin, end) = bounds(data), bounds(frame.pixels)
        assert first <= begin <= end <= last
    return ""


def bounds(pixels: Pixels) -> tuple[int, int]:
    """The addresses of the first and the last byte of an array whose strides are positive."""
    first: int = pixels.__array_interface__["data"][0]
    return first, first + sum((n - 1) * stride for n, stride in zip(pixels.shape, pixels.strides, strict=True))


def test_cv_bridge_decodes_what_the_table_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    class CvBridge:
        def imgmsg_to_cv2(self, msg: Message, encoding: str) -> Pixels:
            if msg.encoding == "8UC0":
                raise ZeroDivisionError("integer division by zero")
            if msg.encoding != "nv12":
                raise TypeError("Unrecognized\nimage encoding")
            assert encoding == "rgb8"
            return np.full((msg.height, msg.width, 3), 7, np.uint8)

    module = ModuleType("cv_bridge")
    monkeypatch.setattr(module, "CvBridge", CvBridge, raising=False)
    monkeypatch.setitem(sys.modules, "cv_bridge", module)
    frame = decode_image(Message(2, 4, "nv12", step=4, data=bytes(12)))
    assert frame.order == "rgb"
    assert frame.pixels.tolist() == [[[7, 7, 7]] * 4] * 2
    with pytest.raises(ImageError, match=r"encoding 'odd' is not supported.*cv_bridge: 'Unrecognized image encoding'"):
        decode_image(Message(2, 4, "odd", step=4, data=bytes(12)))
    with pytest.raises(ImageError, match=r"encoding '8UC0' is not supported.*cv_bridge: 'integer division by zero'"):
        decode_image(Message(2, 4, "8UC0", step=4, data=bytes(12)))


def test_without_cv_bridge_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    with pytest.raises(ImageError, match=r"'nv12' is not supported; publish one of .*, or install cv_bridge"):
        decode_image(Message(2, 4, "nv12", step=4, data=bytes(12)))


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("jpeg", "bgr"),
        ("png", "bgr"),
        ("rgb8; jpeg compressed bgr8", "bgr"),
        ("bayer_rggb8; jpeg compressed bgr8", "bgr"),
        ("rgb8; jpeg compressed rgb8", "rgb"),
        ("", "bgr"),
    ],
)
def test_compressed_formats_give_the_channel_order(text: str, order: str) -> None:
    rgb = street()
    stored = rgb if order == "bgr" else rgb[..., ::-1]
    frame = decode_compressed(Compressed(encoded(".png", stored), text))
    assert frame.order == order
    np.testing.assert_array_equal(frame.rgb(), rgb)


@pytest.mark.parametrize("kind", sorted(BUFFERS))
@pytest.mark.parametrize(("extension", "tolerance"), [(".png", 0), (".jpg", 12)])
def test_compressed_data_of_every_buffer_type(extension: str, tolerance: int, kind: str) -> None:
    frame = decode_compressed(Compressed(BUFFERS[kind](encoded(extension, street()))))
    assert difference(frame.rgb(), street()) <= tolerance


def test_progressive_jpeg_and_bytes_after_the_end_are_read() -> None:
    data = encoded(".jpg", street(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1))
    assert decode_compressed(Compressed(data + bytes(100))).size == (64, 96)


@pytest.mark.parametrize("extension", [".png", ".jpg"])
def test_cut_off_images_are_refused(extension: str) -> None:
    data = encoded(extension, street())
    for length in range(len(data) - 1):
        with pytest.raises(ImageError, match="format 'jpeg': "):
            decode_compressed(Compressed(data[:length]))


def test_a_png_with_a_broken_checksum_is_refused() -> None:
    data = bytearray(encoded(".png", street()))
    data[len(data) // 2] ^= 0x55
    with pytest.raises(ImageError, match=f"format 'png': a broken or cut-off PNG \\({len(data)} bytes\\)"):
        decode_compressed(Compressed(data, "png"))


def png_header(height: int, width: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def jpeg_header(height: int, width: int) -> bytes:
    frame = struct.pack(">BHHB", 8, height, width, 1) + b"\x01\x11\x00"
    return b"\xff\xd8\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame + b"\xff\xd9"


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (png_header(2**31 - 1, 2**31 - 1), f"expected 1 to {MAX_PIXELS} pixels"),
        (png_header(2, MAX_PIXELS // 2 + 1), f"height 2, width {MAX_PIXELS // 2 + 1}"),
        (png_header(0, 5), "height 0, width 5"),
        (jpeg_header(65535, 65535), "height 65535, width 65535"),
        (jpeg_header(0, 16), "height 0, width 16"),
        (b"", "found 0 bytes starting with nothing"),
        (b"GIF89a\x01\x00\x01\x00", "found 10 bytes starting with 47 49 46 38 39 61 01 00"),
        (b"\x00" * 12 + encoded(".png", street()), "expected JPEG or PNG"),
        (b"\xff\xd8\xff\xff\xff\xff\xff", "a broken or cut-off JPEG"),
        (b"\xff\xd8\xff\xe0\x00\x00" + bytes(40), "a broken or cut-off JPEG"),
        ([1, 2, 3], "data of type list"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_unusable_compressed_data_is_refused_with_the_cause(data: bytes, cause: str) -> None:
    with pytest.raises(ImageError) as error:
        decode_compressed(Compressed(data))
    assert cause in str(error.value)
    assert "\n" not in str(error.value)


def test_a_compressed_mosaic_is_not_taken_for_a_grey_image() -> None:
    with pytest.raises(ImageError, match="mosaic"):
        decode_compressed(Compressed(encoded(".png", street()), "bayer_rggb8; png compressed bayer_rggb8"))


@given(
    start=st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", png_header(3, 3), jpeg_header(3, 3)[:-2]]),
    rest=st.binary(max_size=200),
    text=st.text(max_size=200),
)
def test_any_compressed_message_decodes_or_is_refused(start: bytes, rest: bytes, text: str) -> None:
    try:
        frame = decode_compressed(Compressed(start + rest, text))
    except ImageError as error:
        said = str(error)
    else:
        assert frame.pixels.shape[2] == 3
        said = ""
    assert len(said) < 700
    assert said.isprintable()


@given(position=st.integers(0), value=st.integers(1, 255), extension=st.sampled_from([".jpg", ".png"]))
def test_one_changed_byte_decodes_or_is_refused(position: int, value: int, extension: str) -> None:
    data = bytearray(encoded(extension, street(16, 24)))
    data[position % len(data)] ^= value
    try:
        decode_compressed(Compressed(data))
    except ImageError:
        return


def test_read_image_ignores_an_orientation_tag(tmp_path: Path) -> None:
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)  # orientation: turn right
    exif = b"Exif\x00\x00MM\x00\x2a" + struct.pack(">IH", 8, 1) + entry + struct.pack(">I", 0)
    plain = encoded(".jpg", street(), (cv2.IMWRITE_JPEG_QUALITY, 100))
    path = tmp_path / "turned.jpg"
    path.write_bytes(plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:])
    turned = cv2.imread(str(path))
    assert turned is not None
    assert turned.shape == (96, 64, 3), "OpenCV obeys this tag unless told not to"
    frame = read_image(path)
    assert frame.size == (64, 96)
    assert difference(frame.rgb(), street()) <= 12


def test_read_image_names_the_file_it_cannot_use(tmp_path: Path) -> None:
    path = tmp_path / "text.png"
    path.write_text("not an image")
    with pytest.raises(ImageError, match=r"text\.png: expected JPEG or PNG"):
        read_image(path)
    with pytest.raises(ImageError, match=r"missing\.png: cannot be read: No such file"):
        read_image(tmp_path / "missing.png")


@given(
    encoding=st.sampled_from(["mono8", "rgb8", "bgr8"]),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    seed=st.integers(0, 2**32 - 1),
    strided=st.booleans(),
)
def test_filled_images_decode_to_the_same_pixels(
    encoding: str, height: int, width: int, seed: int, strided: bool
) -> None:
    shape = (height, width) if encoding == "mono8" else (height, width, 3)
    pixels: Pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    if strided:
        pixels = pixels[::-1, ::-1]
    msg = Message()
    fill_image(msg, pixels, encoding)
    assert isinstance(msg.data, array.array)
    assert (msg.height, msg.width, msg.encoding) == (height, width, encoding)
    expected = pixels if encoding != "mono8" else np.repeat(pixels[..., None], 3, axis=2)
    np.testing.assert_array_equal(decode_image(msg).pixels, expected)


def test_16_bit_labels_are_stored_in_this_machines_byte_order() -> None:
    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4) * 257
    msg = Message()
    fill_image(msg, pixels, "16UC1")
    assert (msg.step, msg.is_bigendian) == (8, int(sys.byteorder == "big"))
    np.testing.assert_array_equal(np.frombuffer(msg.data, np.uint16).reshape(3, 4), pixels)


@pytest.mark.parametrize(
    ("shape", "dtype", "encoding"),
    [
        ((4, 5), np.uint8, "rgb8"),
        ((4, 5, 4), np.uint8, "rgb8"),
        ((4, 5, 3), np.uint8, "mono8"),
        ((4, 5), np.uint16, "mono8"),
        ((4, 5), np.uint8, "16UC1"),
        ((4, 5), np.uint8, "mono16"),
        ((20,), np.uint8, "mono8"),
    ],
)
def test_pixels_that_do_not_fit_the_encoding_are_refused(shape: tuple[int, ...], dtype: type, encoding: str) -> None:
    with pytest.raises(ImageError, match=encoding):
        fill_image(Message(), np.zeros(shape, dtype), encoding)


def test_ros_messages_are_filled_and_decoded() -> None:
    messages = pytest.importorskip("sensor_msgs.msg")
    msg = messages.Image()
    fill_image(msg, street(), "rgb8")
    frame = decode_image(msg)
    np.testing.assert_array_equal(frame.pixels, street())
    assert np.shares_memory(frame.pixels, np.frombuffer(msg.data, np.uint8))
    compressed = messages.CompressedImage(format="png", data=array.array("B", encoded(".png", street())))
    np.testing.assert_array_equal(decode_compressed(compressed).rgb(), street())
