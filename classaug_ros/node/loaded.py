"""What configuring the node loads: two models in a pipeline, and rules that fit them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace

import numpy as np

from classaug_ros import fusion
from classaug_ros.images import Frame
from classaug_ros.models import Model, load_model
from classaug_ros.node.parameters import Settings
from classaug_ros.pipeline import Pipeline
from classaug_ros.rules import Rules


@dataclass(frozen=True)
class Loaded:
    """Models and rules in use, and the settings they came from."""

    settings: Settings
    pipeline: Pipeline
    rules: Rules

    @classmethod
    def load(cls, settings: Settings) -> Loaded:
        """Load models and rules.

        Raises:
            ConfigError: a model card or the rules are wrong, or do not fit each other.
            EngineError: a model cannot be loaded or run.
        """
        with ThreadPoolExecutor(1, "classaug-warm-up") as beside:
            warming = beside.submit(fusion.warm_up)
            pipeline = Pipeline(
                load_model(settings.main_model),
                load_model(settings.sub_model),
                threads=settings.threads,
                concurrent=settings.concurrent,
            )
            try:
                rules = _load_rules(settings, pipeline)
                inferred = pipeline.infer(pipeline.prepare(Frame(np.zeros((64, 64, 3), np.uint8), "rgb")))
                warming.result()
                pipeline.fuse(inferred, rules, color=True, overlay=True)  # what these models need besides
                return cls(settings, pipeline, rules)
            except BaseException:
                pipeline.close()
                raise

    def reloaded(self, settings: Settings) -> Loaded:
        """Return the same models with the rules that ``settings`` name now, read again.

        Raises:
            ConfigError: the rules are wrong or do not fit the models.
        """
        return replace(self, settings=settings, rules=_load_rules(settings, self.pipeline))

    def description(self) -> dict[str, str]:
        """Return models, engines and rules in words, for the diagnostics."""
        return {
            **self._engines(),
            "rules": self._rules_source(),
            "rules output classes": str(len(self.rules.output)),
            **{
                f"rules {field.replace('_', ' ')}": ", ".join(value) if isinstance(value, tuple) else str(value)
                for field, value in asdict(self.rules.provenance).items()
            },
        }

    def in_short(self) -> tuple[str, ...]:
        """Return the same in a few lines, for the log."""
        return (*(f"{name}: {value}" for name, value in self._engines().items()), self.rules_in_short())

    def rules_in_short(self) -> str:
        """Return a line about the rules in use."""
        learned = self.rules.provenance
        return (
            f"rules: {self._rules_source()}, {len(self.rules.output)} classes, learned on {learned.images} images of "
            f"{', '.join(learned.datasets)}, {learned.created}"
        )

    def _engines(self) -> dict[str, str]:
        how = "both at once" if self.pipeline.concurrent else "one after the other"
        threads = " and ".join(map(str, self.pipeline.threads))
        return {
            "main model": _model(self.pipeline.main),
            "sub model": _model(self.pipeline.sub),
            "engines": f"ONNX Runtime on the CPU, {how}, {threads} threads",
        }

    def _rules_source(self) -> str:
        return str(self.settings.rules_file or "the rules.* parameters")


def _model(model: Model) -> str:
    return f"{model.card.name}, {len(model.card.classes)} classes, {model.path}, {model.fingerprint[:12]}"


def _load_rules(settings: Settings, pipeline: Pipeline) -> Rules:
    rules = Rules.load(settings.rules_file) if settings.rules_file else Rules.from_parameters(settings.rules)
    pipeline.check(rules)
    return rules
