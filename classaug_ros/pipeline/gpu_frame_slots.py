"""Slots: room on the device for one batch of frames each, and the work on it as one CUDA graph."""

from __future__ import annotations

import gc
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from classaug_ros.engines.interface import DeviceEngine
from classaug_ros.errors import EngineError, first_line
from classaug_ros.models.card import ModelCard
from classaug_ros.pipeline.frame_path import FusionConfig, RequestedOutputs
from classaug_ros.pipeline.gpu_decider import GpuDecider
from classaug_ros.pipeline.gpu_options import GpuOptions
from classaug_ros.pipeline.gpu_transfers import Download, Shape, Upload

KEPT = 4
"""Shapes that a slot keeps ready, and programs of each: a camera may change its size, and subscribers come and go."""

# A device that is waited for as a whole breaks off captures in other threads.
_ALONE = threading.Lock()


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
    """All work of a batch of one shape, by one configuration: upload, preprocessing, models, fusion, download.

    Attributes:
        config: what frames are fused by.
        download: what comes of it.
    """

    def __init__(self, slot: Slot, upload: Upload, config: FusionConfig, wanted: RequestedOutputs) -> None:
        """Run it once on what is staged, and capture it where a CUDA graph is wanted.

        Raises:
            EngineError: a model fails, or its work cannot be captured.
            RuntimeError: the device refuses: memory, say.
        """
        self.config = config
        self._upload, self._contexts, self._streams = upload, slot.contexts, slot.streams
        height, width, layout = upload.shape
        self.download = Download(slot.count, (height, width), config.rules.output.dtype, wanted, slot.device)
        how = (height, width), layout, self.download.result
        self._decide = GpuDecider(slot.cards, config.rules, config.decision, *how, alpha=config.alpha)
        self._graph: Any = None
        self._done = torch.cuda.Event(blocking=True) if slot.device.type == "cuda" else None
        with _ALONE:
            self._enqueue()  # compiles kernels, and has TensorRT take up the shapes, neither of which can be captured
            if slot.pool is not None:
                torch.cuda.synchronize(slot.device)
                self._graph = self._captured(slot.pool)

    def launch(self) -> None:
        """Have the device do the work; returns before it is done."""
        with self._streams.entered():
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
        streams = self._streams
        with streams.entered():
            self._upload.run()
            streams.fork()
            try:
                outputs = [context.enqueue(on) for context, on in zip(self._contexts, streams.each, strict=True)]
            finally:
                streams.join()
            self.download.result.fault.zero_()
            self._decide(outputs, self._upload.frames, self._upload.step)
            self.download.copy()

    def _captured(self, pool: Any) -> Any:
        graph = torch.cuda.CUDAGraph()
        try:
            # Errors of this thread alone: others, ROS's say, may ask CUDA for something meanwhile.
            with (
                _nothing_collected(),
                torch.cuda.graph(graph, pool, self._streams.each[0], capture_error_mode="thread_local"),
            ):
                self._enqueue()
        except Exception as error:  # noqa: BLE001 (torch's, ours, or a model's)
            cause = error.__context__ or error  # ending a capture that failed fails itself
            if isinstance(cause, torch.OutOfMemoryError):
                raise cause from None
            said = f"a frame's work cannot be captured: {first_line(cause)}; set cuda_graph to false"
            raise EngineError(said) from cause
        return graph


class Slot:
    """Room for one batch of frames on the device, and the programs that were used last.

    Attributes:
        count: frames of a batch.
        device: where.
        cards: of the models, main first.
        images: the models' inputs.
        contexts: the models, bound to these.
        streams: of this slot.
        pool: memory that the slot's graphs share, as one runs at a time; None without graphs.
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
        self.count, self.device, self.cards = count, device, tuple(cards)
        self.images = tuple(
            torch.zeros((count, 3, card.input.height, card.input.width), dtype=torch.float32, device=device)
            for card in cards
        )
        self.streams = Streams.on(device, len(cards), concurrent=options.concurrent)
        if device.type == "cuda":
            with _ALONE:
                torch.cuda.synchronize(device)  # the zeros, on another stream
        self.pool = torch.cuda.graph_pool_handle() if options.graph and device.type == "cuda" else None
        self.contexts = tuple(engine.bind(image) for engine, image in zip(engines, self.images, strict=True))
        self._buffers: OrderedDict[Shape, ShapeBuffers] = OrderedDict()

    def buffers(self, shape: Shape) -> ShapeBuffers:
        """Return what there is for frames of a shape."""
        if shape in self._buffers:
            self._buffers.move_to_end(shape)
        else:
            self._buffers[shape] = ShapeBuffers(Upload(shape, self.cards, self.images), OrderedDict())
            if len(self._buffers) > KEPT:
                self._buffers.popitem(last=False)
        return self._buffers[shape]

    def make(self, buffers: ShapeBuffers, config: FusionConfig, wanted: RequestedOutputs) -> Program:
        """Make what is done with frames by another configuration, and keep it; raises what ``Program`` does."""
        program = buffers.programs[wanted] = Program(self, buffers.upload, config, wanted)
        if len(buffers.programs) > KEPT:
            buffers.programs.popitem(last=False)
        return program

    def clear(self) -> None:
        """Let go of what was made for shapes; the device must be done with it."""
        self._buffers.clear()


@dataclass(frozen=True, eq=False)
class ShapeBuffers:
    """What a slot has for frames of one shape.

    Attributes:
        upload: where they are staged.
        programs: what is done with them, those used last.
    """

    upload: Upload
    programs: OrderedDict[RequestedOutputs, Program]

    def program(self, config: FusionConfig, wanted: RequestedOutputs) -> Program | None:
        """Return what is done with frames, if it was made for this configuration."""
        program = self.programs.get(wanted)
        if program is None or program.config != config:
            return None
        self.programs.move_to_end(wanted)
        return program


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Keep Python from freeing memory of the device meanwhile, which no capture survives."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
