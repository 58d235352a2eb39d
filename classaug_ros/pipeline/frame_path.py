"""The way of a live frame through models and fusion, as the node takes it: here on the CPU, in ``gpu`` on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import astuple, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from classaug_ros.errors import OutputError
from classaug_ros.imaging.images import Frame
from classaug_ros.models.card import Model, ModelCard
from classaug_ros.pipeline.cpu import Augmented, Inferred, Pipeline, Prepared
from classaug_ros.rules import RuleSet
from classaug_ros.rules.decision import Decision

BLACK = Frame(np.zeros((64, 64, 3), np.uint8), "rgb")


@dataclass(frozen=True)
class RequestedOutputs:
    """Which outputs of a camera somebody subscribes to."""

    label: bool
    overlay: bool
    color: bool
    confidence: bool

    def __bool__(self) -> bool:
        return self.label or self.overlay or self.color or self.confidence

    @classmethod
    def union(cls, several: Iterable[RequestedOutputs]) -> RequestedOutputs:
        """Return what one of several wants."""
        return cls(*map(any, zip(*map(astuple, several), strict=True)))


@dataclass(frozen=True)
class FusionConfig:
    """What frames are fused by; the same for the same rules, not for equal ones.

    Attributes:
        rules: the rules of every sub model.
        decision: how labels are decided for; the rules can do it.
        alpha: share of the colours in the overlay, 0..1.
    """

    rules: RuleSet
    decision: Decision
    alpha: float


class FramePath(Protocol):
    """Models and fusion, in three steps: ``prepare``, ``infer``, ``fuse``.

    Each step takes one frame at a time, or one batch; those that follow each other may be in different steps at once,
    from threads of their own, as long as none overtakes another.

    Attributes:
        models: main first.
        steps: what the time until ``infer`` returns is spent on, and that until ``fuse`` does, for the diagnostics.
    """

    models: tuple[Model, ...]
    steps: tuple[str, str]

    @property
    def batch(self) -> int:
        """Frames that are taken through at once, at most."""

    @property
    def spare(self) -> Executor:
        """A thread in which to ``fuse`` and to publish, so that nothing that others wait for is delayed."""

    @property
    def engines(self) -> str:
        """What the models run on, in words."""

    @property
    def broken(self) -> str:
        """Why the models run no more; empty where they run."""

    @property
    def busy(self) -> bool:
        """Whether a frame is with the models."""

    @property
    def given_up(self) -> int:
        """How often the models were given up."""

    def check(self, rules: RuleSet, decision: Decision) -> None:
        """Refuse rules of other models, and what cannot be decided for with these.

        Raises:
            ConfigError: see ``Pipeline.check`` and ``Decision.check``.
        """

    def prepare(self, frames: Sequence[Frame]) -> Any:
        """Make frames ready for the models, ``batch`` at most; ImageError where pixels cannot be had."""

    def infer(self, prepared: Any, config: FusionConfig, wanted: RequestedOutputs, on_free: Callable[[], None]) -> Any:
        """Have the models run.

        Args:
            prepared: from ``prepare``.
            config: what the frames will be fused by.
            wanted: what will be made of them.
            on_free: called once, when it is time to prepare the next frames; also when a model fails.

        Raises:
            EngineError: a model failed, they did not answer in time, or were given up.
        """

    def fuse(self, inferred: Any) -> Sequence[Augmented | OutputError]:
        """Return what is wanted of each frame, in the order in which they were prepared, or why that cannot be had.

        Raises:
            EngineError: as ``infer``.
        """

    def warm_up(self, rules: RuleSet) -> None:
        """Do all that would make a first frame wait. Frames may be in any step meanwhile."""

    def give_up(self, why: str) -> None:
        """End what the models do; they run no more until they are loaded anew. Any thread may ask for it."""

    def reload(self) -> None:
        """Load models that were given up anew; EngineError where they cannot be."""

    def close(self) -> None:
        """Release the models; calling it twice does no harm."""


@dataclass(frozen=True, eq=False)
class FusionRequest:
    """What the models say of a frame, and what is asked for."""

    outputs: Inferred
    config: FusionConfig
    wanted: RequestedOutputs


class CpuPath:
    """The pipeline as a frame path; see ``FramePath``."""

    batch = 1
    steps = ("engines", "fusion")

    def __init__(self, pipeline: Pipeline) -> None:
        """Take frames through a pipeline, which is closed with the path."""
        self.models = pipeline.models
        self._pipeline = pipeline

    @property
    def spare(self) -> Executor:
        """See ``FramePath.spare``."""
        return self._pipeline.spare

    @property
    def engines(self) -> str:
        """See ``FramePath.engines``."""
        how = "all at once" if self._pipeline.concurrent else "one after the other"
        return f"ONNX Runtime on the CPU, {how}, {' + '.join(map(str, self._pipeline.threads))} threads"

    @property
    def broken(self) -> str:
        """See ``FramePath.broken``."""
        return self._pipeline.inference.broken

    @property
    def busy(self) -> bool:
        """See ``FramePath.busy``."""
        return self._pipeline.inference.busy

    @property
    def given_up(self) -> int:
        """See ``FramePath.given_up``."""
        return self._pipeline.inference.given_up

    def check(self, rules: RuleSet, decision: Decision) -> None:
        """See ``FramePath.check``."""
        self._pipeline.check(rules)
        decision.check(rules)

    def prepare(self, frames: Sequence[Frame]) -> Prepared:
        """See ``FramePath.prepare``."""
        (frame,) = frames
        return self._pipeline.prepare(frame)

    def infer(
        self, prepared: Prepared, config: FusionConfig, wanted: RequestedOutputs, on_free: Callable[[], None]
    ) -> FusionRequest:
        """See ``FramePath.infer``."""
        return FusionRequest(self._pipeline.infer(prepared, on_free), config, wanted)

    def fuse(self, inferred: FusionRequest) -> list[Augmented]:
        """See ``FramePath.fuse``."""
        config, wanted = inferred.config, inferred.wanted
        how = {"confidence": wanted.confidence, "color": wanted.color, "overlay": wanted.overlay}
        return [self._pipeline.fuse(inferred.outputs, config.rules, config.decision, alpha=config.alpha, **how)]

    def warm_up(self, rules: RuleSet) -> None:
        """Decide in every way these models and rules can, so that no frame has to wait for a compiler.

        Frames may be fused meanwhile: no model runs, and fusing changes nothing in the pipeline.
        """
        sample = Inferred(BLACK, tuple(_blank(model.card) for model in self.models))
        self._pipeline.fuse(sample, rules, color=True, overlay=True)
        self._pipeline.fuse(sample, rules, confidence=True)
        if all(each.kind == "probability" for each in rules.rules):
            self._pipeline.fuse(sample, rules, Decision(contours=True))

    def give_up(self, why: str) -> None:
        """See ``FramePath.give_up``."""
        self._pipeline.inference.give_up(why)

    def reload(self) -> None:
        """See ``FramePath.reload``."""
        self._pipeline.inference.reload()

    def close(self) -> None:
        """See ``FramePath.close``."""
        self._pipeline.close()


def _blank(card: ModelCard) -> NDArray[Any]:
    """Return an output of the form a model's have."""
    size = card.output.height, card.output.width
    if card.output.kind == "labels":
        return np.zeros(size, card.classes.dtype)
    return np.zeros((len(card.classes), *size), np.float32)
