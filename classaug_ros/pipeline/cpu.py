"""Pipeline: frame -> all models at once -> fusion. It knows no ROS; node, learning and evaluation all run it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classaug_ros import fusion
from classaug_ros.engines import CPU, Where
from classaug_ros.engines.inference import Inference
from classaug_ros.engines.model_runner import ModelRunner
from classaug_ros.errors import ConfigError
from classaug_ros.imaging.images import Frame
from classaug_ros.models.card import Model
from classaug_ros.models.labels import LabelMap
from classaug_ros.pipeline.cpu_decider import Decided, Decider
from classaug_ros.rules import RuleSet
from classaug_ros.rules.decision import Decision


@dataclass(frozen=True, eq=False)
class Prepared:
    """A frame ready for all models.

    Attributes:
        frame: the camera image, H x W.
        images: the models' inputs, main first, 1 x 3 x height x width float32; once they are with the models,
            preparing the next frame leaves them alone, and the one after it overwrites them.
    """

    frame: Frame
    images: tuple[NDArray[np.float32], ...]


@dataclass(frozen=True, eq=False)
class Inferred:
    """A frame with what the models say of it, at their own resolutions.

    Attributes:
        frame: the camera image, H x W.
        outputs: the models' outputs, main first: scores classes x h x w float32, or labels h x w.
    """

    frame: Frame
    outputs: tuple[NDArray[Any], ...]


@dataclass(frozen=True, eq=False)
class Augmented:
    """The result for one frame.

    Attributes:
        label: H x W ids of the output classes, uint8 or uint16.
        confidence: H x W uint8, 0..255 for 0..1; None unless asked for.
        color: H x W x 3 uint8 RGB, the classes' colours; None unless asked for.
        overlay: H x W x 3 uint8 RGB, the frame blended with the colours; None unless asked for.
    """

    label: LabelMap
    confidence: NDArray[np.uint8] | None
    color: NDArray[np.uint8] | None
    overlay: NDArray[np.uint8] | None


class Pipeline:
    """Runs a main and one or several sub models on frames and fuses what they say by rules.

    A frame goes through three steps: ``prepare``, ``infer``, ``fuse``. Each step takes one frame at a time; frames
    that follow each other may be in different steps at once, from threads of their own, as long as none overtakes
    another. ``augment`` and ``predict`` take one frame through all. The rules are given with each frame, so that a
    frame is wholly of one set of rules while they are exchanged.

    Attributes:
        main: the main model.
        subs: the sub models, in the order of their rules.
        concurrent: whether they run at once.
        inference: the models where they run.
    """

    def __init__(
        self,
        main: Model,
        *subs: Model,
        threads: int = 0,
        concurrent: bool = True,
        timeout: float = math.inf,
        where: Where = CPU,
    ) -> None:
        """Load all models.

        Args:
            main: the main model.
            subs: the sub models, at least one.
            threads: CPU threads in all; 0 means one per core this process may use.
            concurrent: run the models at once, the threads divided among them by what each costs, instead of one
                after the other with all threads each.
            timeout: seconds that a model has for a frame.
            where: where the models run; all else is done on the CPU.

        Raises:
            EngineError: a model cannot be loaded, is not what its card says, or does not answer in time.
        """
        self.main, self.subs = main, subs
        self.models = (main, *subs)
        self.concurrent = concurrent
        self.inference = Inference(self.models, threads, concurrent=concurrent, timeout=timeout, where=where)
        self._helper = ThreadPoolExecutor(1, "classaug-fusion")
        self._decider = Decider(self.runners, self._helper)

    @property
    def threads(self) -> tuple[int, ...]:
        """CPU threads of each model, main first."""
        return self.inference.threads

    @property
    def spare(self) -> Executor:
        """The thread of the model that was done first with the last frame.

        What is run there while the next frame is with the models delays the model that has time to spare, and not the
        one that all wait for.
        """
        return self.inference.spare

    @property
    def runners(self) -> tuple[ModelRunner, ...]:
        """What runs each model, main first, for measurements of single steps."""
        return self.inference.runners

    def check(self, rules: RuleSet) -> None:
        """Refuse rules that were learned for other models than these.

        Raises:
            ConfigError: there are rules for more or fewer sub models, the classes differ, or a model file or card is
                not the one the rules were learned with.
        """
        check_rules(self.models, rules)

    def prepare(self, frame: Frame) -> Prepared:
        """Resize and normalise a frame for all models."""
        return Prepared(frame, tuple(runner.prepare(frame) for runner in self.runners))

    def infer(self, prepared: Prepared, on_free: Callable[[], None] = lambda: None) -> Inferred:
        """Run all models.

        Args:
            prepared: a frame.
            on_free: called once, when it is time to prepare the next frame: when one of several models that run at
                once is done and the last is about to be, else at the end; also when a model fails.

        Raises:
            EngineError: a model failed, they did not answer in time, or were given up.
        """
        return Inferred(prepared.frame, self.inference.run(prepared.images, on_free))

    def labels(self, inferred: Inferred, size: tuple[int, int] | None = None) -> tuple[LabelMap, ...]:
        """Return the label maps of each model alone.

        Args:
            inferred: what the models say of a frame.
            size: (H, W) of the label maps; the frame's when left out.

        Returns:
            H x W arrays of class ids, uint8 or uint16, main first, each of its own model's classes.
        """
        size = size or inferred.frame.size
        (main, *subs), (output, *others) = self.runners, inferred.outputs
        beside = [self._helper.submit(sub.label, each, size) for sub, each in zip(subs, others, strict=True)]
        return (main.label(output, size), *(each.result() for each in beside))

    def scores(self, inferred: Inferred) -> tuple[fusion.Scores, ...]:
        """Return the scores of each model, main first, of which none may return labels."""
        return tuple(runner.scores(output) for runner, output in zip(self.runners, inferred.outputs, strict=True))

    def decide(
        self,
        inferred: Inferred,
        rules: RuleSet,
        decision: Decision = Decision(),  # noqa: B008 (frozen)
        *,
        confidence: bool = False,
        size: tuple[int, int] | None = None,
    ) -> Decided:
        """Return the label of each pixel of a frame.

        Args:
            inferred: what the models say of the frame.
            rules: rules learned with these models.
            decision: how to decide.
            confidence: whether it is asked for.
            size: (H, W) of the label map; the frame's when left out.

        Raises:
            ConfigError: the rules do not pass ``check``, or cannot do what ``decision`` asks.
        """
        self.check(rules)  # microseconds; the compiled look-up would read past a smaller table
        decision.check(rules)
        size = size or inferred.frame.size
        return self._decider.decide(inferred.outputs, inferred.frame, rules, decision, size, confidence=confidence)

    def fuse(
        self,
        inferred: Inferred,
        rules: RuleSet,
        decision: Decision = Decision(),  # noqa: B008 (frozen)
        *,
        confidence: bool = False,
        color: bool = False,
        overlay: bool = False,
        alpha: float = 0.5,
    ) -> Augmented:
        """Return the augmented label map of a frame, and what else is asked for.

        Args:
            inferred: what the models say of the frame, H x W.
            rules: rules learned with these models.
            decision: how labels are decided for.
            confidence: whether to return how sure they are.
            color: whether to return the classes' colours.
            overlay: whether to return the frame blended with them.
            alpha: weight of the colours in the overlay, 0..1.

        Raises:
            ConfigError: the rules do not pass ``check``, or cannot do what ``decision`` asks.
        """
        decided = self.decide(inferred, rules, decision, confidence=confidence)
        if not (color or overlay):
            return Augmented(decided.label, decided.confidence, None, None)
        frame = inferred.frame if overlay else None
        colors, blended = fusion.paint(decided.label, rules.output.palette(), frame, alpha, self._helper)
        return Augmented(decided.label, decided.confidence, colors if color else None, blended)

    def predict(self, frame: Frame, size: tuple[int, int] | None = None) -> tuple[LabelMap, ...]:
        """Return the label maps of each model of a frame: ``prepare``, ``infer`` and ``labels`` in one."""
        return self.labels(self.infer(self.prepare(frame)), size)

    def augment(
        self,
        frame: Frame,
        rules: RuleSet,
        decision: Decision = Decision(),  # noqa: B008 (frozen)
        **wanted: Any,
    ) -> Augmented:
        """Return the result for a frame: ``prepare``, ``infer`` and ``fuse``, whose options it takes, in one."""
        self.check(rules)
        return self.fuse(self.infer(self.prepare(frame)), rules, decision, **wanted)

    def close(self) -> None:
        """Release the models; calling it twice does no harm."""
        self.inference.close()
        self._helper.shutdown()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:  # Ctrl-C, say, may have come while a model hangs
            self.inference.give_up("the pipeline was left")
        self.close()


def check_rules(models: Sequence[Model], rules: RuleSet) -> None:
    """Refuse rules that were learned for other models than these, main first; see ``Pipeline.check``."""
    main, *subs = models
    if len(rules.rules) != len(subs):
        raise ConfigError(
            f"there are rules for {len(rules.rules)} sub models, but {len(subs)} sub models; give each its own"
        )
    for sub, each in zip(subs, rules.rules, strict=True):
        _check_model("main", main, each.main_classes, each.provenance.main_model)
        _check_model("sub", sub, each.sub_classes, each.provenance.sub_model)


def _check_model(role: str, model: Model, names: tuple[str, ...], fingerprint: str) -> None:
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
