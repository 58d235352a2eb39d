"""What configuring the node loads: the models in a pipeline, and rules that fit them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

from classaug_ros import fusion
from classaug_ros.errors import ConfigError, EngineError, first_line, missing
from classaug_ros.models.card import Model, load_model
from classaug_ros.node.parameters import Settings
from classaug_ros.pipeline.cpu import Pipeline
from classaug_ros.pipeline.frame_path import BLACK, CpuPath, FramePath, FusionConfig, RequestedOutputs
from classaug_ros.rules import Rules, RuleSet


@dataclass(frozen=True)
class Loaded:
    """Models and rules in use, and the settings they came from."""

    settings: Settings
    path: FramePath
    rules: RuleSet

    @classmethod
    def load(cls, settings: Settings, log: Callable[[str], None]) -> Loaded:
        """Load models and rules.

        Args:
            settings: which ones.
            log: takes a line about what takes long.

        Raises:
            ConfigError: a model card or the rules are wrong, or do not fit each other or the settings.
            EngineError: a model cannot be loaded or run.
        """
        with fusion.telling(log):
            path = _path(settings, log)
            try:
                loaded = cls(settings, path, _load_rules(settings, path))
                everything = RequestedOutputs(label=True, overlay=True, color=True, confidence=True)
                # What the models need at their first run.
                path.fuse(path.infer(path.prepare([BLACK]), loaded.config, everything, lambda: None))
                path.warm_up(loaded.rules)
            except BaseException:
                path.close()
                raise
        return loaded

    @property
    def broken(self) -> str:
        """Why the models run no more; empty where they run."""
        return self.path.broken

    def give_up(self, why: str) -> None:
        """End what the models do; they run no more until they are loaded anew."""
        self.path.give_up(why)

    def reload(self) -> None:
        """Load models that were given up anew.

        Raises:
            ConfigError: a file of a model is gone, or not what it was when the node was configured.
            EngineError: a model cannot be loaded.
        """
        paths = (self.settings.main_model, *self.settings.sub_models)
        for model, path in zip(self.path.models, paths, strict=True):
            if load_model(path).fingerprint != model.fingerprint:
                raise ConfigError(
                    f"{model.path} or its card was changed since the node was configured; configure it again to use it"
                )
        self.path.reload()

    @property
    def config(self) -> FusionConfig:
        """What frames are fused by."""
        return FusionConfig(self.rules, self.settings.decision, self.settings.overlay_alpha)

    def reloaded(self, settings: Settings) -> Loaded:
        """Return the same models with the rules that ``settings`` name now, read again.

        Raises:
            ConfigError: the rules are wrong or do not fit the models or the settings.
        """
        rules = _load_rules(settings, self.path)
        self.path.warm_up(rules)
        return replace(self, settings=settings, rules=rules)

    def tuned(self, changes: Mapping[str, Any]) -> Loaded:
        """Return the same models and rules with the settings changed; see ``Settings.tuned``.

        Raises:
            ConfigError: the rules cannot do what is asked.
        """
        settings = self.settings.tuned(changes)
        self.path.check(self.rules, settings.decision)
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
        main, *subs = self.path.models
        return {
            "main model": _model(main),
            **{_numbered("sub model", number, len(subs)): _model(sub) for number, sub in enumerate(subs, start=1)},
            "engines": self.path.engines,
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


def _path(settings: Settings, log: Callable[[str], None]) -> FramePath:
    """Load the models where they are to run."""
    if settings.device == "cuda":
        try:
            from classaug_ros.pipeline.gpu import GpuPath
        except ModuleNotFoundError as error:
            raise EngineError(
                f"parameter device is cuda, but {missing(error, 'it', 'gpu')}; or set device to cpu"
            ) from error
        except ImportError as error:  # a library that PyTorch or Triton needs
            raise EngineError(f"parameter device is cuda, but {first_line(error)}; or set device to cpu") from error
        models = [load_model(path) for path in (settings.main_model, *settings.sub_models)]
        return GpuPath(models, settings.device, settings.gpu, log)
    with ThreadPoolExecutor(1, "classaug-warm-up") as beside:
        warming = beside.submit(fusion.warm_up)
        pipeline = Pipeline(
            load_model(settings.main_model),
            *map(load_model, settings.sub_models),
            threads=settings.threads,
            concurrent=settings.concurrent,
            timeout=settings.engine_timeout,
        )
        warming.result()  # a compiler at work beside them would make the models late
    return CpuPath(pipeline)


def _load_rules(settings: Settings, path: FramePath) -> RuleSet:
    if settings.rules_files:
        rules = RuleSet([Rules.load(path) for path in settings.rules_files])
    else:
        rules = RuleSet([Rules.from_parameters(settings.rules)])
    path.check(rules, settings.decision)
    return rules
