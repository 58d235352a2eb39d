"""Model cards: what a model file expects and returns."""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from classaug_ros.errors import ConfigError, listed, quoted
from classaug_ros.io.files import kind_of
from classaug_ros.io.yamlfile import Section, fingerprint, read_mapping
from classaug_ros.models.engine_manifest import ENGINE_SUFFIX, EngineManifest, manifest_path
from classaug_ros.models.labels import LabelSpace

CARD_NAME = "model.yaml"
MODEL_SUFFIXES = (".onnx", ".pt2", ENGINE_SUFFIX)
MAX_SIDE = 8192
"""Largest height and width of a model's input and output."""

# As protobuf writes the key before a name, whose length has two bytes past 127.
_LOCATION = re.compile(rb"\x0a\x08location\x12([\x01-\x7f]|[\x80-\xff][\x01-\x7f])", re.DOTALL)

ColorOrder = Literal["rgb", "bgr"]
OutputKind = Literal["logits", "probabilities", "labels"]
Upsampling = Literal["half_pixel", "align_corners", "asymmetric"]


@dataclass(frozen=True)
class InputSpec:
    """The image input: float32, N x 3 x height x width, x = (value - mean) * scale for uint8 values."""

    name: str
    height: int
    width: int
    color: ColorOrder
    mean: tuple[float, float, float]
    scale: tuple[float, float, float]


@dataclass(frozen=True)
class OutputSpec:
    """The output: N x classes x height x width scores, or N x height x width labels.

    ``upsample`` is the bilinear convention that takes scores to image size: ``half_pixel``
    (PyTorch's align_corners=False), ``align_corners`` or ``asymmetric``. Labels are never interpolated.
    """

    name: str
    kind: OutputKind
    height: int
    width: int
    upsample: Upsampling


