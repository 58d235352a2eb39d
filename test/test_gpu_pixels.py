"""Pixels read from raw bytes by a kernel, as OpenCV reads them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")
import triton.language as tl  # noqa: E402

from classaug_ros.fusion import reference  # noqa: E402
from classaug_ros.fusion.gpu.pixels import Layout, load_rgb  # noqa: E402
from classaug_ros.imaging.encodings import ENCODINGS, Encoding  # noqa: E402
from classaug_ros.imaging.images import Frame  # noqa: E402

READ = {name: encoding for name, encoding in ENCODINGS.items() if encoding.layout is not None}
POISON = 77


@triton.jit  # type: ignore[untyped-decorator]
def read(  # type: ignore[no-untyped-def]
    base,
    offset,
    step,
    row,
    height,
    width,
    colors,
    STRIDE: tl.constexpr,
    RED: tl.constexpr,
    GREEN: tl.constexpr,
    BLUE: tl.constexpr,
    LUMA: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Write the colours of a tile of pixels, H x W x 3, whose first row lies ``offset`` bytes behind ``base``."""
    y = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    x = tl.arange(0, COLUMNS)[None, :]
    inside = (y < height) & (x < width)
    red, green, blue = load_rgb(base - offset, row + y, x, step, inside, STRIDE, RED, GREEN, BLUE, LUMA)
    pixel = colors + (y * width + x) * 3
    tl.store(pixel, red, inside)
    tl.store(pixel + 1, green, inside)
    tl.store(pixel + 2, blue, inside)


def read_by_kernel(data: NDArray[np.uint8], size: tuple[int, int], step: int, layout: Layout, row: int = 0) -> Any:
    """Return the colours of an image, H x W x 3 int32, taken for one that begins ``row`` rows before its data."""
    rows, columns = min(triton.next_power_of_2(size[0]), 2048), triton.next_power_of_2(size[1])
    out = torch.full((*size, 3), POISON, dtype=torch.int32)
    layouts = (layout.stride, layout.red, layout.green, layout.blue, layout.luma)
    grid = (triton.cdiv(size[0], rows),)
    read[grid](torch.from_numpy(data), row * step, step, row, *size, out, *layouts, rows, columns)
    return out.numpy()


def images(encoding: Encoding) -> Iterator[tuple[NDArray[np.uint8], tuple[int, int], int, NDArray[np.uint8]]]:
    """Images of several sizes and steps, as bytes with their size and step, and as samples."""
    random = np.random.default_rng(encoding.channels)
    for height, width, padding in ((1, 2, 0), (15, 34, 0), (15, 34, 5), (33, 14, 1), (3, 1 + encoding.pairs, 2)):
        row = width * encoding.channels
        data = random.integers(0, 256, height * (row + padding), np.uint8)
        samples = data.reshape(height, -1)[:, :row].reshape(height, width, encoding.channels)
        yield data, (height, width), row + padding, samples


@pytest.mark.parametrize("encoding", READ.values(), ids=READ)
def test_kernel_and_reference_read_what_opencv_does(encoding: Encoding) -> None:
    assert encoding.layout is not None
    for data, size, step, samples in images(encoding):
        expected = Frame.encoded(samples, encoding).rgb()
        np.testing.assert_array_equal(read_by_kernel(data, size, step, encoding.layout), expected)
        np.testing.assert_array_equal(reference.colors(samples.reshape(size[0], -1), encoding.layout), expected)


@pytest.mark.parametrize("name", ["uyvy", "yuyv"])
def test_every_yuv_colour_is_converted_as_opencv_does(name: str) -> None:
    encoding = READ[name]
    assert encoding.layout is not None
    luma = encoding.layout.luma
    colors = np.empty((256, 256, 256, 2), np.uint8)  # U, V, Y; all three in each pair of pixels
    levels = np.arange(256, dtype=np.uint8)
    colors[..., luma] = levels
    colors[:, :, ::2, 1 - luma] = levels[:, np.newaxis, np.newaxis]
    colors[:, :, 1::2, 1 - luma] = levels[:, np.newaxis]
    samples = colors.reshape(256 * 256, 256, 2)
    expected = Frame.encoded(samples, encoding).rgb()
    assert len(np.unique(expected.reshape(-1, 3) @ (1 << 16, 1 << 8, 1))) > 2_000_000
    np.testing.assert_array_equal(reference.colors(samples.reshape(len(samples), -1), encoding.layout), expected)
    some = samples[::17].copy()  # interpreted, all would take a minute
    np.testing.assert_array_equal(read_by_kernel(some.ravel(), (len(some), 256), 512, encoding.layout), expected[::17])


@pytest.mark.parametrize("encoding", ["rgb8", "uyvy"])
def test_rows_that_lie_gigabytes_behind_the_first_are_read(encoding: str) -> None:
    layout = READ[encoding].layout
    assert layout is not None
    random = np.random.default_rng(4)
    data = random.integers(0, 256, (5, 400), np.uint8)
    near = read_by_kernel(data.ravel(), (5, 60), 400, layout)
    np.testing.assert_array_equal(read_by_kernel(data.ravel(), (5, 60), 400, layout, row=2**24), near)
