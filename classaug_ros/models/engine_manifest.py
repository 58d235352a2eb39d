"""What a file beside a TensorRT engine tells: what it was built from, how, by what and for which GPU."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from classaug_ros.errors import ConfigError, quoted
from classaug_ros.io.yamlfile import Section, read_mapping

ENGINE_SUFFIX = ".engine"
NO_GPU = "none"
"""Instead of a GPU's name and compute capability: built where there was none, for any GPU that TensorRT-RTX runs on."""
MAX_BATCH = 64

Precision = Literal["fp16", "fp32"]


@dataclass(frozen=True)
class BuildOptions:
    """How to build an engine.

    Attributes:
        precision: what it computes with inside; its input stays float32, and its scores do.
        batch: the least number of images at a time, the one it is to be fastest for, and the most.

    Raises:
        ConfigError: the batch sizes are not in this order, less than 1 or more than ``MAX_BATCH``.
    """

    precision: Precision = "fp16"
    batch: tuple[int, int, int] = (1, 1, 1)

    def __post_init__(self) -> None:
        least, best, most = self.batch
        if not 1 <= least <= best <= most <= MAX_BATCH:
            raise ConfigError(
                f"batch {least} {best} {most}: expected least, best and most images at a time, 1 to {MAX_BATCH}, "
                "in this order"
            )


@dataclass(frozen=True)
class Machine:
    """What an engine is bound to.

    Attributes:
        tensorrt: module and version, such as ``tensorrt 10.13.3.9``.
        gpu: the GPU's name, or ``none``.
        capability: its compute capability, such as ``8.7``, or ``none``.
    """

    tensorrt: str
    gpu: str = NO_GPU
    capability: str = NO_GPU


@dataclass(frozen=True)
class EngineManifest:
    """What an engine was built from, how, by what and for which GPU.

    Attributes:
        source: name of the ONNX file.
        model: ``Model.fingerprint`` of it; the engine takes its place, also for rules.
        card: ``ModelCard.fingerprint``.
        options: how it was built.
        machine: by what, and for which GPU.
        engine: SHA-256 of the engine file.
    """

    source: str
    model: str
    card: str
    options: BuildOptions
    machine: Machine
    engine: str

    @classmethod
    def load(cls, path: Path) -> EngineManifest:
        """Read a manifest.

        Raises:
            ConfigError: it is missing or malformed.
        """
        keys = {"source", "model", "card", "engine", "precision", "batch", "tensorrt", "gpu", "capability"}
        top = Section(read_mapping(path), str(path), keys)
        batch = top.list_of("batch", int)
        if len(batch) != 3:
            raise ConfigError(f"{path}: batch: expected three numbers, found {len(batch)}")
        precisions: tuple[Precision, ...] = ("fp16", "fp32")
        precision = top.choice("precision", precisions)
        try:
            options = BuildOptions(precision, (batch[0], batch[1], batch[2]))
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
        return cls(
            top.get("source", str),
            top.get("model", str),
            top.get("card", str),
            options,
            Machine(top.get("tensorrt", str), top.get("gpu", str), top.get("capability", str)),
            top.get("engine", str),
        )

    def text(self) -> bytes:
        """Return the file's content."""
        entries = {
            "source": self.source,
            "model": self.model,
            "card": self.card,
            "engine": self.engine,
            "precision": self.options.precision,
            "batch": self.options.batch,
            "tensorrt": self.machine.tensorrt,
            "gpu": self.machine.gpu,
            "capability": self.machine.capability,
        }
        lines = [f"{key}: {json.dumps(value)}" for key, value in entries.items()]
        head = "# Of the TensorRT engine of this name. The engine is used only where all of this is still so."
        return "\n".join((head, *lines, "")).encode()

    @property
    def remedy(self) -> str:
        """What to do about an engine that will not do."""
        return f"build it again by `classaug build-engine` from {quoted(self.source)}"

    def disagreement(self, wanted: EngineManifest) -> str | None:
        """Return the first thing that is not as wanted, in words; None where the engine will do."""
        differences = (
            (self.card != wanted.card, "the model card has changed since"),
            (self.model != wanted.model, "it was built from another model"),
            (
                self.options.precision != wanted.options.precision,
                f"it computes in {self.options.precision}, not in {wanted.options.precision}",
            ),
            (
                self.options.batch != wanted.options.batch,
                f"it is for batches of {_batch(self.options)}, not of {_batch(wanted.options)}",
            ),
            (self.engine != wanted.engine, "the file is not the one that was built, it is damaged or another"),
        )
        return next((words for differs, words in differences if differs), None) or self.foreign(wanted.machine)

    def foreign(self, here: Machine) -> str | None:
        """Return why the engine cannot be used on a machine, in words; None where it can."""
        if self.machine.tensorrt != here.tensorrt:
            return f"it was built by {self.machine.tensorrt}, here is {here.tensorrt}"
        if self.machine.gpu != NO_GPU and self.machine != here:
            return f"it was built for {_gpu(self.machine)}, here is {_gpu(here)}"
        return None


def manifest_path(engine: Path) -> Path:
    """Return where the manifest of an engine file lies."""
    return engine.with_name(f"{engine.name}.yaml")


def _batch(options: BuildOptions) -> str:
    return " ".join(map(str, options.batch))


def _gpu(machine: Machine) -> str:
    if machine.gpu == NO_GPU:
        return "no GPU"
    return f"an {machine.gpu} of compute capability {machine.capability}"
