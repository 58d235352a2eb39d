"""Scores that follow the image's edges, on a GPU: ``reference.guided``, bit for bit.

Samples are at most 4 pixels apart, 270 x 480 of them at 1920x1080: half a megabyte a class, which stays in the L2 cache
of a large GPU from one kernel to the next. Each of the four kernels reads and writes a few such planes for each class.
"""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import numpy as np
import torch
import triton
from numpy.typing import NDArray

from classaug_ros.fusion.geometry import nearest_pixels
from classaug_ros.fusion.gpu.guided_argmax import WORD, Bent
from classaug_ros.fusion.gpu.guided_filter import bend, compare, smooth, spread
from classaug_ros.fusion.gpu.painting import check_frames
from classaug_ros.fusion.gpu.sampling_grid import EVERY, TILE, WARPS, Samples
from classaug_ros.fusion.scores import Scores, grid_positions, guide_grid
from classaug_ros.imaging.encodings import Layout
from classaug_ros.models.card import Upsampling

BENT = (4, 128)
"""Classes and samples of one program of ``bend`` and ``smooth``: four classes share what they need of the image."""

COMPARED = (8, 32)
"""Classes at a time, and samples of one program of ``compare``; 32 are a multiple of the classes."""


class Contours:
    """Bends scores along the edges of images, four launches a batch.

    All memory is taken beforehand and a call only launches, so that a CUDA graph can hold it. On CUDA the launches go
    to the current stream of the current device, which has to be the one given here.
    """

    def __init__(
        self,
        classes: int,
        shape: tuple[int, int],
        convention: Upsampling,
        size: tuple[int, int],
        layout: Layout,
        device: torch.device,
        batch: int = 1,
    ) -> None:
        """Take the memory: four float32 a class and sample of the guide's grid, and a few more a sample.

        Args:
            classes: K, how many there are.
            shape: (h, w) of the scores.
            convention: where their samples lie among pixels.
            size: (H, W) of the frames in pixels.
            layout: how their bytes lie.
            device: where everything is.
            batch: N, how many frames there are.
        """
        own = Scores(np.broadcast_to(np.float32(0), (1, *shape)), convention)
        grid = guide_grid(own, size)
        height, width = grid.values.shape[1:]
        rows, columns = grid_positions(own, grid, size)
        cells = [nearest_pixels(*axis, grid.convention) for axis in zip(size, (height, width), strict=True)]
        self._down, self._across = (int((after - first).max()) for first, after in cells)
        self._cells = _put([each for axis in cells for each in axis], np.int32, device)
        before = _put([rows[0], columns[0]], np.int32, device)
        weights = _put([rows[1], columns[1]], np.float32, device)
        self._scores = Samples(classes, shape, before, weights, (EVERY, 1, 1, 0))
        self._samples = Samples.of_scores(classes, (height, width), grid.convention, size, device)
        self._size, self._layout, self._batch = size, layout, batch
        self._spread = grid is not own

        def take(*planes: int) -> torch.Tensor:
            return torch.empty((batch, *planes, height, width), dtype=torch.float32, device=device)

        self._guide = take()
        self._black, self._white, self._offsets, self._slopes = (take(classes) for _ in range(4))
        words = triton.cdiv(classes, WORD.value)
        self._contenders = torch.empty((batch, words, height, width), dtype=torch.int32, device=device)
        self._greatest = torch.empty((batch, classes), dtype=torch.int32, device=device)

    def __call__(self, scores: torch.Tensor, frames: torch.Tensor, step: int) -> Bent:
        """Return scores that follow the frames' edges, in memory that the next call overwrites.

        Args:
            scores: N x K x h x w float32, contiguous.
            frames: N x bytes uint8, contiguous.
            step: bytes from a row to the next.

        Raises:
            ValueError: one of them does not fit the others.
        """
        check_frames(frames, step, self._batch, self._size, self._layout)
        source = self._scores.source(scores, self._batch, 0)
        self._greatest.zero_()
        height, width = self._samples.shape
        jobs = 2 + self._spread * source.classes
        values = self._black if self._spread else scores  # read before black is written
        spread[triton.cdiv(width, TILE[1]), triton.cdiv(height, TILE[0]), self._batch * jobs](
            source,
            self._greatest,
            frames,
            frames.shape[1],
            step,
            self._cells,
            self._down,
            self._guide,
            values,
            height,
            width,
            SPREAD=self._spread,
            LAYOUT=astuple(self._layout),
            ACROSS=self._across,
            num_warps=WARPS,
            enable_fp_fusion=False,
        )
        grid = triton.cdiv(height * width, BENT[1]), triton.cdiv(source.classes, BENT[0]), self._batch
        shape = source.classes, height, width
        block = {"CLASSES": BENT[0], "SAMPLES": BENT[1]}
        how: dict[str, Any] = {"num_warps": 4, "enable_fp_fusion": False}
        lines, ends = (self._offsets, self._slopes), (self._black, self._white)
        bend[grid](values, self._guide, self._greatest, *lines, *shape, **block, **how)
        smooth[grid](*lines, self._greatest, *ends, *shape, **block, **how)
        block = {"CLASSES": COMPARED[0], "SAMPLES": COMPARED[1]}
        compare[triton.cdiv(height * width, COMPARED[1]), self._batch](
            *ends, self._greatest, self._contenders, *shape, **block, **how
        )
        return Bent(self._samples.source(self._black, self._batch, 0), self._white, self._contenders)


def _put(parts: list[NDArray[Any]], dtype: Any, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(dtype)).to(device)
