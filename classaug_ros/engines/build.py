"""Building TensorRT engines, and finding those that were built before."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import torch
from tqdm import tqdm

from classaug_ros.engines.device import on
from classaug_ros.engines.network import network
from classaug_ros.engines.trt import ALONE, call, logger, machine, trt
from classaug_ros.errors import ConfigError, EngineError
from classaug_ros.io.files import kind_of, read_whole, write_all
from classaug_ros.io.yamlfile import fingerprint
from classaug_ros.models.card import Model
from classaug_ros.models.engine_manifest import ENGINE_SUFFIX, BuildOptions, EngineManifest, manifest_path

POLL = 0.2
"""Seconds between two looks at whether another process is done with an engine."""

_messages = logging.getLogger(__name__)


@dataclass(frozen=True)
class Building:
    """Who watches a build, and may end it.

    Attributes:
        shown: whether a bar on the terminal shows how far it is.
        interrupted: the build ends soon after this is set.
    """

    shown: bool = False
    interrupted: threading.Event = field(default_factory=threading.Event)


def find_or_build(
    model: Model,
    options: BuildOptions,
    device: torch.device,
    log: Callable[[str], None],
    *,
    path: Path | None = None,
    force: bool = False,
    building: Building | None = None,
) -> tuple[Path, bytes]:
    """Return an engine for a model, built unless there is one with which everything agrees.

    Args:
        model: an ONNX model with its card.
        options: how to build it.
        device: the GPU it is for; ``cpu`` builds for any that TensorRT-RTX runs on.
        log: told in one line which engine is used, or why it is built.
        path: the engine's file; one in the cache when left out.
        force: build it in any case.
        building: who watches.

    Returns:
        The engine's file and content.

    Raises:
        ConfigError: the file, or the cache, cannot be written.
        EngineError: the model cannot be made an engine, or was changed meanwhile.
        KeyboardInterrupt: ``building`` was interrupted.
    """
    here, building = machine(device), building or Building()
    wanted = EngineManifest(model.path.name, model.fingerprint, model.card.fingerprint, options, here, "")
    lock: AbstractContextManager[None] = nullcontext()
    cache = path is None
    if path is None:
        path = cache_folder() / f"{_key(wanted)}{ENGINE_SUFFIX}"
        lock = _alone(path.with_suffix(".lock"), log, building.interrupted)
    with lock:
        reason, plan = ("a new one is asked for", b"") if force else _agreeing(path, wanted)
        if reason is None:
            log(f"{model.path}: using the TensorRT engine {path}")
            return path, plan
        log(f"{model.path}: building the TensorRT engine {path}, which may take minutes: {reason}")
        timing = path.with_name(f"{fingerprint(asdict(here))[:16]}.timing") if cache else None
        plan = build(model, options, device, building, timing)
        if not model.unchanged():
            raise EngineError(f"{model.path}: was changed while its engine was built; try again")
        written = replace(wanted, engine=hashlib.sha256(plan).hexdigest())
        write_all({path: plan, manifest_path(path): written.text()})
    return path, plan


def build(
    model: Model, options: BuildOptions, device: torch.device, building: Building, timing: Path | None = None
) -> bytes:
    """Return a new engine for a model; see ``find_or_build``. ``timing``: file of what TensorRT measured before."""
    if device.type == "cpu" and trt.__name__ == "tensorrt":
        raise EngineError(f"{model.path}: TensorRT builds engines on the GPU they are for, and there is none here")
    text = network(model, options)
    what = f"{model.path}: {trt.__name__} {trt.__version__} cannot build an engine from it"
    with ALONE, on(device), logger().quiet(), _Progress(building) as progress:
        builder = call(what, trt.Builder, logger())
        definition = call(what, builder.create_network, 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = call(what, trt.OnnxParser, definition, logger())
        call(what, parser.parse, text)
        config = call(what, builder.create_builder_config)
        config.max_aux_streams = 0  # streams of its own would take the GPU from the model that runs beside it
        config.clear_flag(trt.BuilderFlag.TF32)  # what is float32 stays so; it halves the digits on its own otherwise
        config.progress_monitor = progress
        if options.batch[0] != options.batch[2]:
            _add_profile(what, builder, config, model, options)
        measured = _timing(config, timing)
        try:
            plan: Any = call(what, builder.build_serialized_network, definition, config, forgiving=True)
        except EngineError:
            if building.interrupted.is_set():
                raise KeyboardInterrupt from None
            raise
        if timing and measured:
            write_all({timing: bytes(memoryview(config.get_timing_cache().serialize()))})
    return bytes(memoryview(plan))


def _add_profile(what: str, builder: Any, config: Any, model: Model, options: BuildOptions) -> None:
    profile = call(what, builder.create_optimization_profile)
    spec = model.card.input
    profile.set_shape(spec.name, *((batch, 3, spec.height, spec.width) for batch in options.batch))
    call(what, config.add_optimization_profile, profile)


def _timing(config: Any, path: Path | None) -> bool:
    """Let TensorRT use what it measured on this GPU before; tell whether it measures. TensorRT-RTX never does."""
    if path is None or trt.__name__ != "tensorrt":
        return False
    before = read_whole(path) if kind_of(path) == "file" else b""
    try:
        call(str(path), config.set_timing_cache, call(str(path), config.create_timing_cache, before), False)
    except EngineError as error:
        _messages.warning("%s; measuring anew", error)
        call(str(path), config.set_timing_cache, call(str(path), config.create_timing_cache, b""), False)
    return True


def cache_folder() -> Path:
    """Return the folder of engines the node builds, made if need be: ``classaug_ros/engines`` in the user's cache.

    Raises:
        ConfigError: it cannot be made, or is somebody else's: an engine is a program.
    """
    named = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = (Path(named) if Path(named).is_absolute() else Path.home() / ".cache") / "classaug_ros" / "engines"
        folder.mkdir(parents=True, exist_ok=True)
        if folder.stat().st_uid != os.geteuid():
            raise ConfigError(f"{folder}: belongs to another user, whose engines are not run; set XDG_CACHE_HOME")
        folder.chmod(0o700)
    except RuntimeError as error:
        raise ConfigError("no folder for TensorRT engines: the home folder is not known; set XDG_CACHE_HOME") from error
    except OSError as error:
        raise ConfigError(f"{error.filename}: no folder for TensorRT engines can be made: {error.strerror}") from error
    return folder


def _key(wanted: EngineManifest) -> str:
    """Return a name for an engine in the cache. TensorRT's version is left out: what a new one builds replaces it."""
    options, here = wanted.options, wanted.machine
    return fingerprint([wanted.model, options.precision, options.batch, here.gpu, here.capability])[:32]


