"""JPEG and PNG: every kind that is read, and those made to break, hang or exhaust whoever decodes them."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from classaug_ros.errors import ImageError
from classaug_ros.imaging.codecs import MAX_SCANS, decode_file, decode_label

Pixels = NDArray[np.uint8]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
KINDS = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4), (3, 8)]
KINDS += [(4, 8), (4, 16), (6, 8), (6, 16)]  # colour type, depth
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PASSES = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
QUICK = 1.0  # s of computing; without bounds each of the files below takes many times that


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def header(height: int, width: int, depth: int = 8, color: int = 2, interlaced: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced))


def rows(samples: NDArray[np.uint16], depth: int) -> bytes:
    """The rows of H x W x C samples of 1 to 16 bits, none filtered."""
    if not samples.size:
        return b""
    bits = (samples.reshape(len(samples), -1, 1) >> np.arange(depth)[::-1]) & 1
    packed = np.packbits(bits.reshape(len(samples), -1).astype(np.uint8), axis=1)
    return np.pad(packed, ((0, 0), (1, 0))).tobytes()


def noise(random: np.random.Generator, color: int, depth: int, size: tuple[int, int]) -> NDArray[np.uint16]:
    return random.integers(0, 2**depth, (*size, SAMPLES[color])).astype(np.uint16)


def png(color: int, depth: int, interlaced: bool, size: tuple[int, int] = (9, 13)) -> bytes:
    """A PNG of noise with a gamma and a text, and a palette and a transparency where its kind may have them."""
    height, width = size
    random = np.random.default_rng(depth)
    samples = noise(random, color, depth, size)
    parts = [samples[y::dy, x::dx] for y, x, dy, dx in PASSES] if interlaced else [samples]
    extras = [chunk(b"gAMA", struct.pack(">I", 22222)), chunk(b"tEXt", b"Title\0street")]
    if color == 3:
        extras.append(chunk(b"PLTE", random.integers(0, 256, 3 << depth, np.uint8).tobytes()))
    transparent = {0: b"\0\1", 2: b"\0\1\0\1\0\1", 3: b"\0\x80"}
    extras += [chunk(b"tRNS", transparent[color])] if color in transparent else []
    return b"".join(
        [
            SIGNATURE,
            header(height, width, depth, color, int(interlaced)),
            *extras,
            chunk(b"IDAT", zlib.compress(b"".join(rows(part, depth) for part in parts))),
            chunk(b"IEND", b""),
        ]
    )


def flat(data: bytes) -> Pixels:
    return np.frombuffer(data, np.uint8)


def street(height: int = 64, width: int = 96) -> Pixels:
    y, x = np.mgrid[0:height, 0:width]
    channels = [200 - y * 100 / height, 60 + x * 100 / width, 40 + (x + y) * 60 / (height + width)]
    pixels: Pixels = np.stack(channels, axis=2).round().astype(np.uint8)
    return pixels


def encoded(suffix: str, pixels: Pixels, *parameters: int) -> bytes:
    return cv2.imencode(suffix, pixels, parameters)[1].tobytes()


@contextmanager
def quick() -> Iterator[None]:
    """Bound the work within: the time this thread computes, not what it waits while others do."""
    start = time.thread_time()
    try:
        yield
    finally:
        assert time.thread_time() - start < QUICK


def refusal(data: bytes) -> str:
    """What is said of data that is refused, which takes no time."""
    with pytest.raises(ImageError) as error, quick():
        decode_file(flat(data))
    return str(error.value)


def expanded(gigabytes: float) -> bytes:
    """Zeros, compressed to a thousandth; the same megabyte over and over, so that it is made at once."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    megabyte = deflate.compress(bytes(2**20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    return b"\x78\xda" + megabyte * int(gigabytes * 1024) + b"\x03\x00\x00\x00\x00\x01"


