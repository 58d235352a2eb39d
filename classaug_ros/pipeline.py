"""Pipeline: frame -> both models at once -> fusion. It knows no ROS; node, learning and evaluation all run it."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classaug_ros import fusion
from classaug_ros.engines import load_engine
from classaug_ros.errors import ConfigError
from classaug_ros.images import Frame
from classaug_ros.labels import LabelMap
from classaug_ros.models import Model
from classaug_ros.preprocess import Preprocessor
from classaug_ros.rules import Rules


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

    One frame at a time, from one thread. The rules are given with each frame, so that a frame is wholly of one set
    of rules while they are exchanged.
    """

    def __init__(self, main: Model, sub: Model, *, threads: int = 0, concurrent: bool = True) -> None:
        """Load both models.

        Args:
            main: the main model.
            sub: the sub model.
            threads: CPU threads in all; 0 means one per core this process may use.
            concurrent: run both models at once, the threads divided between them, instead of one after the other
                with all threads each.

        Raises:
            EngineError: a model cannot be loaded, or is not what its card says.
        """
        total = threads or len(os.sched_getaffinity(0))
        shares = (max(total - total // 2, 1), max(total // 2, 1)) if concurrent else (total, total)
        self.main, self.sub = main, sub
        self.concurrent, self.threads = concurrent, shares
        # The main model runs in the caller's thread, the sub model beside it in this one.
        self._beside = ThreadPoolExecutor(1, "classaug-sub")
        self._main = self._sub = None
        try:
            loading = self._beside.submit(Branch, sub, shares[1])
            self._main = Branch(main, shares[0])
            self._sub = loading.result()
        except BaseException:
            self.close()
            raise

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

    def predict(self, frame: Frame, size: tuple[int, int] | None = None) -> tuple[LabelMap, LabelMap]:
        """Return the label maps of the main and the sub model.

        Args:
            frame: the camera image.
            size: (H, W) of the label maps; the frame's when left out.

        Returns:
            Two H x W arrays of class ids, uint8 or uint16, of the main and of the sub model's classes.

        Raises:
            EngineError: a model failed.
        """
        size = size or frame.size
        main, sub = self.branches
        if not self.concurrent:
            return main.run(frame, size), sub.run(frame, size)
        beside: Future[LabelMap] = self._beside.submit(sub.run, frame, size)
        try:
            labels = main.run(frame, size)
        finally:
            error = beside.exception()  # waits: the frame's memory is in use until both are done
        if error is not None:
            raise error
        return labels, beside.result()

    def augment(
        self, frame: Frame, rules: Rules, *, color: bool = False, overlay: bool = False, alpha: float = 0.5
    ) -> Augmented:
        """Return the augmented label map of a frame, and what else is asked for.

        Args:
            frame: the camera image, H x W.
            rules: rules learned with these models.
            color: whether to return the classes' colours.
            overlay: whether to return the frame blended with them.
            alpha: weight of the colours in the overlay, 0..1.

        Raises:
            ConfigError: the rules do not pass ``check``.
            EngineError: a model failed.
        """
        self.check(rules)  # microseconds; the compiled look-up would read past a smaller table
        label, colors, blended = fusion.fuse(
            *self.predict(frame),
            rules.table,
            palette=rules.output.palette() if color or overlay else None,
            frame=frame if overlay else None,
            alpha=alpha,
            workers=self._beside if self.concurrent else None,
        )
        return Augmented(label, colors if color else None, blended)

    def close(self) -> None:
        """Release both models; calling it twice does no harm."""
        self._beside.shutdown()
        for branch in (self._main, self._sub):
            if branch is not None:
                branch.close()
        self._main = self._sub = None

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def branches(self) -> tuple[Branch, Branch]:
        """The main and the sub model's way, for measurements of single steps."""
        if self._main is None or self._sub is None:
            raise RuntimeError("the pipeline is closed")
        return self._main, self._sub


class Branch:
    """One model's way from frame to label map, in its three steps."""

    def __init__(self, model: Model, threads: int) -> None:
        """Load ``model`` for ``threads`` CPU threads; EngineError when it cannot be."""
        self._card = model.card
        self._preprocess = Preprocessor(model.card.input)
        self._engine = load_engine(model, threads)

    def prepare(self, frame: Frame) -> NDArray[np.float32]:
        """Return the model's input, 1 x 3 x height x width float32; the buffer is reused by the next call."""
        return self._preprocess(frame)

    def infer(self, image: NDArray[np.float32]) -> NDArray[Any]:
        """Return the model's output: scores classes x h x w float32, or labels h x w."""
        output: NDArray[Any] = self._engine.run(image)[0]
        return output

    def label(self, output: NDArray[Any], size: tuple[int, int]) -> LabelMap:
        """Return the label map, H x W, of an output."""
        if self._card.output.kind == "labels":
            return fusion.nearest(output, size)
        return fusion.label_map(output, size, self._card.output.upsample, self._card.classes.dtype)

    def run(self, frame: Frame, size: tuple[int, int]) -> LabelMap:
        """Return the model's labels, H x W, of a frame."""
        return self.label(self.infer(self.prepare(frame)), size)

    def close(self) -> None:
        """Release the model."""
        self._engine.close()