@dataclass(frozen=True)
class ModelCard:
    """A model's name, classes (id = output channel), input and output."""

    name: str
    classes: LabelSpace
    input: InputSpec
    output: OutputSpec

    @classmethod
    def load(cls, path: Path) -> ModelCard:
        """Read a ``model.yaml``.

        Raises:
            ConfigError: the file is missing or malformed, or asks for something that is not supported.
        """
        where = str(path)
        top = Section(read_mapping(path), where, {"name", "classes", "input", "output"})
        classes = LabelSpace.from_csv(path.parent / top.get("classes", str))
        return cls(
            top.get("name", str),
            classes,
            _input_spec(top.get("input", dict), f"{where}: input"),
            _output_spec(top.get("output", dict), f"{where}: output"),
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 over what the card means: its name and the colours of its classes are left out."""
        return fingerprint(_meaning(self))


@dataclass(frozen=True)
class Model:
    """A model file with its card.

    ``fingerprint`` is the SHA-256 over the file's bytes, those of its external data, and the card: rules learned with
    one model are refused for another, and the name may stay the same while the weights change. A TensorRT engine has
    that of the ONNX model it was built from.
    """

    path: Path
    card: ModelCard
    fingerprint: str

    def unchanged(self) -> bool:
        """Tell whether the file, read again, is what it was; ConfigError where it cannot be read."""
        return _fingerprint(self.path, self.card) == self.fingerprint


def load_model(path: Path, card: Path | None = None) -> Model:
    """Find a model file and read its card, ``model.yaml`` beside it unless ``card`` names another.

    Args:
        path: the model file (.onnx, .pt2 or .engine), or the folder that holds exactly one; engines beside another
            model file do not count, they are built from it.
        card: the model card, where it is not the ``model.yaml`` beside the model file.

    Raises:
        ConfigError: the model or its card is missing, ambiguous or malformed.
    """
    file = _model_file(path)
    card_path = card or file.with_name(CARD_NAME)
    if kind_of(card_path) != "file":
        raise ConfigError(f"{file}: no model card at {card_path}; write one, or name one explicitly")
    loaded = ModelCard.load(card_path)
    return Model(file, loaded, _fingerprint(file, loaded))


def _model_file(path: Path) -> Path:
    kind = kind_of(path)
    if kind != "folder":
        if kind != "file":
            raise ConfigError(f"{path}: no such model file or folder")
        if path.suffix not in MODEL_SUFFIXES:
            raise ConfigError(f"{path}: expected a model file ending in {', '.join(MODEL_SUFFIXES)}")
        return path
    try:
        files = sorted(file for file in path.iterdir() if file.suffix in MODEL_SUFFIXES)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    files = [file for file in files if file.suffix != ENGINE_SUFFIX] or files
    if len(files) != 1:
        raise ConfigError(
            f"{path}: expected one model file ({', '.join(MODEL_SUFFIXES)}) in this folder, "
            f"found {listed([file.name for file in files])}; name the file"
        )
    return files[0]


def _fingerprint(file: Path, card: ModelCard) -> str:
    try:
        if file.suffix == ENGINE_SUFFIX:
            return _built_from(file, card)
        digest = _digest(file, *(_external_data(file) if file.suffix == ".onnx" else ()))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    return fingerprint([digest, _meaning(card)])


def _meaning(card: ModelCard) -> dict[str, object]:
    return {"classes": card.classes.names, "input": asdict(card.input), "output": asdict(card.output)}


def _built_from(file: Path, card: ModelCard) -> str:
    """Return the fingerprint of the model that an engine was built from, if it is the engine of its manifest."""
    path = manifest_path(file)
    if kind_of(path) != "file":
        raise ConfigError(
            f"{file}: there is no {path.name} beside it, which tells what the engine was built from; bring both, or "
            "build it by `classaug build-engine`"
        )
    manifest = EngineManifest.load(path)
    if manifest.engine != _digest(file):
        raise ConfigError(
            f"{file}: is not the engine that {path.name} tells of, it is damaged or another; {manifest.remedy}"
        )
    if manifest.card != card.fingerprint:
        raise ConfigError(f"{file}: its model card has changed since it was built; {manifest.remedy}")
    return manifest.model


def _digest(*files: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _external_data(file: Path) -> list[Path]:
    """Return the files beside an ONNX model that its weights are in, where they are not in the model itself."""
    if not file.stat().st_size:
        return []
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        named = {bytes(data[found.end() : found.end() + _length(found[1])]) for found in _LOCATION.finditer(data)}
    files = [file.parent / os.fsdecode(name) for name in sorted(named) if b"\0" not in name]
    return [part for part in files if kind_of(part) == "file"]  # of one that is missing the engine tells


def _length(varint: bytes) -> int:
    """Return what protobuf wrote seven bits a byte, the lowest first."""
    return sum((byte & 0x7F) << 7 * place for place, byte in enumerate(varint))


def _input_spec(data: object, where: str) -> InputSpec:
    section = Section(data, where, {"name", "layout", "dtype", "height", "width", "color", "mean", "scale"})
    section.choice("layout", ("NCHW",), "NCHW")
    section.choice("dtype", ("float32",), "float32")
    orders: tuple[ColorOrder, ...] = ("rgb", "bgr")
    return InputSpec(
        section.get("name", str),
        section.positive("height", MAX_SIDE),
        section.positive("width", MAX_SIDE),
        section.choice("color", orders, "rgb"),
        _triple(section, "mean", where),
        _triple(section, "scale", where),
    )


def _triple(section: Section, key: str, where: str) -> tuple[float, float, float]:
    values = section.list_of(key, float, float)
    if len(values) != 3 or not all(map(math.isfinite, values)):
        raise ConfigError(f"{where}: {key}: expected three numbers, one per channel, found {quoted(list(values))}")
    if key == "scale" and 0 in values:
        raise ConfigError(f"{where}: scale: expected no 0, which makes all images one, found {quoted(list(values))}")
    return values[0], values[1], values[2]


def _output_spec(data: object, where: str) -> OutputSpec:
    section = Section(data, where, {"name", "kind", "height", "width", "upsample"})
    kinds: tuple[OutputKind, ...] = ("logits", "probabilities", "labels")
    conventions: tuple[Upsampling, ...] = ("half_pixel", "align_corners", "asymmetric")
    return OutputSpec(
        section.get("name", str),
        section.choice("kind", kinds),
        section.positive("height", MAX_SIDE),
        section.positive("width", MAX_SIDE),
        section.choice("upsample", conventions, "half_pixel"),
    )
