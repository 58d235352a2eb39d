"""The way of a live frame on a GPU; see ``frame_path.FramePath``."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, InvalidStateError, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from classaug_ros.engines import BuildOptions, load_device_engine
from classaug_ros.engines.daemon_executor import DaemonExecutor
from classaug_ros.engines.device import check_triton, torch_device
from classaug_ros.engines.interface import DeviceEngine
from classaug_ros.errors import GRACE, EngineError, OutputError, first_line
from classaug_ros.imaging.images import Frame
from classaug_ros.models.card import Model
from classaug_ros.pipeline.cpu import Augmented, check_rules
from classaug_ros.pipeline.frame_path import FusionConfig, RequestedOutputs
from classaug_ros.pipeline.gpu_frame_slots import Program, ShapeBuffers, Slot
from classaug_ros.pipeline.gpu_options import GpuOptions
from classaug_ros.pipeline.gpu_transfers import Shape
from classaug_ros.rules import RuleSet
from classaug_ros.rules.decision import Decision

MAKING = 120.0
"""Seconds that the first frame of a kind has besides: kernels are compiled for it, and a graph is captured."""

_PICTURES = ("confidence", "color", "overlay")
_Turn: TypeAlias = dict[tuple[int, int], Slot]  # by number and size of a group of frames of one shape

# What a device that hangs may still write to is never let go of.
_LEFT: list[object] = []


@dataclass(frozen=True, eq=False)
class Staged:
    """Frames of one shape in memory from which the device takes them.

    Attributes:
        slot: where.
        buffers: where in there.
        places: of each among all that were prepared at once.
    """

    slot: Slot
    buffers: ShapeBuffers
    places: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class StagedFrames:
    """Frames, and where they were staged when the models had been given up as often as it says."""

    frames: tuple[Frame, ...]
    staged: tuple[Staged, ...]
    given_up: int


@dataclass(frozen=True, eq=False)
class Launched:
    """Frames that the device has, or is done with once ``done`` is.

    Attributes:
        programs: what it does, with the places of the frames.
        done: ends, or fails, with it.
    """

    programs: tuple[tuple[Program, tuple[int, ...]], ...]
    done: Future[Any]


class GpuPath:
    """Frames through models and fusion on a GPU: one upload, one launch, one download each, or of a batch.

    A frame that is launched waits for no other one; the next is taken once the one before is done, so that one is
    uploaded while another is computed, and none gets old in a queue. One thread alone launches, one waits for the
    device, and nobody waits for these without a limit.
    """

    steps = ("launch", "gpu")

    def __init__(self, models: Sequence[Model], device: str, options: GpuOptions, log: Callable[[str], None]) -> None:
        """Load the models.

        Args:
            models: main first.
            device: ``cuda``; ``cpu`` runs everything in Triton's interpreter, to be compared with.
            options: how frames are run.
            log: takes a line about engines that are built.

        Raises:
            EngineError: the device, a library or a compiler is not there, or a model cannot be loaded.
        """
        self.models = tuple(models)
        self.given_up = 0
        self._device = torch_device(device)
        if self._device.type == "cuda":
            check_triton()
        self._options = options
        self._log = log
        self._lock = threading.Lock()  # of _broken and given_up
        self._broken = ""
        self._dead = False  # the device, for this process
        self._closed = False
        self._patience = min(options.timeout, threading.TIMEOUT_MAX - MAKING)
        self._engines: list[DeviceEngine] = []
        self._turns: list[_Turn] = []
        self._turn = count()
        self._launching, self._waiting, self._fusing = (DaemonExecutor(f"classaug-gpu-{work}") for work in _WORK)
        self._work: tuple[Future[Any], ...] = ()  # the launch under way, and what the device has
        self._last: Launched | None = None
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    @property
    def batch(self) -> int:
        """See ``FramePath.batch``."""
        return self._options.batch

    @property
    def spare(self) -> Executor:
        """See ``FramePath.spare``."""
        return self._fusing

    @property
    def engines(self) -> str:
        """See ``FramePath.engines``."""
        name = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "the CPU, interpreted"
        kinds = ", ".join(dict.fromkeys(engine.description for engine in self._engines))
        how = "all at once" if self._options.concurrent else "one after the other"
        graph = "a CUDA graph a frame" if self._options.graph else "no CUDA graph"
        return f"{kinds} on {name}, {how}, {graph}, {self._options.frames_in_flight} in flight"

    @property
    def broken(self) -> str:
        """See ``FramePath.broken``."""
        return self._broken

    @property
    def busy(self) -> bool:
        """See ``FramePath.busy``."""
        return not all(work.done() for work in self._work)

    def check(self, rules: RuleSet, decision: Decision) -> None:
        """See ``FramePath.check``."""
        check_rules(self.models, rules)
        decision.check(rules)

    def prepare(self, frames: Sequence[Frame]) -> StagedFrames:
        """Copy frames to where the device takes them from; see ``FramePath.prepare``."""
        given_up = self.given_up
        staged = () if self._broken else self._stage(frames)  # else there may be no room until they are loaded anew
        return StagedFrames(tuple(frames), staged, given_up)

    def infer(
        self, prepared: StagedFrames, config: FusionConfig, wanted: RequestedOutputs, on_free: Callable[[], None]
    ) -> Launched:
        """Launch all work on frames, fusion included; see ``FramePath.infer``."""
        try:
            if self._broken:
                raise EngineError(self._broken)
            before = self._last
            launching = self._launching.submit(self._launch, prepared, config, replace(wanted, label=True), before)
            self._work = (*self._work[-1:], launching)
            if wait([launching], self._patience + MAKING).not_done:
                raise self._late()
            launched: Launched = launching.result()
            first = before if self._options.frames_in_flight > 1 else launched
            if first is not None:  # of what became of it, its own `fuse` tells
                wait([first.done], self._patience)
            return launched
        finally:
            on_free()

    def fuse(self, inferred: Launched) -> list[Augmented | OutputError]:
        """Return what is wanted of each frame, in arrays that are overwritten ``frames_in_flight + 1`` frames later.

        In its place is an error where a model gives numbers that are none, or labels that its card does not have.

        Raises:
            EngineError: the device failed, or did not answer in time.
        """
        if wait([inferred.done], self._patience).not_done:
            raise self._late()
        with self._failing():
            inferred.done.result()
        results: dict[int, Augmented | OutputError] = {}
        for program, places in inferred.programs:
            for row, place in enumerate(places):
                results[place] = self._result(program.download.host, row)
        return [results[place] for place in range(len(results))]

    def warm_up(self, rules: RuleSet) -> None:
        """Nothing: kernels are compiled at the first frame of a kind, and kept on disk; see ``FramePath.warm_up``."""

    def give_up(self, why: str) -> None:
        """See ``FramePath.give_up``. What the device is at goes on; nobody waits for it."""
        with self._lock:
            if self._broken:
                return
            self._broken = why
            self.given_up += 1
        for work in self._work:
            with suppress(InvalidStateError):  # it has ended
                work.set_exception(EngineError(why))

    def reload(self) -> None:
        """See ``FramePath.reload``.

        Raises:
            EngineError: also where the device hangs or failed: CUDA then refuses everything until the process ends.
            RuntimeError: the path was closed meanwhile.
        """
        # What is still at work has memory that must not be given to others.
        if self._dead or not self._idle(self._patience + MAKING):
            raise EngineError(f"{self._broken}; CUDA does no more in this process, start the node again")
        self._release()
        self._load()
        if self._closed:
            self._release()
            raise RuntimeError("the path is closed")
        self._broken = ""

    def close(self) -> None:
        """See ``FramePath.close``. Where the device hangs, its memory is left to it."""
        if self._closed:
            return
        self._closed = True
        idle = not self._dead and self._idle(GRACE)
        for executor in (self._launching, self._waiting, self._fusing):
            executor.shutdown(wait=False)
        if idle:
            self._release()
        else:
            _LEFT.append((self._turns, self._engines))

    def _load(self) -> None:
        for model in self.models:
            build = BuildOptions(precision=self._options.precision, batch=(1, self.batch, self.batch))
            self._engines.append(load_device_engine(model, self._device.type, build, self._log))
        # One more than are on the device: the next frame is staged meanwhile.
        turns: list[_Turn] = [{} for _ in range(self._options.frames_in_flight + 1)]
        with self._failing():
            for turn in turns:
                for size in {1, self.batch}:
                    self._slot(turn, 0, size)
        self._turns = turns

    def _slot(self, turn: _Turn, number: int, frames: int) -> Slot:
        """Return room for the ``number``-th group of a turn's frames: for one, or for a whole batch."""
        size = 1 if frames == 1 else self.batch
        if (number, size) not in turn:
            cards = [model.card for model in self.models]
            turn[number, size] = Slot(size, cards, self._engines, self._device, self._options)
        return turn[number, size]

    def _stage(self, frames: Sequence[Frame]) -> tuple[Staged, ...]:
        """Copy frames to where the device takes them from, those of a shape together."""
        alike: dict[Shape, list[tuple[int, NDArray[np.uint8]]]] = {}
        for place, frame in enumerate(frames):
            layout, rows = frame.raw()
            alike.setdefault((*frame.size, layout), []).append((place, rows))
        turns, staged = self._turns, list[Staged]()
        with self._failing():
            turn = turns[next(self._turn) % len(turns)]
            for number, (shape, those) in enumerate(alike.items()):
                slot = self._slot(turn, number, len(those))
                buffers = slot.buffers(shape)
                buffers.upload.stage([rows for _, rows in those])
                staged.append(Staged(slot, buffers, tuple(place for place, _ in those)))
        return tuple(staged)

    def _launch(
        self, prepared: StagedFrames, config: FusionConfig, wanted: RequestedOutputs, before: Launched | None
    ) -> Launched:
        """Launch all work on frames, in the thread for that."""
        launched: list[tuple[Program, tuple[int, ...]]] = []
        try:
            with self._failing():
                current = prepared.staged and prepared.given_up == self.given_up
                for each in prepared.staged if current else self._stage(prepared.frames):
                    program = each.buffers.program(config, wanted)
                    if program is None:
                        self._wait_for(before)  # making waits for the device, without a limit
                        program = each.slot.make(each.buffers, config, wanted)
                    if self._broken:
                        raise EngineError(self._broken)
                    program.launch()
                    launched.append((program, each.places))
        finally:  # also of what was launched before an error
            done = self._waiting.submit(_wait_for, [program for program, _ in launched])
            self._last = now = Launched(tuple(launched), done)
            self._work = (*self._work[-1:], done)
        return now

    def _wait_for(self, before: Launched | None) -> None:
        if before is not None and wait([before.done], self._patience).not_done:
            raise self._late()

    def _result(self, host: dict[str, NDArray[Any]], row: int) -> Augmented | OutputError:
        if fault := int(host["fault"][row]):
            return OutputError(self._what_is_wrong(fault))
        return Augmented(host["label"][row], *(host[name][row] if name in host else None for name in _PICTURES))

    def _what_is_wrong(self, fault: int) -> str:
        model = next(model for number, model in enumerate(self.models) if fault & 1 << number)
        output = f"{model.path}: output {model.card.output.name!r}"
        if model.card.output.kind == "labels":
            return f"{output} has labels outside the card's classes, 0..{len(model.card.classes) - 1}; correct the card"
        return f"{output} has NaN or infinity in it: the model is broken, or its precision too low"

    def _idle(self, seconds: float) -> bool:
        """Wait until nothing is launched and the device is done; tell whether that came about."""
        launching = self._launching.submit(_wait_for, ())
        if wait([launching], seconds).not_done:
            return False
        done = self._waiting.submit(self._synchronize)
        return not wait([done], seconds).not_done and done.exception() is None

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _release(self) -> None:
        """Let go of everything on the device, which has to be done with it."""
        turns, self._turns, self._last, self._work = self._turns, [], None, ()
        for turn in turns:
            for slot in turn.values():
                slot.clear()
            turn.clear()
        engines, self._engines = self._engines, []
        for engine in engines:
            engine.close()
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()  # TensorRT has no use for what torch keeps

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Make errors of the device ours; after most of CUDA's it is of no more use to this process."""
        try:
            yield
        except RuntimeError as error:
            said = first_line(error)
            if isinstance(error, torch.OutOfMemoryError) or not said.startswith(_FINAL):
                raise EngineError(said) from error
            self._die(f"the GPU failed: {said}")
            raise EngineError(self._broken) from error

    def _late(self) -> EngineError:
        self._die(f"the GPU did not answer within {self._options.timeout:g} s")
        return EngineError(self._broken)

    def _die(self, why: str) -> None:
        self._dead = True
        self.give_up(why)


_WORK = ("launch", "wait", "fuse")
_FINAL = ("CUDA error", "Triton Error [CUDA]")  # what errors begin with after which CUDA refuses everything


def _wait_for(programs: Sequence[Program]) -> None:
    for program in programs:
        program.wait()
