"""Pipeline: frame -> both models at once -> fusion. It knows no ROS; node, learning and evaluation all run it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classaug_ros import fusion
from classaug_ros.branch import Branch, divide
from classaug_ros.errors import ConfigError
from classaug_ros.images import Frame
from classaug_ros.labels import LabelMap
from classaug_ros.models import Model
from classaug_ros.rules import Rules

LEAD = 0.015
"""Seconds before the models are free at which the next frame is taken, to be decoded and prepared."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A frame ready for both models.

    Attributes:
        frame: the camera image, H x W.
        main, sub: the models' inputs, 1 x 3 x height x width float32; once they are with the models,
            preparing the next frame leaves them alone, and the one after it overwrites them.
    """

    frame: Frame
    main: NDArray[np.float32]
    sub: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Inferred:
    """A frame with what both models say of it, at their own resolutions.

    Attributes:
        frame: the camera image, H x W.
        main, sub: the models' outputs: scores classes x h x w float32, or labels h x w.
    """

    frame: Frame
    main: NDArray[Any]
    sub: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Augmented:
    """The result for one frame.

    Attributes:
        label: H x W ids of the output classes, uint8 or uint16.
        color: H x W x 3 uint8 RGB, the classes' colours; None unless asked for.
        overlay: H x W x 3 uint8 RGB, the frame blended with the colours; None unless asked for.
    """

    label: LabelMap
    color: NDArray[np.uint8] | None
    overlay: NDArray[np.uint8] | None


class Pipeline:
    """Runs a main and a sub model on frames and fuses their labels by rules.

    A frame goes through three steps: ``prepare``, ``infer``, ``fuse``. Each step takes one frame at a time; frames
    that follow each other may be in different steps at once, from threads of their own, as long as none overtakes
    another. ``augment`` and ``predict`` take one frame through all. The rules are given with each frame, so that a
    frame is wholly of one set of rules while they are exchanged.

    Attributes:
        main, sub: the models.
        concurrent: whether they run at once.
        threads: CPU threads of each.
        spare: the thread of the model that was done first with the last frame. What is run there while the next frame
            is with the models delays the model that has time to spare, and not the one that all wait for.
    """

    def __init__(self, main: Model, sub: Model, *, threads: int = 0, concurrent: bool = True) -> None:
        """Load both models.

        Args:
            main: the main model.
            sub: the sub model.
            threads: CPU threads in all; 0 means one per core this process may use.
            concurrent: run both models at once, the threads divided between them by what each costs, instead of one
                after the other with all threads each.

        Raises:
            EngineError: a model cannot be loaded, or is not what its card says.
        """
        total = threads or len(os.sched_getaffinity(0))
        self.main, self.sub = main, sub
        self.concurrent = concurrent
        self._lanes = ThreadPoolExecutor(1, "classaug-main"), ThreadPoolExecutor(1, "classaug-sub")
        self._helper = ThreadPoolExecutor(1, "classaug-fusion")
        self.spare: Executor = self._lanes[1]
        self._gap = 0.0  # seconds between the end of one model and the other's, with the last frame
        self._branches: tuple[Branch, ...] = ()
        try:
            self.threads = (max(total - total // 2, 1), max(total // 2, 1)) if concurrent else (total, total)
            self._branches = self._load(self.threads)
            if concurrent and total > 2:
                self._divide(total)
        except BaseException:
            self.close()
            raise

    def _load(self, threads: tuple[int, int]) -> tuple[Branch, Branch]:
        """Load both models at once."""
        loading = self._lanes[1].submit(Branch, self.sub, threads[1])
        try:
            main = Branch(self.main, threads[0])
        except BaseException:
            if loading.exception() is None:
                loading.result().close()
            raise
        try:
            return main, loading.result()
        except BaseException:
            main.close()
            raise

    def _divide(self, total: int) -> None:
        """Divide the threads by what each model costs, measured with the even share it has."""
        costs = [branch.seconds() * share for branch, share in zip(self.branches, self.threads, strict=True)]
        shares = divide(total, costs[0], costs[1])
        if shares != self.threads:
            for branch in self.branches:
                branch.close()
            self._branches = ()
            self._branches = self._load(shares)
            self.threads = shares

    def check(self, rules: Rules) -> None:
        """Refuse rules that were learned for other models than these.

        Raises:
            ConfigError: the classes differ, or a model file or card is not the one the rules were learned with.
        """
        learned = (
            ("main", self.main, rules.main_classes, rules.provenance.main_model),
            ("sub", self.sub, rules.sub_classes, rules.provenance.sub_model),
        )
        for role, model, names, fingerprint in learned:
            if names != model.card.classes.names:
                raise ConfigError(
                    f"the rules are for a {role} model with {len(names)} classes ({', '.join(names[:3])}, ...), "
                    f"but {model.path} has {len(model.card.classes)} ({', '.join(model.card.classes.names[:3])}, ...); "
                    "choose the matching rules or model"
                )
            if fingerprint != model.fingerprint:
                raise ConfigError(
                    f"the rules were learned with another {role} model (fingerprint {fingerprint[:12]}) than "
                    f"{model.path} ({model.fingerprint[:12]}); learn them again with `classaug learn`"
                )

    def prepare(self, frame: Frame) -> Prepared:
        """Resize and normalise a frame for both models."""
        main, sub = self.branches
        return Prepared(frame, main.prepare(frame), sub.prepare(frame))

    def infer(self, prepared: Prepared, room: Callable[[], None] = lambda: None) -> Inferred:
        """Run both models.

        Args:
            prepared: a frame.
            room: called once, when it is time to prepare the next frame: when one of two models that run at once is
                done and the other is ``LEAD`` seconds from it, else at the end; also when a model fails.

        Raises:
            EngineError: a model failed.
        """
        for branch in self.branches:
            branch.hand_over()
        main, sub = (
            partial(branch.infer, image)
            for branch, image in zip(self.branches, (prepared.main, prepared.sub), strict=True)
        )
        if not self.concurrent:
            try:
                return Inferred(prepared.frame, main(), sub())
            finally:
                room()
        running = [lane.submit(model) for lane, model in zip(self._lanes, (main, sub), strict=True)]
        first, _ = wait(running, return_when=FIRST_COMPLETED)
        first_done = time.monotonic()
        self.spare = self._lanes[min(map(running.index, first))]
        wait(running, timeout=self._gap - LEAD)  # a frame taken later is a newer one
        room()
        wait(running)  # the next frame may not come before both are done, whatever became of one
        self._gap = time.monotonic() - first_done
        return Inferred(prepared.frame, running[0].result(), running[1].result())

    def labels(self, inferred: Inferred, size: tuple[int, int] | None = None) -> tuple[LabelMap, LabelMap]:
        """Return the label maps of the main and the sub model.

        Args:
            inferred: what the models say of a frame.
            size: (H, W) of the label maps; the frame's when left out.

        Returns:
            Two H x W arrays of class ids, uint8 or uint16, of the main and of the sub model's classes.
        """
        size = size or inferred.frame.size
        main, sub = self.branches
        beside = self._helper.submit(sub.label, inferred.sub, size)
        return main.label(inferred.main, size), beside.result()

    def fuse(
        self, inferred: Inferred, rules: Rules, *, color: bool = False, overlay: bool = False, alpha: float = 0.5
    ) -> Augmented:
        """Return the augmented label map of a frame, and what else is asked for.

        Args:
            inferred: what the models say of the frame, H x W.
            rules: rules learned with these models.
            color: whether to return the classes' colours.
            overlay: whether to return the frame blended with them.
            alpha: weight of the colours in the overlay, 0..1.

        Raises:
            ConfigError: the rules do not pass ``check``.
        """
        self.check(rules)  # microseconds; the compiled look-up would read past a smaller table
        label, colors, blended = fusion.fuse(
            *self.labels(inferred),
            rules.table,
            palette=rules.output.palette() if color or overlay else None,
            frame=inferred.frame if overlay else None,
            alpha=alpha,
            workers=self._helper,
        )
        return Augmented(label, colors if color else None, blended)

    def predict(self, frame: Frame, size: tuple[int, int] | None = None) -> tuple[LabelMap, LabelMap]:
        """Return the label maps of a frame: ``prepare``, ``infer`` and ``labels`` in one."""
        return self.labels(self.infer(self.prepare(frame)), size)

    def augment(
        self, frame: Frame, rules: Rules, *, color: bool = False, overlay: bool = False, alpha: float = 0.5
    ) -> Augmented:
        """Return the result for a frame: ``prepare``, ``infer`` and ``fuse`` in one."""
        self.check(rules)
        return self.fuse(self.infer(self.prepare(frame)), rules, color=color, overlay=overlay, alpha=alpha)

    def close(self) -> None:
        """Release both models; calling it twice does no harm."""
        for lane in self._lanes:
            lane.shutdown()
        self._helper.shutdown()
        for branch in self._branches:
            branch.close()
        self._branches = ()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def branches(self) -> tuple[Branch, Branch]:
        """The main and the sub model's way, for measurements of single steps."""
        if not self._branches:
            raise RuntimeError("the pipeline is closed")
        main, sub = self._branches
        return main, sub
