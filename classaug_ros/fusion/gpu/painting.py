"""Results at full resolution on a GPU, and how they are painted; equal to ``reference.paint``."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray

from classaug_ros.fusion.gpu.pixels import load_rgb
from classaug_ros.fusion.gpu.sampling_grid import COLUMNS, REGISTERS, ROWS, TILE, WARPS
from classaug_ros.imaging.encodings import Layout


@dataclass(frozen=True, eq=False)
class Result:
    """What is wanted for N frames, on the device; what is None is not, and costs nothing.

    Attributes:
        label: N x H x W ids, uint8 or uint16.
        confidence: N x H x W uint8, 0..255 for 0..1.
        color: N x H x W x 3 uint8 RGB, the classes' colours.
        overlay: N x H x W x 3 uint8 RGB, the frames blended with them.
        fault: N int32, zeroed by the caller beforehand; bit 1 << k is set where of model k (the main model is 0) a
            label is none of its classes, or a score that pixels depend on is NaN or infinite. The frame then has no
            meaning.
    """

    label: torch.Tensor
    confidence: torch.Tensor | None
    color: torch.Tensor | None
    overlay: torch.Tensor | None
    fault: torch.Tensor


class View(NamedTuple):
    """Frames and the way to paint on them, as kernels take them.

    Attributes:
        frames: N x length uint8.
        length: bytes of a frame.
        step: bytes from a row of it to the next.
        palette: see ``packed_palette``.
        weight: of the colour in the overlay, 0..256.
        color: N x height x width x 3 uint8, or None.
        overlay: the same.
    """

    frames: Any
    length: Any
    step: Any
    palette: Any
    weight: Any
    color: Any
    overlay: Any


@triton.jit
def paint_tile(ids, view, tile, inside, LAYOUT: tl.constexpr, WORDS: tl.constexpr):
    """Store colours and overlay of a tile.

    Args:
        ids: ROWS x COLUMNS int32 ids that the palette has.
        view: a ``View``.
        tile: see ``winners``.
        inside: which pixels of the tile are in the image.
        LAYOUT: of the frames.
        WORDS: see ``in_words``.
    """
    number, y, x, height, width = tile
    if view.color is not None or view.overlay is not None:
        shade = tl.load(view.palette + ids)
        start = number * height * width * 3
        if view.color is not None:
            _store(view.color + start, shade, inside, y, x, width, WORDS)
        if view.overlay is not None:
            ys = y + tl.arange(0, ROWS)[:, None]
            xs = x + tl.arange(0, COLUMNS)[None, :]
            image = view.frames + number * view.length
            red, green, blue = load_rgb(
                image, ys, xs, view.step, inside, LAYOUT[0], LAYOUT[1], LAYOUT[2], LAYOUT[3], LAYOUT[4]
            )
            mixed = _blend(red, shade & 255, view.weight)
            mixed |= _blend(green, (shade >> 8) & 255, view.weight) << 8
            mixed |= _blend(blue, shade >> 16, view.weight) << 16
            _store(view.overlay + start, mixed, inside, y, x, width, WORDS)


@triton.jit
def _blend(value, shade, weight):
    return (value * (256 - weight) + shade * weight + 128) >> 8


@triton.jit
def _store(picture, rgb, inside, y, x, width, WORDS: tl.constexpr):
    """Store colours of a byte each in the lower three of an int32.

    Byte by byte, three bytes apart, three stores would each touch every sector of 32 bytes, a third of its bytes. But
    four pixels are three words, and three words and one left out are four lanes: a warp then writes 96 bytes, whole
    sectors, with one store.
    """
    ys = (y + tl.arange(0, ROWS))[:, None]
    if WORDS:
        even, odd = tl.split(tl.reshape(rgb, (ROWS, COLUMNS // 4, 2, 2)))
        first, third = tl.split(even)
        second, fourth = tl.split(odd)
        one = first | (second << 24)
        two = (second >> 8) | (third << 16)
        three = (third >> 16) | (fourth << 8)
        words = tl.reshape(tl.join(tl.join(one, three), tl.join(two, three)), (ROWS, COLUMNS))
        lane = tl.arange(0, COLUMNS)[None, :]
        at = (ys * width + x) // 4 * 3 + (lane // 4 * 3 + lane % 4)
        tl.store(picture.to(tl.pointer_type(tl.int32), bitcast=True) + at, words, inside & (lane % 4 < 3))
    else:
        pixel = picture + (ys * width + x + tl.arange(0, COLUMNS)[None, :]) * 3
        tl.store(pixel, rgb.to(tl.uint8), inside)
        tl.store(pixel + 1, (rgb >> 8).to(tl.uint8), inside)
        tl.store(pixel + 2, (rgb >> 16).to(tl.uint8), inside)


@triton.jit
def tile_of(height, width):
    """Return which tile of which frame this program makes; see ``winners``."""
    return tl.program_id(2).to(tl.int64), tl.program_id(1) * ROWS, tl.program_id(0) * COLUMNS, height, width


@triton.jit
def pixels_of(tile):
    """Return which of the pixels of all frames a tile has, and which of them are inside the image."""
    number, y, x, height, width = tile
    ys = (y + tl.arange(0, ROWS))[:, None]
    xs = (x + tl.arange(0, COLUMNS))[None, :]
    return number * height * width + (ys * width + xs), (ys < height) & (xs < width)


@triton.jit
def paint_labels(
    label,
    view,
    height,
    width,
    LAYOUT: tl.constexpr,
    WORDS: tl.constexpr,
):
    """Paint a tile of labels; see ``Paint``."""
    tile = tile_of(height, width)
    pixel, inside = pixels_of(tile)
    ids = tl.load(label + pixel, inside, other=0).to(tl.int32)
    paint_tile(ids, view, tile, inside, LAYOUT, WORDS)


class Canvas:
    """What all launchers have: the size and layout of frames, colours, and how kernels are launched on them."""

    def __init__(
        self, palette: NDArray[np.uint8], size: tuple[int, int], layout: Layout, alpha: float, device: torch.device
    ) -> None:
        self._size, self._layout = size, layout
        self._palette = packed_palette(palette, device)
        self._weight = round(alpha * 256)

    def launch(
        self,
        kernel: Any,
        *arguments: Any,
        frames: torch.Tensor,
        step: int,
        result: Result,
        registers: int = REGISTERS,
        **how: Any,
    ) -> None:
        """Launch a kernel for all tiles of all frames, with what all kernels take beside their own arguments."""
        self._check(frames, step, result)
        height, width = self._size
        view = View(frames, frames.shape[1], step, self._palette, self._weight, result.color, result.overlay)
        kernel[triton.cdiv(width, TILE[1]), triton.cdiv(height, TILE[0]), len(result.label)](
            *arguments,
            view,
            height,
            width,
            **how,
            LAYOUT=astuple(self._layout),
            WORDS=in_words(result.color, result.overlay),
            num_warps=WARPS,
            num_stages=1,
            maxnreg=registers,
            enable_fp_fusion=False,  # a multiply-add rounds once: other ties than on the CPU
        )

    def _check(self, frames: torch.Tensor, step: int, result: Result) -> None:
        """Refuse what a kernel would read or write past the end of."""
        (height, width), batch = self._size, len(result.label)
        pixels = (batch, height, width)
        shapes = {"label": pixels, "confidence": pixels, "color": (*pixels, 3), "overlay": (*pixels, 3)}
        for name, shape in {**shapes, "fault": (batch,)}.items():
            tensor: torch.Tensor | None = getattr(result, name)
            if tensor is not None and (tuple(tensor.shape) != shape or not tensor.is_contiguous()):
                raise ValueError(f"{name} is {tuple(tensor.shape)}, expected {shape}, contiguous")
        if result.overlay is not None:
            check_frames(frames, step, batch, self._size, self._layout)


class Paint:
    """Paints labels that are there, say after those of several sub models are joined; see ``reference.paint``."""

    def __init__(
        self, palette: NDArray[np.uint8], size: tuple[int, int], layout: Layout, *, alpha: float, device: torch.device
    ) -> None:
        """Take the memory.

        Args:
            palette: 256 x 3 uint8 RGB, or 65536 x 3 where labels are uint16.
            size: (H, W) of the frames in pixels.
            layout: how their bytes lie.
            alpha: weight of the colours in the overlay, 0..1 in steps of 1/256.
            device: where everything is.
        """
        self._canvas = Canvas(palette, size, layout, alpha, device)

    def __call__(self, frames: torch.Tensor, step: int, result: Result) -> None:
        """Fill the pictures of ``result`` that are wanted, from its label.

        Args:
            frames: N x bytes uint8, contiguous.
            step: bytes from a row to the next.
            result: labels and pictures.

        Raises:
            ValueError: one of them does not fit the size.
        """
        self._canvas.launch(paint_labels, result.label, frames=frames, step=step, result=result)


def check_frames(frames: torch.Tensor, step: int, batch: int, size: tuple[int, int], layout: Layout) -> None:
    """Raise ValueError where so many frames of a size would be read past their end."""
    need = (size[0] - 1) * step + size[1] * layout.stride
    rows, length = frames.shape
    if rows != batch or length < need or not frames.is_contiguous():
        raise ValueError(f"frames are {rows} x {length} bytes, expected {batch} x {need} at least, contiguous")


def packed_palette(palette: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """Return colours as one int32 each, red in the lowest byte: one load a pixel in place of three."""
    red, green, blue = palette.astype(np.int32).T
    return torch.from_numpy(red | green << 8 | blue << 16).to(device)


def in_words(*pictures: torch.Tensor | None) -> bool:
    """Tell whether every row of these pictures, N x H x W x 3 uint8, is made of whole, aligned words of four bytes."""
    return all(each is None or (each.shape[2] % 4 == 0 and each.data_ptr() % 4 == 0) for each in pictures)
