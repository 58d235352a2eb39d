"""Frames on their way to the device, and what comes of them on its way back: one copy each."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from classaug_ros.fusion.gpu.fuse import Result
from classaug_ros.fusion.gpu.preprocess import Preprocess
from classaug_ros.imaging.encodings import Layout
from classaug_ros.models.card import ModelCard
from classaug_ros.pipeline.frame_path import RequestedOutputs

Shape: TypeAlias = tuple[int, int, Layout]
"""H, W and how the bytes of a frame lie."""

_ALIGNED = 256  # bytes; what kernels load and store at once begins at a multiple of it


class Download:
    """What is made of a batch of frames, in one block of memory, so that one copy brings it to the host.

    Attributes:
        result: on the device.
        host: the same on the host, by name, once the copy is done: N x ... arrays, overwritten by the next copy.
    """

    def __init__(
        self, count: int, size: tuple[int, int], ids: np.dtype[Any], wanted: RequestedOutputs, device: torch.device
    ):
        """Make room for ``count`` frames of (H, W), labels of type ``ids`` and what else is wanted."""
        image, shades = (count, *size), (count, *size, 3)
        parts: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
            "fault": ((count,), np.dtype(np.int32)),
            "label": (image, ids),
        }
        byte = np.dtype(np.uint8)
        asked = {"confidence": (wanted.confidence, image), "color": (wanted.color, shades)}
        asked["overlay"] = (wanted.overlay, shades)
        parts.update({name: (shape, byte) for name, (here, shape) in asked.items() if here})
        ends = np.cumsum([-(-prod(shape) * kind.itemsize // _ALIGNED) * _ALIGNED for shape, kind in parts.values()])
        starts = [0, *ends[:-1].tolist()]
        self._device = torch.empty(int(ends[-1]), dtype=torch.uint8, device=device)
        self._host = torch.empty(int(ends[-1]), dtype=torch.uint8, pin_memory=device.type == "cuda")
        views = dict.fromkeys(asked) | {
            name: _view(self._device, start, *part) for (name, part), start in zip(parts.items(), starts, strict=True)
        }
        self.result = Result(**views)
        block = self._host.numpy()
        self.host: dict[str, NDArray[Any]] = {
            name: block[start : start + prod(shape) * kind.itemsize].view(kind).reshape(shape)
            for (name, (shape, kind)), start in zip(parts.items(), starts, strict=True)
        }

    def copy(self) -> None:
        """Copy all to the host, on the current stream."""
        self._host.copy_(self._device, non_blocking=True)


class Upload:
    """Frames of one shape on their way to the device.

    Attributes:
        shape: of the frames.
        frames: N x bytes uint8 on the device, rows without padding.
        step: bytes of a row.
    """

    def __init__(self, shape: Shape, cards: Sequence[ModelCard], images: Sequence[torch.Tensor]) -> None:
        """Make room for frames of a shape, as many as the models' inputs ``images`` take."""
        height, width, layout = shape
        count, device = images[0].shape[0], images[0].device
        self.shape = shape
        self.step = width * layout.stride
        self.frames = torch.empty((count, height * self.step), dtype=torch.uint8, device=device)
        # Grey where a batch was never full: as good an image as any.
        self._host = torch.full_like(self.frames, 127, device="cpu", pin_memory=device.type == "cuda")
        self._rows = self._host.numpy().reshape(count, height, self.step)
        self._preprocess = Preprocess([card.input for card in cards], (height, width), layout, images)

    def stage(self, frames: Sequence[NDArray[np.uint8]]) -> None:
        """Take the rows of frames, H x bytes of a row uint8, N at most; those before must have been uploaded."""
        for rows, frame in zip(self._rows, frames):  # noqa: B905 (a batch need not be full)
            np.copyto(rows, frame)

    def run(self) -> None:
        """Upload what was staged and make it the models' inputs, on the current stream."""
        self.frames.copy_(self._host, non_blocking=True)
        self._preprocess(self.frames, self.step)


def _view(block: torch.Tensor, start: int, shape: tuple[int, ...], kind: np.dtype[Any]) -> torch.Tensor:
    part = block[start : start + prod(shape) * kind.itemsize]
    return part.view(getattr(torch, kind.name)).view(shape)