def _agreeing(path: Path, wanted: EngineManifest) -> tuple[str | None, bytes]:
    """Return why the engine at ``path`` is not the one wanted, or None and its content."""
    if kind_of(path) != "file":
        return "there is none yet", b""
    if kind_of(manifest_path(path)) != "file":
        return "it has no manifest that tells what it was built from", b""
    try:
        found, plan = EngineManifest.load(manifest_path(path)), read_whole(path)
    except ConfigError as error:
        return str(error), b""
    return found.disagreement(replace(wanted, engine=hashlib.sha256(plan).hexdigest())), plan


@contextmanager
def _alone(path: Path, log: Callable[[str], None], interrupted: threading.Event) -> Iterator[None]:
    """Keep other processes that want the same engine waiting: they will find it."""
    with path.open("wb") as file:
        if not _locked(file):
            log(f"{path.with_suffix(ENGINE_SUFFIX)}: another process is building it; waiting for it")
            while not _locked(file):
                if interrupted.wait(POLL):
                    raise KeyboardInterrupt
        yield


def _locked(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class _Progress(trt.IProgressMonitor):  # type: ignore[misc]
    """TensorRT's steps as a bar. TensorRT calls it, in any thread, and what it raises would be lost."""

    def __init__(self, building: Building) -> None:
        trt.IProgressMonitor.__init__(self)
        self._building = building
        self._lock = threading.Lock()
        self._bar: tqdm[NoReturn] | None = None
        self._outermost = ""

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """Take the beginning of a phase; the steps of the outermost are what the bar is of."""
        with self._lock:
            if parent_phase is None:
                self._outermost = phase_name
                hidden = None if self._building.shown else True
                self._bar = tqdm(desc="build", unit="step", total=num_steps, leave=False, disable=hidden)
            self._show(phase_name)

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Take the end of a step; return whether to go on."""
        with self._lock:
            if phase_name == self._outermost and self._bar is not None:
                self._bar.update(step + 1 - self._bar.n)
        return not self._building.interrupted.is_set()

    def phase_finish(self, phase_name: str) -> None:  # noqa: ARG002 (TensorRT's)
        """Take the end of a phase."""
        with self._lock:
            self._show("")

    def _show(self, phase: str) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(phase, refresh=False)
            self._bar.update(0)  # not more often than tqdm's interval

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
