"""What configuring the node loads: the models in a pipeline, and rules that fit them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classaug_ros import fusion
from classaug_ros.decision import Decision
from classaug_ros.errors import ConfigError
from classaug_ros.images import Frame
from classaug_ros.models import Model, ModelCard, load_model
from classaug_ros.node.parameters import Settings
from classaug_ros.node.worker import Terms
from classaug_ros.pipeline import Inferred, Pipeline
from classaug_ros.rules import Rules, RuleSet

BLACK = Frame(np.zeros((64, 64, 3), np.uint8), "rgb")


@dataclass(frozen=True)
class Loaded:
    """Models and rules in use, and the settings they came from."""

    settings: Settings
    pipeline: Pipeline
    rules: RuleSet

    @classmethod
    def load(cls, settings: Settings) -> Loaded:
        """Load models and rules.

        Raises:
            ConfigError: a model card or the rules are wrong, or do not fit each other or the settings.
            EngineError: a model cannot be loaded or run.
        """
        with ThreadPoolExecutor(1, "classaug-warm-up") as beside:
            warming = beside.submit(fusion.warm_up)
            pipeline = Pipeline(
                load_model(settings.main_model),
                *map(load_model, settings.sub_models),
                threads=settings.threads,
                concurrent=settings.concurrent,
                timeout=settings.engine_timeout,
            )
            try:
                rules = _load_rules(settings, pipeline)
                warming.result()  # a compiler at work beside them would make the models late
                pipeline.infer(pipeline.prepare(BLACK))  # what they need at their first run
                _warm_up(pipeline, rules)
                return cls(settings, pipeline, rules)
            except BaseException:
                pipeline.close()
                raise

    @property
    def broken(self) -> str:
        """Why the models run no more; empty where they run."""
        return self.pipeline.inference.broken

    def give_up(self, why: str) -> None:
        """End what the models do; they run no more until they are loaded anew."""
        self.pipeline.inference.give_up(why)

    def reload(self) -> None:
        """Load models that were given up anew.

        Raises:
            ConfigError: a file of a model is gone, or not what it was when the node was configured.
            EngineError: a model cannot be loaded.
        """
        paths = (self.settings.main_model, *self.settings.sub_models)
        for model, path in zip(self.pipeline.models, paths, strict=True):
            if load_model(path).fingerprint != model.fingerprint:
                raise ConfigError(
                    f"{model.path} or its card was changed since the node was configured; configure it again to use it"
                )
        self.pipeline.inference.reload()

    @property
    def terms(self) -> Terms:
        """On what terms frames are fused."""
        return Terms(self.rules, self.settings.decision, self.settings.overlay_alpha)

    def reloaded(self, settings: Settings) -> Loaded:
        """Return the same models with the rules that ``settings`` name now, read again.

        Raises:
            ConfigError: the rules are wrong or do not fit the models or the settings.
        """
        rules = _load_rules(settings, self.pipeline)
        _warm_up(self.pipeline, rules)
        return replace(self, settings=settings, rules=rules)

    def tuned(self, changes: Mapping[str, Any]) -> Loaded:
        """Return the same models and rules with the settings changed; see ``Settings.tuned``.

        Raises:
            ConfigError: the rules cannot do what is asked.
        """
        settings = self.settings.tuned(changes)
        settings.decision.check(self.rules)
        return replace(self, settings=settings)

    def description(self) -> dict[str, str]:
        """Return models, engines and rules in words, for the diagnostics."""
        described = self._engines()
        for name, source, rules in self._rules():
            described[name] = source
            described[f"{name} kind"] = _kind(rules)
            for field, value in asdict(rules.provenance).items():
                text = ", ".join(value) if isinstance(value, tuple) else str(value)
                described[f"{name} {field.replace('_', ' ')}"] = text
        decision = self.settings.decision
        return {
            **described,
            "output classes": str(len(self.rules.output)),
            "decision": f"prefer {decision.prefer}, min_confidence {decision.min_confidence:g}, "
            f"contours {'on' if decision.contours else 'off'}",
        }

    def in_short(self) -> tuple[str, ...]:
        """Return the same in a few lines, for the log."""
        return (*(f"{name}: {value}" for name, value in self._engines().items()), *self.rules_in_short())

    def rules_in_short(self) -> tuple[str, ...]:
        """Return a line about the rules in use of each sub model."""
        return tuple(
            f"{name}: {source}, {_kind(rules)}, {len(rules.output)} classes, learned on {rules.provenance.images} "
            f"images of {', '.join(rules.provenance.datasets)}, {rules.provenance.created}"
            for name, source, rules in self._rules()
        )

    def _engines(self) -> dict[str, str]:
        how = "all at once" if self.pipeline.concurrent else "one after the other"
        subs = self.pipeline.subs
        return {
            "main model": _model(self.pipeline.main),
            **{_numbered("sub model", number, len(subs)): _model(sub) for number, sub in enumerate(subs, start=1)},
            "engines": f"ONNX Runtime on the CPU, {how}, {' + '.join(map(str, self.pipeline.threads))} threads",
        }

    def _rules(self) -> Iterator[tuple[str, str, Rules]]:
        """Yield the rules of each sub model with their name here and where they come from."""
        sources = [str(path) for path in self.settings.rules_files] or ["the rules.* parameters"]
        for number, (source, rules) in enumerate(zip(sources, self.rules.rules, strict=True), start=1):
            yield _numbered("rules", number, len(sources)), source, rules


def _numbered(what: str, number: int, count: int) -> str:
    return what if count == 1 else f"{what} {number}"


def _model(model: Model) -> str:
    return f"{model.card.name}, {len(model.card.classes)} classes, {model.path}, {model.fingerprint[:12]}"


def _kind(rules: Rules) -> str:
    if rules.kind == "table" or rules.evidence is None:
        return "table"
    return f"probability (gamma {rules.evidence.gamma:g}, temperature {rules.evidence.temperature:g})"


def _blank(card: ModelCard) -> NDArray[Any]:
    """Return an output of the form a model's have."""
    size = card.output.height, card.output.width
    if card.output.kind == "labels":
        return np.zeros(size, card.classes.dtype)
    return np.zeros((len(card.classes), *size), np.float32)


def _load_rules(settings: Settings, pipeline: Pipeline) -> RuleSet:
    if settings.rules_files:
        rules = RuleSet([Rules.load(path) for path in settings.rules_files])
    else:
        rules = RuleSet([Rules.from_parameters(settings.rules)])
    pipeline.check(rules)
    settings.decision.check(rules)
    return rules


def _warm_up(pipeline: Pipeline, rules: RuleSet) -> None:
    """Decide in every way these models and rules can, so that no frame has to wait for a compiler.

    A worker may use the pipeline meanwhile: no model runs, and fusing changes nothing in it.
    """
    sample = Inferred(BLACK, tuple(_blank(model.card) for model in pipeline.models))
    pipeline.fuse(sample, rules, color=True, overlay=True)
    pipeline.fuse(sample, rules, confidence=True)
    if all(each.kind == "probability" for each in rules.rules):
        pipeline.fuse(sample, rules, Decision(contours=True))
