"""Slots: room on the device for one batch of frames each, and the work of a frame as one CUDA graph."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from classaug_ros.encodings import Layout
from classaug_ros.engines.interface import DeviceEngine
from classaug_ros.gpu.decider import GpuDecider
from classaug_ros.gpu.fusion import Result
from classaug_ros.gpu.options import GpuOptions
from classaug_ros.gpu.preprocess import Preprocess
from classaug_ros.models import ModelCard
from classaug_ros.path import Terms, Wanted

Shape: TypeAlias = tuple[int, int, Layout]
"""H, W and how the bytes of a frame lie."""

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

KEPT = 8
"""Shapes, and programs, that a slot keeps ready: a camera may change its size, and subscribers come and go."""

_ALIGNED = 256  # bytes; what kernels load and store at once begins at a multiple of it


class Download:
    """What is made of a batch of frames, in one block of memory, so that one copy brings it to the host.

    Attributes:
        result: on the device.
        host: the same on the host, by name, once the copy is done: N x ... arrays, overwritten by the next copy.
    """

    def __init__(self, count: int, size: tuple[int, int], ids: np.dtype[Any], wanted: Wanted, device: torch.device):
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
        frames: N x bytes uint8 on the device, rows without padding.
        step: bytes of a row.
    """

    def __init__(self, shape: Shape, cards: Sequence[ModelCard], images: Sequence[torch.Tensor]) -> None:
        """Make room for frames of a shape, as many as the models' inputs ``images`` take."""
        height, width, layout = shape
        count, device = images[0].shape[0], images[0].device
        self.step = width * layout.stride
        self.frames = torch.empty((count, height * self.step), dtype=torch.uint8, device=device)
        self._host = torch.empty((count, height * self.step), dtype=torch.uint8, pin_memory=device.type == "cuda")
        self._rows = self._host.numpy().reshape(count, height, self.step)
        self._preprocess = Preprocess([card.input for card in cards], (height, width), layout, images)

    def stage(self, frames: Sequence[NDArray[np.uint8]]) -> None:
        """Take the rows of each frame, H x bytes of a row uint8; the frames before must have been uploaded."""
        for rows, frame in zip(self._rows, frames, strict=True):
            np.copyto(rows, frame)

    def run(self) -> None:
        """Upload what was staged and make it the models' inputs, on the current stream."""
        self.frames.copy_(self._host, non_blocking=True)
        self._preprocess(self.frames, self.step)


@dataclass(frozen=True, eq=False)
class Streams:
    """CUDA streams of a slot: the first carries the frame, the others a model each. None on torch's CPU.

    Attributes:
        each: by model; the first one again where models run one after the other.
    """

    each: tuple[Any, ...]

    @classmethod
    def on(cls, device: torch.device, models: int, *, concurrent: bool) -> Streams:
        """Make them."""
        if device.type != "cuda":
            return cls((None,) * models)
        first = torch.cuda.Stream(device)
        return cls((first, *(torch.cuda.Stream(device) if concurrent else first for _ in range(models - 1))))

    def entered(self) -> AbstractContextManager[Any]:
        """Make the first one current."""
        return torch.cuda.stream(self.each[0]) if self.each[0] is not None else nullcontext()

    def fork(self) -> None:
        """Let the others wait for what the first has to do by now."""
        for other in self._others():
            other.wait_stream(self.each[0])

    def join(self) -> None:
        """Let the first wait for the others."""
        for other in self._others():
            self.each[0].wait_stream(other)

    def _others(self) -> list[Any]:
        return [stream for stream in self.each if stream is not self.each[0]]


