"""The way of a live frame on a GPU; see ``path.FramePath``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, InvalidStateError, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from classaug_ros.decision import Decision
from classaug_ros.engines import BuildOptions, load_device_engine
from classaug_ros.engines.interface import DeviceEngine
from classaug_ros.errors import EngineError, OutputError
from classaug_ros.gpu.decider import refuse_contours
from classaug_ros.gpu.options import GpuOptions
from classaug_ros.gpu.slots import Program, Shape, Slot
from classaug_ros.images import Frame
from classaug_ros.lane import Lane
from classaug_ros.models import Model
from classaug_ros.path import Terms, Wanted
from classaug_ros.pipeline import Augmented, check_rules
from classaug_ros.rules import RuleSet

_PICTURES = ("confidence", "color", "overlay")
_Turn: TypeAlias = dict[tuple[int, int], Slot]  # by number and size of a group of frames of one shape


@dataclass(frozen=True, eq=False)
class Staged:
    """Frames of one shape in memory from which the device takes them.

    Attributes:
        slot: where.
        shape: of them.
        places: of each among all that were prepared at once.
    """

    slot: Slot
    shape: Shape
    places: tuple[int, ...]


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
    uploaded while another is computed, and none gets old in a queue.
    """

    steps = ("launch", "gpu")

    def __init__(self, models: Sequence[Model], device: str, options: GpuOptions, log: Callable[[str], None]) -> None:
        """Load the models.

        Args:
            models: main first.
            device: torch's name of it; ``cpu`` runs everything in Triton's interpreter, to be compared with.
            options: how frames are run.
            log: takes a line about engines that are built.

        Raises:
            EngineError: the device or a library is not there, or a model cannot be loaded.
        """
        self.models = tuple(models)
        self.given_up = 0
        self._device = torch.device(device)
        self._options = options
        self._log = log
        self._lock = threading.Lock()  # of _broken and given_up
        self._broken = ""
        self._dead = False  # the device, for this process
        self._closed = False
        self._patience = min(options.timeout, threading.TIMEOUT_MAX)
        self._engines: list[DeviceEngine] = []
        self._turns: Iterator[_Turn] = iter(())
        self._lanes = _lanes()
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
        return self._lanes[1]

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
        return self._last is not None and not self._last.done.done()

    def check(self, rules: RuleSet, decision: Decision) -> None:
        """See ``FramePath.check``.

        Raises:
            ConfigError: as there; or the labels are to follow contours, which only the CPU can.
        """
        check_rules(self.models, rules)
        decision.check(rules)
        refuse_contours(decision)

    def prepare(self, frames: Sequence[Frame]) -> list[Staged]:
        """Copy frames to where the device takes them from, those of a shape together; see ``FramePath.prepare``."""
        alike: dict[Shape, list[tuple[int, NDArray[np.uint8]]]] = {}
        for place, frame in enumerate(frames):
            layout, rows = frame.raw()
            alike.setdefault((*frame.size, layout), []).append((place, rows))
        turn, staged = next(self._turns), []
        with self._failing():
            for number, (shape, those) in enumerate(alike.items()):
                slot = self._slot(turn, number, len(those))
                slot.upload(shape).stage([rows for _, rows in those])
                staged.append(Staged(slot, shape, tuple(place for place, _ in those)))
        return staged

    def infer(self, ready: Sequence[Staged], terms: Terms, wanted: Wanted, room: Callable[[], None]) -> Launched:
        """Launch all work on a frame, fusion included; see ``FramePath.infer``."""
        try:
            if self._broken:
                raise EngineError(self._broken)
            launched = []
            with self._failing():
                for each in ready:
                    program = each.slot.program(each.shape, terms, wanted)
                    program.launch()
                    launched.append((program, each.places))
            before, self._last = self._last, self._waited_for(launched)
            first = before if self._options.frames_in_flight > 1 else self._last
            if first is not None:  # of what became of it, its own `fuse` tells
                wait([first.done], self._patience)
            return self._last
        finally:
            room()

    def fuse(self, begun: Launched) -> list[Augmented]:
        """Return what is wanted of each frame, in arrays that the third frame after it overwrites.

        Raises:
            EngineError: the device failed, or did not answer in time.
            OutputError: what a model gives has numbers in it that are none, or labels that its card does not have.
        """
        self._answer(begun)
        results: dict[int, Augmented] = {}
        for program, places in begun.programs:
            host = program.download.host
            if fault := int(np.bitwise_or.reduce(host["fault"])):
                raise OutputError(self._what_is_wrong(fault))
            for row, place in enumerate(places):
                pictures = (host[name][row] if name in host else None for name in _PICTURES)
                results[place] = Augmented(host["label"][row], *pictures)
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
        if self._last is not None:
            with suppress(InvalidStateError):  # it has ended
                self._last.done.set_exception(EngineError(why))

    def reload(self) -> None:
        """See ``FramePath.reload``.

        Raises:
            EngineError: also where the device hangs or failed: CUDA then refuses everything until the process ends.
            RuntimeError: the path was closed meanwhile.
        """
        # What is still at work has memory that must not be given to others.
        if self._dead or wait([self._lanes[0].submit(_wait_for, ())], self._patience).not_done:
            raise EngineError(f"{self._broken}; CUDA does no more in this process, start the node again")
        for lane in self._lanes:
            lane.shutdown(wait=False)
        self._lanes, self._last = _lanes(), None
        self._release()
        self._load()
        if self._closed:
            self.close()
            raise RuntimeError("the path is closed")
        self._broken = ""

    def close(self) -> None:
        """See ``FramePath.close``."""
        self._closed = True
        for lane in self._lanes:
            lane.shutdown(wait=not self._broken)
        self._release()

    def _load(self) -> None:
        for model in self.models:
            build = BuildOptions(precision=self._options.precision, batch=(1, self.batch, self.batch))
            self._engines.append(load_device_engine(model, str(self._device), build, self._log))
        # One more than are on the device: the next frame is staged meanwhile.
        turns: list[_Turn] = [{} for _ in range(self._options.frames_in_flight + 1)]
        try:
            for turn in turns:
                for count in {1, self.batch}:
                    self._slot(turn, 0, count)
        except RuntimeError as error:
            raise EngineError(_first_line(error)) from error
        self._turns = cycle(turns)

    def _slot(self, turn: _Turn, number: int, count: int) -> Slot:
        """Return room for ``count`` frames that are the ``number``-th group of a turn's."""
        if (number, count) not in turn:
            cards = [model.card for model in self.models]
            turn[number, count] = Slot(count, cards, self._engines, self._device, self._options)
        return turn[number, count]

    def _waited_for(self, launched: Sequence[tuple[Program, tuple[int, ...]]]) -> Launched:
        programs = [program for program, _ in launched]
        return Launched(tuple(launched), self._lanes[0].submit(_wait_for, programs))

    def _release(self) -> None:
        self._turns = iter(())
        engines, self._engines = self._engines, []
        for engine in engines:
            engine.close()

    def _answer(self, launched: Launched) -> None:
        if wait([launched.done], self._patience).not_done:
            self._die(f"the GPU did not answer within {self._options.timeout:g} s")
            raise EngineError(self._broken)
        with self._failing():
            launched.done.result()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Make errors of the device ours; after most of them it is of no more use to this process."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise EngineError(_first_line(error)) from error
        except RuntimeError as error:
            self._die(f"the GPU failed: {_first_line(error)}")
            raise EngineError(self._broken) from error

    def _die(self, why: str) -> None:
        self._dead = True
        self.give_up(why)

    def _what_is_wrong(self, fault: int) -> str:
        model = next(model for number, model in enumerate(self.models) if fault & 1 << number)
        output = f"{model.path}: output {model.card.output.name!r}"
        if model.card.output.kind == "labels":
            return f"{output} has labels outside the card's classes, 0..{len(model.card.classes) - 1}; correct the card"
        return f"{output} has NaN or infinity in it: the model is broken, or its precision too low"


def _lanes() -> tuple[Lane, Lane]:
    """Return threads that wait for the device, and that fuse and publish."""
    return Lane("classaug-gpu"), Lane("classaug-gpu-fuse")


def _wait_for(programs: Sequence[Program]) -> None:
    for program in programs:
        program.wait()


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
