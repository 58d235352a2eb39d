"""The work of one frame on a device in its parts, each of which can be run and timed by itself."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from classaug_ros.engines.interface import DeviceEngine
from classaug_ros.fusion.gpu.preprocess import Preprocess
from classaug_ros.imaging.images import Frame
from classaug_ros.models.card import ModelCard
from classaug_ros.pipeline.frame_path import FusionConfig, RequestedOutputs
from classaug_ros.pipeline.gpu_decider import GpuDecider
from classaug_ros.pipeline.gpu_frame_slots import Slot, Streams
from classaug_ros.pipeline.gpu_options import GpuOptions
from classaug_ros.pipeline.gpu_transfers import Download


class Stages:
    """Upload, preprocessing, engines, fusion and download of one frame, in memory of their own.

    Everything is enqueued on the current stream, which is to be ``stream``.

    Attributes:
        stream: the one that carries the frame; None on torch's CPU.
        images: the models' inputs.
        outputs: what the models say of the frame; they stay as they are when the models run again.
        frames: the frame, 1 x bytes uint8.
        uploaded: bytes that go to the device.
        downloaded: bytes that come back.
    """

    def __init__(
        self,
        cards: Sequence[ModelCard],
        engines: Sequence[DeviceEngine],
        device: torch.device,
        frame: Frame,
        config: FusionConfig,
        wanted: RequestedOutputs,
    ) -> None:
        """Take the memory, and run all stages once."""
        self._cards, self._config, self._size = tuple(cards), config, frame.size
        self._layout, rows = frame.raw()
        slot = Slot(1, cards, engines, device, GpuOptions(graph=False))
        self.images, self._contexts, self._streams = slot.images, slot.contexts, slot.streams
        self.stream = self._streams.each[0]
        self._step = rows.shape[1]
        host = torch.from_numpy(np.ascontiguousarray(rows).reshape(1, -1).copy())
        self._host = host.pin_memory() if device.type == "cuda" else host
        self.uploaded = host.numel()
        with self._streams.entered():
            self.frames = torch.empty_like(host, device=device)
            self._preprocess = Preprocess([card.input for card in cards], frame.size, self._layout, self.images)
            self._download = Download(1, frame.size, config.rules.output.dtype, wanted, device)
            self._decide = self.decider(config)
            self.upload()
            self.preprocess()
            self.outputs = [context.enqueue(self.stream).clone() for context in self._contexts]
            self.fuse()
            self.download()
        self.downloaded = sum(array.nbytes for array in self._download.host.values())
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def entered(self) -> AbstractContextManager[Any]:
        """Make ``stream`` current."""
        return self._streams.entered()

    @property
    def host(self) -> dict[str, Any]:
        """What came back last, by name; see ``Download.host``."""
        return self._download.host

    def decider(self, config: FusionConfig) -> GpuDecider:
        """Return what decides by another configuration, whose output classes are those of the others."""
        how = self._size, self._layout, self._download.result
        return GpuDecider(self._cards, config.rules, config.decision, *how, alpha=config.alpha)

    def upload(self) -> None:
        """Copy the frame to the device."""
        self.frames.copy_(self._host, non_blocking=True)

    def preprocess(self) -> None:
        """Make the models' inputs."""
        self._preprocess(self.frames, self._step)

    def engine(self, number: int) -> None:
        """Run one model."""
        self._contexts[number].enqueue(self.stream)

    def engines(self, *, concurrent: bool) -> None:
        """Run all models: at once, or one after the other."""
        streams = self._streams if concurrent else Streams((self.stream,) * len(self._contexts))
        streams.fork()
        for context, stream in zip(self._contexts, streams.each, strict=True):
            context.enqueue(stream)
        streams.join()

    def fuse(self, outputs: Sequence[torch.Tensor] | None = None, decider: GpuDecider | None = None) -> None:
        """Decide and paint: by default on what the models say, by the configuration there is."""
        self._download.result.fault.zero_()
        (decider or self._decide)(outputs or self.outputs, self.frames, self._step)

    def download(self) -> None:
        """Copy what is wanted to the host."""
        self._download.copy()