@pytest.mark.parametrize("interlaced", [False, True], ids=["plain", "interlaced"])
@pytest.mark.parametrize(("color", "depth"), KINDS)
def test_every_kind_of_png_has_the_pixels_it_holds(color: int, depth: int, interlaced: bool) -> None:
    data = png(color, depth, interlaced)
    expected = cv2.imdecode(flat(data), cv2.IMREAD_COLOR)
    assert expected is not None
    np.testing.assert_array_equal(decode_file(flat(data)), expected)
    if color == 0 and depth == 16:
        unchanged = decode_file(flat(data), cv2.IMREAD_UNCHANGED)
        assert unchanged.dtype == np.uint16
        np.testing.assert_array_equal(unchanged >> 8, expected[:, :, 0])


@pytest.mark.parametrize("interlaced", [False, True], ids=["plain", "interlaced"])
@pytest.mark.parametrize(("color", "depth"), [kind for kind in KINDS if kind[0] in (0, 3)])
def test_a_label_has_the_samples_of_its_file(color: int, depth: int, interlaced: bool) -> None:
    samples = decode_label(flat(png(color, depth, interlaced)))
    assert samples.dtype == (np.uint16 if depth == 16 else np.uint8)
    np.testing.assert_array_equal(samples, noise(np.random.default_rng(depth), color, depth, (9, 13))[..., 0])


def test_a_label_that_is_a_jpeg_is_refused() -> None:
    with pytest.raises(ImageError, match=r"expected PNG, found .* ff d8 .*\(a JPEG changes labels\)"):
        decode_label(flat(encoded(".jpg", street()[..., 0])))


def test_a_png_larger_than_a_chunk_that_opencv_takes() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (1500, 2000, 3), np.uint8)
    np.testing.assert_array_equal(decode_file(flat(encoded(".png", pixels))), pixels)


@pytest.mark.parametrize("color", [2, 3])
def test_a_png_cut_at_any_length_is_refused(color: int) -> None:
    data = png(color, 8, interlaced=False)
    for length in range(len(data)):
        assert "PNG" in refusal(data[:length])


@pytest.mark.parametrize("kind", ["baseline", "progressive", "with restarts", "grey"])
def test_a_jpeg_cut_at_any_length_is_refused(kind: str) -> None:
    options = {"progressive": (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), "with restarts": (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)}
    data = encoded(".jpg", street()[..., 0] if kind == "grey" else street(), *options.get(kind, ()))
    assert decode_file(flat(data)).shape == (64, 96, 3)
    for length in range(len(data) - 1):
        assert "JPEG" in refusal(data[:length])


@pytest.mark.parametrize("missing", [0.1, 0.5, 0.9], ids=lambda share: f"{share:.0%}")
def test_a_jpeg_that_lost_data_before_its_end_is_refused(missing: float) -> None:
    noise = np.random.default_rng(0).integers(0, 60, (64, 96, 3), np.uint8)
    data = encoded(".jpg", street() + noise)
    start = data.index(b"\xff\xda") + 14
    kept = start + int((len(data) - 2 - start) * (1 - missing))
    cut = data[:kept] + data[-2:]
    assert cv2.imdecode(flat(cut), cv2.IMREAD_COLOR) is not None, "OpenCV fills up with grey"
    assert refusal(cut) == f"a broken or cut-off JPEG ({len(cut)} bytes)"


