"""The bytes of camera images to the inputs of all models, in one launch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch
import triton
import triton.language as tl

from classaug_ros.fusion.geometry import source_coordinates
from classaug_ros.fusion.gpu.pixels import load_rgb
from classaug_ros.imaging.encodings import Layout
from classaug_ros.models.card import InputSpec

TILE = (4, 64)
"""Rows and columns of a model's input that one program makes."""
WARPS = 4

_ENTRY = tl.constexpr(6)  # numbers a model, in each table


@triton.jit(do_not_specialize=["length", "step", "height", "width", "count"])  # compiled once for all of them
def prepare(
    frames,
    length,
    step,
    height,
    width,
    models,
    count,
    norms,
    before,
    weights,
    STRIDE: tl.constexpr,
    RED: tl.constexpr,
    GREEN: tl.constexpr,
    BLUE: tl.constexpr,
    LUMA: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Make a tile of a model's input of a frame; it equals ``reference.prepare`` bit for bit.

    Args:
        frames: N x length uint8.
        length: bytes of a frame.
        step: bytes from a row of it to the next.
        height: its rows of pixels.
        width: its columns.
        models: int64, six a model: height and width of its input, where its rows and columns begin in ``before`` and
            ``weights``, the address of its input, N x 3 x height x width float32, the channel that is red.
        count: how many they are.
        norms: float32, six a model: the mean of each channel, then the scales.
        before: int32: row or column of the frame before each row or column of an input.
        weights: float32: weight of the one after.
        STRIDE: the layout of the frames, as are the others up to LUMA.
        RED: see there.
        GREEN: see there.
        BLUE: see there.
        LUMA: see there.
        ROWS: of a tile.
        COLUMNS: of a tile.
    """
    model = tl.program_id(2) % count
    frame = (tl.program_id(2) // count).to(tl.int64)
    models += model * _ENTRY
    norms += model * _ENTRY
    h = tl.load(models).to(tl.int32)
    w = tl.load(models + 1).to(tl.int32)
    y = tl.program_id(1) * ROWS + tl.arange(0, ROWS)[:, None]
    x = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)[None, :]

    vertical = tl.load(models + 2) + y
    horizontal = tl.load(models + 3) + x
    above = tl.load(before + vertical, y < h, other=0)
    down = tl.load(weights + vertical, y < h, other=0)
    left = tl.load(before + horizontal, x < w, other=0)
    right = tl.load(weights + horizontal, x < w, other=0)
    below = tl.minimum(above + 1, height - 1)
    beside = tl.minimum(left + 1, width - 1)

    inside = (y < h) & (x < w)
    base = frames + frame * length
    red_a, green_a, blue_a = load_rgb(base, above, left, step, inside, STRIDE, RED, GREEN, BLUE, LUMA)
    red_b, green_b, blue_b = load_rgb(base, above, beside, step, inside, STRIDE, RED, GREEN, BLUE, LUMA)
    red_c, green_c, blue_c = load_rgb(base, below, left, step, inside, STRIDE, RED, GREEN, BLUE, LUMA)
    red_d, green_d, blue_d = load_rgb(base, below, beside, step, inside, STRIDE, RED, GREEN, BLUE, LUMA)

    plane = h * w
    image = tl.load(models + 4).to(tl.pointer_type(tl.float32)) + frame * 3 * plane + (y * w + x)
    first = tl.load(models + 5).to(tl.int32)
    _store(image, plane, norms, first, _between(red_a, red_b, red_c, red_d, right, down), inside)
    _store(image, plane, norms, 1, _between(green_a, green_b, green_c, green_d, right, down), inside)
    _store(image, plane, norms, 2 - first, _between(blue_a, blue_b, blue_c, blue_d, right, down), inside)


@triton.jit
def _between(a, b, c, d, right, down):
    """Interpolate four corners, first along the rows, then along the columns, as ``reference.interpolate`` does."""
    top = a.to(tl.float32) * (1.0 - right) + b.to(tl.float32) * right
    bottom = c.to(tl.float32) * (1.0 - right) + d.to(tl.float32) * right
    return top * (1.0 - down) + bottom * down


@triton.jit
def _store(image, plane, norms, channel, value, inside):
    """Normalise and store one channel."""
    mean = tl.load(norms + channel)
    scale = tl.load(norms + 3 + channel)
    tl.store(image + channel * plane, (value - mean) * scale, inside)


class Preprocess:
    """Turns N images of one size and layout into the inputs of all models: bilinear resize, (value - mean) * scale.

    All memory is taken beforehand and a call is one launch, which a CUDA graph can hold. It goes to the current stream
    of the current device, which has to be the inputs' own.
    """

    def __init__(
        self, specs: Sequence[InputSpec], size: tuple[int, int], layout: Layout, images: Sequence[torch.Tensor]
    ) -> None:
        """Take the memory.

        Args:
            specs: the models' inputs.
            size: (H, W) of the images in pixels.
            layout: how their bytes lie.
            images: where each model's input is made: N x 3 x height x width float32, contiguous. Their addresses are
                written down here, once: a launch that takes any number of models cannot be given them one by one.

        Raises:
            ValueError: the images are not such.
        """
        batch, device = images[0].shape[0], images[0].device
        for spec, image in zip(specs, images, strict=True):
            if image.shape != (batch, 3, spec.height, spec.width) or image.dtype != torch.float32:
                raise ValueError(f"{image.dtype} of shape {tuple(image.shape)} is no input of {spec}")
            if not image.is_contiguous() or image.device != device:
                raise ValueError(
                    f"an input on {image.device} with strides {image.stride()}, expected contiguous on {device}"
                )
        self._size, self._layout = size, layout
        self._images = tuple(images)
        axes = [axis for spec in specs for axis in zip((spec.height, spec.width), size, strict=True)]
        positions = [source_coordinates(out, pixels, "half_pixel") for out, pixels in axes]
        firsts = [0, *accumulate(out for out, _ in axes)]
        models = [
            (spec.height, spec.width, *firsts[2 * k : 2 * k + 2], image.data_ptr(), 0 if spec.color == "rgb" else 2)
            for k, (spec, image) in enumerate(zip(specs, images, strict=True))
        ]
        self._models = torch.tensor(models, dtype=torch.int64, device=device)
        self._norms = torch.tensor([(*s.mean, *s.scale) for s in specs], dtype=torch.float32, device=device)
        self._before = torch.from_numpy(np.concatenate([before for before, _ in positions]).astype(np.int32)).to(device)
        self._weights = torch.from_numpy(np.concatenate([weight for _, weight in positions])).to(device)
        self._grid = (
            triton.cdiv(max(spec.width for spec in specs), TILE[1]),
            triton.cdiv(max(spec.height for spec in specs), TILE[0]),
            len(specs) * batch,
        )

    def __call__(self, frames: torch.Tensor, step: int) -> None:
        """Make the models' inputs.

        Args:
            frames: N x bytes uint8, contiguous.
            step: bytes from a row to the next.

        Raises:
            ValueError: there are more or fewer frames than N, or less bytes than they need.
        """
        (height, width), layout = self._size, self._layout
        batch, length = frames.shape
        need = (height - 1) * step + width * layout.stride
        if batch != self._images[0].shape[0] or length < need:  # the kernel would read what lies behind them
            raise ValueError(f"frames {batch} x {length} bytes, expected {self._images[0].shape[0]} x {need} at least")
        prepare[self._grid](
            frames,
            length,
            step,
            height,
            width,
            self._models,
            len(self._images),
            self._norms,
            self._before,
            self._weights,
            STRIDE=layout.stride,
            RED=layout.red,
            GREEN=layout.green,
            BLUE=layout.blue,
            LUMA=layout.luma,
            ROWS=TILE[0],
            COLUMNS=TILE[1],
            num_warps=WARPS,
            enable_fp_fusion=False,
        )