class Program:
    """All work of a batch of one shape, on one set of terms: upload, preprocessing, models, fusion, download.

    Attributes:
        terms: on what terms frames are fused.
        download: what comes of it.
    """

    def __init__(self, slot: Slot, shape: Shape, terms: Terms, wanted: Wanted) -> None:
        """Run it once on what is staged, and capture it where a CUDA graph is wanted.

        Raises:
            ConfigError: ``GpuDecider`` cannot do what the terms ask for.
            RuntimeError: the device refuses: memory, say.
        """
        self.terms = terms
        self._slot = slot
        self._upload = slot.upload(shape)
        height, width, layout = shape
        self.download = Download(slot.count, (height, width), terms.rules.output.dtype, wanted, slot.device)
        how = (height, width), layout, self.download.result
        self._decide = GpuDecider(slot.cards, terms.rules, terms.decision, *how, alpha=terms.alpha)
        self._graph: Any = None
        self._done = torch.cuda.Event(blocking=True) if slot.device.type == "cuda" else None
        self._enqueue()  # compiles kernels, and has TensorRT take up the shapes, neither of which can be captured
        if slot.options.graph and slot.device.type == "cuda":
            torch.cuda.synchronize(slot.device)
            graph = torch.cuda.CUDAGraph()
            # Of this thread alone: others, ROS's say, may ask CUDA for something meanwhile.
            with torch.cuda.graph(graph, stream=slot.streams.each[0], capture_error_mode="thread_local"):
                self._enqueue()
            self._graph = graph

    def launch(self) -> None:
        """Have the device do the work; returns before it is done."""
        with self._slot.streams.entered():
            if self._graph is not None:
                self._graph.replay()
            else:
                self._enqueue()
            if self._done is not None:
                self._done.record()

    def wait(self) -> None:
        """Wait for what was launched last."""
        if self._done is not None:
            self._done.synchronize()

    def _enqueue(self) -> None:
        slot = self._slot
        with slot.streams.entered():
            self._upload.run()
            slot.streams.fork()
            outputs = [context.enqueue(on) for context, on in zip(slot.contexts, slot.streams.each, strict=True)]
            slot.streams.join()
            self.download.result.fault.zero_()
            self._decide(outputs, self._upload.frames, self._upload.step)
            self.download.copy()


class Slot:
    """Room for one batch of frames on the device, and the programs that were used last.

    Attributes:
        count: frames of a batch.
        device: where.
        cards: of the models, main first.
        options: how frames are run.
        images: the models' inputs.
        contexts: the models, bound to these.
        streams: of this slot.
    """

    def __init__(
        self,
        count: int,
        cards: Sequence[ModelCard],
        engines: Sequence[DeviceEngine],
        device: torch.device,
        options: GpuOptions,
    ) -> None:
        """Make room for batches of ``count`` frames; RuntimeError, EngineError where the device refuses."""
        self.count, self.device, self.cards, self.options = count, device, tuple(cards), options
        self.images = tuple(
            torch.zeros((count, 3, card.input.height, card.input.width), dtype=torch.float32, device=device)
            for card in cards
        )
        self.streams = Streams.on(device, len(cards), concurrent=options.concurrent)
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # the zeros, on another stream
        self.contexts = tuple(engine.bind(image) for engine, image in zip(engines, self.images, strict=True))
        self._uploads: OrderedDict[Shape, Upload] = OrderedDict()
        self._programs: OrderedDict[tuple[Shape, Wanted], Program] = OrderedDict()

    def upload(self, shape: Shape) -> Upload:
        """Return where frames of a shape are staged."""
        upload = _kept(self._uploads, shape)
        return upload or _keep(self._uploads, shape, Upload(shape, self.cards, self.images))

    def program(self, shape: Shape, terms: Terms, wanted: Wanted) -> Program:
        """Return the work of a batch of a shape; made anew where the terms are others."""
        program = _kept(self._programs, (shape, wanted))
        if program is None or program.terms is not terms:
            program = _keep(self._programs, (shape, wanted), Program(self, shape, terms, wanted))
        return program


def _kept(kept: OrderedDict[_Key, _Value], key: _Key) -> _Value | None:
    if key in kept:
        kept.move_to_end(key)
    return kept.get(key)


def _keep(kept: OrderedDict[_Key, _Value], key: _Key, value: _Value) -> _Value:
    kept[key] = value
    if len(kept) > KEPT:
        kept.popitem(last=False)
    return value


def _view(block: torch.Tensor, start: int, shape: tuple[int, ...], kind: np.dtype[Any]) -> torch.Tensor:
    part = block[start : start + prod(shape) * kind.itemsize]
    return part.view(getattr(torch, kind.name)).view(shape)