@pytest.mark.parametrize("progressive", [0, 1], ids=["baseline", "progressive"])
def test_a_jpeg_that_ends_in_grey_is_read(progressive: int) -> None:
    pixels = street()
    pixels[32:] = 128
    data = encoded(".jpg", pixels, cv2.IMWRITE_JPEG_QUALITY, 100, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    decoded = decode_file(flat(data))
    assert (decoded[-1, -1] == 128).all(), "what a JPEG is filled up with"
    np.testing.assert_array_equal(decoded, cv2.imdecode(flat(data), cv2.IMREAD_COLOR))


@pytest.mark.parametrize(
    "start",
    [
        b"II*\0",
        b"MM\0*",
        b"BM",
        b"RIFF\x24\0\0\0WEBPVP8 ",
        b"GIF89a",
        b"P6\n4 4\n255\n",
        b"\0\0\0\x0cjP  ",
        b"#?RADIANCE",
    ],
    ids=["tiff", "big-endian tiff", "bmp", "webp", "gif", "ppm", "jpeg 2000", "hdr"],
)
def test_other_formats_are_refused(start: bytes) -> None:
    assert refusal(start + bytes(100)).startswith("expected JPEG or PNG, found")


@pytest.mark.parametrize("suffix", [".bmp", ".tiff", ".webp", ".ppm"])
def test_images_that_opencv_reads_but_nobody_means_are_refused(suffix: str) -> None:
    data = encoded(suffix, street())
    assert cv2.imdecode(flat(data), cv2.IMREAD_COLOR) is not None
    assert refusal(data).startswith(f"expected JPEG or PNG, found {len(data)} bytes starting with")


@pytest.mark.parametrize("kind", [3, 5, 6, 7, 9, 10, 11, 13, 14, 15])
def test_rare_kinds_of_jpeg_are_refused(kind: int) -> None:
    """Lossless, hierarchical and arithmetic ones: whether a decoder reads them depends on how it was built."""
    data = encoded(".jpg", street()).replace(b"\xff\xc0", bytes([0xFF, 0xC0 + kind]), 1)
    assert refusal(data) == f"a JPEG of kind SOF{kind} and 8 bits: expected baseline or progressive, of 8 bits"


def test_a_jpeg_of_12_bits_is_refused() -> None:
    data = encoded(".jpg", street()).replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc1\x00\x11\x0c", 1)
    assert refusal(data) == "a JPEG of kind SOF1 and 12 bits: expected baseline or progressive, of 8 bits"


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def after_start(*segments: bytes) -> bytes:
    whole = encoded(".jpg", street())
    return b"".join([whole[:2], *segments, whole[2:]])


def test_a_jpeg_of_four_colours_is_read() -> None:
    """CMYK, as printers like it: every block the same, each of one bit for its level and one for nothing more."""
    tables = segment(0xC4, b"\x00\x01" + bytes(15) + b"\x00") + segment(0xC4, b"\x10\x01" + bytes(15) + b"\x00")
    components = b"".join(bytes([number, 0x11, 0]) for number in (1, 2, 3, 4))
    frame = segment(0xC0, struct.pack(">BHHB", 8, 16, 24, 4) + components)
    scan = segment(0xDA, b"\x04" + b"".join(bytes([number, 0]) for number in (1, 2, 3, 4)) + b"\x00\x3f\x00")
    data = b"\xff\xd8" + segment(0xDB, b"\0" + b"\1" * 64) + frame + tables + scan + bytes(6) + b"\xff\xd9"
    assert decode_file(flat(data)).shape == (16, 24, 3)


def progressive(scans: int, side: int = 512) -> bytes:
    """A grey JPEG whose scans, but for the first, are a run of blocks with nothing in them: a few bytes each."""
    runs = segment(0xC4, b"\x00\x01" + bytes(15) + b"\x00") + segment(0xC4, b"\x10\x01" + bytes(15) + b"\xe0")
    frame = segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\x01\x11\x00")
    levels = segment(0xDA, b"\x01\x01\x00\x00\x00\x00") + bytes((side // 8) ** 2 // 8)
    nothing = segment(0xDA, b"\x01\x01\x00\x01\x01\x00") + b"\x00\x01"
    parts = [b"\xff\xd8", segment(0xDB, b"\0" + b"\1" * 64), frame, runs, levels, nothing * (scans - 1), b"\xff\xd9"]
    return b"".join(parts)


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded() -> None:
    assert decode_file(flat(progressive(MAX_SCANS))).shape == (512, 512, 3)
    scans = 100_000  # a minute
    assert refusal(progressive(scans)) == f"a JPEG of {scans} scans: expected at most {MAX_SCANS}"


def test_a_jpeg_of_more_blocks_than_bits_is_refused() -> None:
    few = progressive(1, 8192)
    small = few[: len(few) // 8] + few[-2:]
    assert refusal(small) == f"a broken or cut-off JPEG ({len(small)} bytes)"


BEFORE = {
    "fill bytes": lambda: b"\xff" * 30_000_000,
    "EXIF of 26 MB": lambda: segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + b"\xff" * 65519) * 400,
}


@pytest.mark.parametrize("kind", BEFORE)
def test_a_jpeg_with_megabytes_before_its_image_takes_no_time(kind: str) -> None:
    data = after_start(BEFORE[kind]())
    with quick():
        assert decode_file(flat(data)).shape == (64, 96, 3)


def test_a_file_of_endless_parts_is_refused() -> None:
    comments, texts = segment(0xFE, b"") * 5_000_000, chunk(b"tEXt", b"") * 5_000_000
    assert "broken or cut-off JPEG" in refusal(after_start(comments))
    assert "broken or cut-off PNG" in refusal(SIGNATURE + header(9, 13) + texts)


@pytest.mark.parametrize("order", [[0], range(8)], ids=["one", "in turn"])
def test_a_jpeg_s_restart_markers_take_no_time(order: Iterable[int]) -> None:
    more = b"".join(bytes([0xFF, 0xD0 + number]) for number in order) * 20_000  # to look at all for each: minutes
    data = encoded(".jpg", street())
    with quick():
        assert len(said_of(data[:-2] + more + data[-2:])) < 99


def test_a_jpeg_s_tables_may_hold_what_looks_like_a_mark() -> None:
    """Quantisation by 255 and 208, say: FF D0 in a table behind the frame header."""
    data = encoded(".jpg", street())
    scan = data.index(b"\xff\xda")
    steps = bytes([1, *[255, 0xD0 + 3, 255, 0xD9, 255, 0xDA] * 10, 1, 1, 1])
    behind = data[:scan] + segment(0xDB, b"\3" + steps) + segment(0xFE, encoded(".jpg", street(8, 8))) + data[scan:]
    np.testing.assert_array_equal(decode_file(flat(behind)), decode_file(flat(data)))


@pytest.mark.parametrize("kind", ["colour", "grey"])
def test_a_jpeg_that_ends_in_a_pixel_of_grey_is_decoded_once(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Decoded with more data than it has, libjpeg writes a line of its own."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (64, 96, 3), np.uint8)
    pixels[-8:, -8:] = np.add.outer(np.arange(8) * 9, np.arange(8) * 9 + 2)[..., None]
    data = encoded(".jpg", pixels[..., 0] if kind == "grey" else pixels, cv2.IMWRITE_JPEG_QUALITY, 100)
    assert (np.asarray(cv2.imdecode(flat(data), cv2.IMREAD_COLOR))[-1, -1] == 128).all()
    decode_file(flat(data))
    assert capfd.readouterr().err == ""


def test_a_jpeg_that_lost_a_stretch_between_restarts_is_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 60, (64, 96, 3), np.uint8)
    data = encoded(".jpg", street() + noise, cv2.IMWRITE_JPEG_RST_INTERVAL, 2)
    second, third = data.index(b"\xff\xd1"), data.index(b"\xff\xd2")
    lost = data[:second] + data[third:]
    assert cv2.imdecode(flat(lost), cv2.IMREAD_COLOR) is not None, "OpenCV fills up with grey"
    assert refusal(lost) == f"a broken or cut-off JPEG ({len(lost)} bytes)"


def test_a_png_whose_rows_expand_past_its_size_is_refused() -> None:
    data = SIGNATURE + header(9, 13) + chunk(b"IDAT", expanded(4)) + chunk(b"IEND", b"")
    assert refusal(data) == "a PNG with more than the 360 bytes of its rows"


def test_a_png_whose_texts_expand_takes_no_time() -> None:
    text = chunk(b"zTXt", b"Title\0\0" + zlib.compress(bytes(7 * 2**20), 9))
    data = SIGNATURE + header(1, 1) + text * 300 + chunk(b"IDAT", zlib.compress(bytes(4))) + chunk(b"IEND", b"")
    with quick():
        assert decode_file(flat(data)).shape == (1, 1, 3)


def test_a_png_of_too_many_bytes_a_pixel_is_refused() -> None:
    data = SIGNATURE + header(8192, 8192, 16, 6) + chunk(b"IDAT", expanded(0.5)) + chunk(b"IEND", b"")
    assert refusal(data) == "a PNG whose rows are 536879104 bytes: expected at most 268435456"


@pytest.mark.parametrize(("depth", "color", "interlaced"), [(3, 2, 0), (8, 1, 0), (8, 2, 7), (255, 255, 255)])
def test_a_png_of_no_known_kind_is_refused(depth: int, color: int, interlaced: int) -> None:
    data = SIGNATURE + header(9, 13, depth, color, interlaced) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    assert f"colour type {color}, depth {depth}, interlacing {interlaced}: there is no such kind" in refusal(data)


def test_a_png_with_any_byte_of_its_pixels_changed_is_refused() -> None:
    data = png(2, 8, interlaced=False)
    pixels = data.index(b"IDAT")
    for position in range(pixels - 4, len(data)):
        broken = bytearray(data)
        broken[position] ^= 0x40
        assert "broken or cut-off PNG" in refusal(bytes(broken))


def animation(height: int, width: int) -> bytes:
    """An image of 10 x 10 pixels, the first frame of whose animation is said to be of another size."""
    control = struct.pack(">IIIIIHHBB", 0, width, height, 0, 0, 1, 10, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(310)))
    parts: Iterable[bytes] = (chunk(b"acTL", struct.pack(">II", 2, 0)), chunk(b"fcTL", control), pixels)
    return b"".join([SIGNATURE, header(10, 10), *parts, chunk(b"IEND", b"")])


def test_an_animated_png_cannot_end_the_process(tmp_path: Path) -> None:
    """OpenCV 4.11 writes a frame larger than the image past the end of its memory: 128 bytes end the process."""
    (file := tmp_path / "animation.png").write_bytes(animation(60000, 60000))
    program = (
        "import sys, numpy as np; from classaug_ros.imaging.codecs import decode_file; "
        "print(decode_file(np.fromfile(sys.argv[1], np.uint8)).shape)"
    )
    ran = subprocess.run([sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "(10, 10, 3)\n")


@given(
    start=st.sampled_from(
        [animation(12, 9), png(3, 4, interlaced=True), encoded(".jpg", street(16, 24)), progressive(3, 64)]
    ),
    changes=st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 40),
    repair=st.booleans(),
)
def test_any_change_of_a_file_decodes_or_is_refused(
    start: bytes, changes: list[tuple[int, int]], cut: int, repair: bool
) -> None:
    """Checksums are put right, so that what they guard is seen too."""
    data = bytearray(start)
    for position, value in changes:
        data[position % len(data)] = value
    if repair and data.startswith(SIGNATURE):
        data = bytearray(_with_checksums(bytes(data)))
    said = said_of(bytes(data[: len(data) - cut]))
    assert len(said) < 500
    assert said.isprintable()


def said_of(data: bytes) -> str:
    """Decode to an image, or return why it is refused."""
    try:
        pixels = decode_file(flat(data))
    except ImageError as error:
        return str(error)
    assert pixels.ndim == 3
    assert pixels.dtype == np.uint8
    return ""


def _with_checksums(data: bytes) -> bytes:
    position, parts = len(SIGNATURE), [SIGNATURE]
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        parts.append(chunk(data[position + 4 : position + 8], data[position + 8 : position + 8 + length]))
        position += 12 + length
    return b"".join(parts)
