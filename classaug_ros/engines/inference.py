"""Several models run on one frame: at once or one after the other, with a limit to their time, and loaded again."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, InvalidStateError, wait
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from classaug_ros.engines import CPU, Where
from classaug_ros.engines.daemon_executor import DaemonExecutor
from classaug_ros.engines.model_runner import ModelRunner, divide
from classaug_ros.errors import GRACE, EngineError
from classaug_ros.models.card import Model

LEAD = 0.015
"""Seconds before the models are free at which the next frame is taken, to be decoded and prepared."""

PAUSE = 0.05
"""Seconds that late models have yet: a process that was stopped as a whole makes them late without their doing."""

CLOSED = "the pipeline is closed"


class _Run:
    """One run of a model. Its time counts from when it begins: its thread may be at something else before."""

    def __init__(self, model: Model, work: Callable[[], Any]) -> None:
        self.model = model
        self.started = math.inf  # monotonic seconds
        self._work = work

    def __call__(self) -> Any:
        self.started = time.monotonic()
        return self._work()


_Running: TypeAlias = "dict[Future[Any], _Run]"


class Inference:
    """All models of a pipeline, each in a thread of its own.

    Models that do not answer in time are given up: who waits for them has an error, and so has everybody until they
    are loaded again. A thread cannot be ended from outside, so that a model that heeds nothing stays where it is, with
    its memory and its core; but nobody waits for it, and what it may still give is thrown away.

    Attributes:
        threads: CPU threads of each model.
        spare: the thread of the model that was done first with the last frame.
        given_up: how often the models were given up.
    """

    def __init__(
        self, models: Sequence[Model], threads: int, *, concurrent: bool, timeout: float, where: Where = CPU
    ) -> None:
        """Load the models; see ``Pipeline``."""
        total = threads or len(os.sched_getaffinity(0))
        count = len(models)
        self.threads = divide(total, [1.0] * count) if concurrent else (total,) * count
        self.given_up = 0
        self._models = tuple(models)
        self._where = where
        self._concurrent = concurrent
        self._timeout = timeout
        self._lock = threading.Lock()  # of _broken, _runners and given_up
        self._reloading = threading.Lock()
        self._broken = ""  # why the models were given up, until they are loaded again
        self._gap = 0.0  # seconds between the end of the first model and the last one's, with the last frame
        self._running: _Running = {}
        self._runners: tuple[ModelRunner, ...] = ()
        self._executors = self._new_executors()
        self.spare: Executor = self._executors[-1]
        try:
            self._runners = self._load()
            if concurrent and total > count and where.device == "cpu":
                self._divide(total)
        except BaseException:
            self.close()
            raise

    @property
    def runners(self) -> tuple[ModelRunner, ...]:
        """What runs each model, main first."""
        if not self._runners:
            raise RuntimeError(CLOSED)
        return self._runners

    @property
    def broken(self) -> str:
        """Why the models were given up and not loaded again yet; empty where they run."""
        return self._broken

    @property
    def busy(self) -> bool:
        """Whether a model is at a frame, or about to be."""
        return not all(each.done() for each in tuple(self._running))

    def run(self, images: Sequence[NDArray[np.float32]], on_free: Callable[[], None]) -> tuple[NDArray[Any], ...]:
        """Run all models on their inputs; see ``Pipeline.infer``."""
        for runner in self.runners:
            runner.hand_over()
        work = [partial(runner.infer, image) for runner, image in zip(self.runners, images, strict=True)]
        try:
            if not self._concurrent:
                return self._one_after_the_other(work)
            running = self._start(self._executors, work, self._models)
            first = self._first(running)
            first_done = time.monotonic()
            self.spare = self._executors[list(running).index(first)]
            wait(running, max(0.0, self._gap - LEAD))  # a frame taken later is a newer one
        finally:
            on_free()
        outputs = self._answers(running)  # the next frame may not come before all are done
        self._gap = min(time.monotonic() - first_done, self._timeout)
        return outputs

    def give_up(self, why: str) -> None:
        """End what the models do; from now on they fail until they are loaded again. Any thread may ask for it.

        Args:
            why: what those who wait for them are told, now and later.
        """
        with self._lock:
            if self._broken:
                return
            self._broken = why
            self.given_up += 1
        for runner in self._runners:
            runner.cancel()
        running = tuple(self._running)
        wait(running, GRACE)
        for model in running:
            with suppress(InvalidStateError):  # it has ended
                model.set_exception(EngineError(why))

    def reload(self) -> None:
        """Load models that were given up from their files again; does nothing where they run.

        No frame may be with them meanwhile. Where it fails they stay given up.

        Raises:
            EngineError: a model cannot be loaded.
            RuntimeError: the pipeline was closed meanwhile.
        """
        with self._reloading:
            if not self._broken:
                return
            runners, left = self.runners, self._executors
            self._executors = self._new_executors()
            self.spare = self._executors[-1]
            for executor in left:
                executor.shutdown(wait=False)
            work = zip(self._executors, runners, self.threads, strict=True)
            _results([executor.submit(runner.reload, share) for executor, runner, share in work])
            with self._lock:
                self._broken = ""
            if not self._runners:
                _close(self._executors, runners)
                raise RuntimeError(CLOSED)

    def close(self) -> None:
        """Release the models; calling it twice does no harm."""
        with self._lock:
            runners, self._runners = self._runners, ()
        _close(self._executors, runners, wait=not self._broken)

    def _one_after_the_other(self, work: Sequence[Callable[[], Any]]) -> tuple[Any, ...]:
        outputs: tuple[Any, ...] = ()
        for executor, run, model in zip(self._executors, work, self._models, strict=True):
            outputs += self._answers(self._start([executor], [run], [model]))
        return outputs

    def _start(
        self, executors: Sequence[DaemonExecutor], work: Sequence[Callable[[], Any]], models: Sequence[Model]
    ) -> _Running:
        """Have models begin.

        Raises:
            EngineError: they were given up.
        """
        runs = [_Run(model, each) for model, each in zip(models, work, strict=True)]
        with self._lock:  # who gives them up ends all that began
            if self._broken:
                raise EngineError(self._broken)
            self._running = {executor.submit(run): run for executor, run in zip(executors, runs, strict=True)}
            return self._running

    def _first(self, running: _Running) -> Future[Any]:
        """Wait for the first of them, while none is late, and return it."""
        while not (done := wait(running, _left(running, self._timeout), FIRST_COMPLETED).done):
            self._give_up_late(running, self._timeout)
        return next(each for each in running if each in done)

    def _answers(self, running: _Running, limit: float | None = None) -> tuple[Any, ...]:
        """Wait for all, while none is late, and return what they give.

        Args:
            running: from ``_start``.
            limit: seconds that each has; the pipeline's when left out.

        Raises:
            EngineError: a model failed or was late, or they were given up.
        """
        limit = limit or self._timeout
        while wait(running, _left(running, limit)).not_done:
            self._give_up_late(running, limit)
        if self._broken:
            raise EngineError(self._broken)
        return tuple(each.result() for each in running)

    def _give_up_late(self, running: _Running, limit: float) -> None:
        """Give the models up where one is late, and that still a moment later."""
        late = [each for each, run in running.items() if run.started + limit <= time.monotonic()]
        if still := wait(late, PAUSE).not_done:
            names = " and ".join(str(running[each].model.path) for each in late if each in still)
            self.give_up(f"{names} did not answer within {limit:g} s")

    def _new_executors(self) -> tuple[DaemonExecutor, ...]:
        return tuple(DaemonExecutor(f"classaug-model-{number}") for number in range(len(self._models)))

    def _load(self) -> tuple[ModelRunner, ...]:
        """Load all models at once."""
        work = zip(self._executors, self._models, self.threads, strict=True)
        loading = [executor.submit(ModelRunner, model, share, self._where) for executor, model, share in work]
        try:
            return _results(loading)
        except BaseException:
            for each in loading:
                if each.done() and each.exception() is None:
                    each.result().close()
            raise

    def _divide(self, total: int) -> None:
        """Divide the threads by what each model costs, measured with the even share it has."""
        costs = []
        for each in zip(self._executors, self._runners, self._models, self.threads, strict=True):
            executor, runner, model, share = each
            # Two runs.
            (seconds,) = self._answers(self._start([executor], [runner.seconds], [model]), 2 * self._timeout)
            costs.append(seconds * share)
        shares = divide(total, costs)
        if shares != self.threads:
            for runner in self._runners:
                runner.close()
            self._runners, self.threads = (), shares
            self._runners = self._load()


def _results(futures: Sequence[Future[Any]]) -> tuple[Any, ...]:
    """Wait for all of them, also where one fails."""
    wait(futures)
    return tuple(future.result() for future in futures)


def _left(running: _Running, limit: float) -> float:
    """Return the seconds until the first of them can be late."""
    now = time.monotonic()
    left = [limit + min(run.started, now) - now for each, run in running.items() if not each.done()]
    return min(max(0.0, min(left, default=0.0)), threading.TIMEOUT_MAX)


def _close(executors: Sequence[DaemonExecutor], runners: Sequence[ModelRunner], *, wait: bool = False) -> None:
    for executor in executors:
        executor.shutdown(wait)
    for runner in runners:
        runner.close()
