"""Writing model cards: for an ONNX file that has none, an exported or a quantised model."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classaug_ros.engines import load_engine
from classaug_ros.engines.interface import Port
from classaug_ros.engines.onnxrt import OnnxRuntimeEngine, declared
from classaug_ros.engines.preprocess import Preprocessor
from classaug_ros.errors import ConfigError, EngineError
from classaug_ros.imaging.images import Frame
from classaug_ros.io.files import write_whole
from classaug_ros.models.card import (
    CARD_NAME,
    ColorOrder,
    InputSpec,
    Model,
    ModelCard,
    OutputKind,
    OutputSpec,
    Upsampling,
)
from classaug_ros.models.labels import LabelSpace

CLASSES_NAME = "classes.csv"
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_SCALE = (1 / 58.395, 1 / 57.12, 1 / 57.375)
"""What most networks are trained with: ImageNet's mean and 1 / standard deviation, for values 0..255."""

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Interface:
    """What an ONNX file tells of itself.

    Attributes:
        path: the file.
        input: name of its input.
        size: (H, W) of the input, None where they are free.
        outputs: its outputs.
    """

    path: Path
    input: str
    size: tuple[int, int] | None
    outputs: tuple[Port, ...]


@dataclass(frozen=True)
class Knowledge:
    """What an ONNX file does not tell.

    Attributes:
        name: what to call the model.
        classes: its classes, id = output channel.
        size: (H, W) of the input.
        mean, scale: x = (value - mean) * scale for values 0..255, by input channel.
        color: colour of the first input channel.
        output: name of the output to use.
        upsample: how its scores were upsampled in training.
    """

    name: str
    classes: LabelSpace
    size: tuple[int, int]
    mean: Triple
    scale: Triple
    color: ColorOrder
    output: str
    upsample: Upsampling


def interface(path: Path) -> Interface:
    """Read an ONNX file's input and outputs.

    Raises:
        EngineError: the file is no ONNX model, or does not take one float32 image N x 3 x H x W.
    """
    inputs, outputs = declared(path)
    if len(inputs) != 1:
        names = ", ".join(repr(port.name) for port in inputs)
        raise EngineError(f"{path}: expected one input, the image; found {len(inputs)}: {names}")
    port = inputs[0]
    shape = port.shape or ()
    if port.dtype != "float32" or len(shape) != 4 or shape[1] not in (3, None):
        sizes = " x ".join("N" if side is None else str(side) for side in shape)
        last = "; its channels come last: transpose them inside the model" if shape and shape[-1] == 3 else ""
        raise EngineError(f"{path}: input {port.name!r} is {port.dtype} {sizes}, expected float32 N x 3 x H x W{last}")
    height, width = shape[2:]
    return Interface(path, port.name, None if height is None or width is None else (height, width), outputs)


def complete(found: Interface, known: Knowledge) -> ModelCard:
    """Return the card of a model, its output found out by running it on a random image.

    Raises:
        EngineError: the model cannot run at that size, or its output is no score or label map of these classes.
    """
    inputs = InputSpec(found.input, *known.size, known.color, known.mean, known.scale)
    draft = ModelCard(known.name, known.classes, inputs, OutputSpec(known.output, "logits", 1, 1, known.upsample))
    engine = OnnxRuntimeEngine(Model(found.path, draft, ""), 1)
    try:
        output = engine.run(noise(inputs))
    finally:
        engine.close()
    kind = _kind(output, found, known)
    card = replace(draft, output=replace(draft.output, kind=kind, height=output.shape[-2], width=output.shape[-1]))
    run_once(Model(found.path, card, ""))
    return card


def write_card(card: ModelCard, folder: Path) -> Path:
    """Write ``model.yaml`` and ``classes.csv`` into a folder, over those that are there; return the card's path.

    Raises:
        ConfigError: a file cannot be written.
    """
    write_whole(folder / CLASSES_NAME, card.classes.to_csv().encode())
    write_whole(folder / CARD_NAME, card_text(card).encode())
    return folder / CARD_NAME


def card_text(card: ModelCard) -> str:
    """Return the text of a ``model.yaml``, its classes in a ``classes.csv`` beside it."""
    entries = (
        (f"name: {_quoted(card.name)}", ""),
        (f"classes: {CLASSES_NAME}", "id,name,r,g,b; path relative to this card"),
        ("input:", ""),
        (f"  name: {_quoted(card.input.name)}", ""),
        (f"  height: {card.input.height}", ""),
        (f"  width: {card.input.width}", ""),
        (f"  color: {card.input.color}", "rgb | bgr"),
        (f"  mean: {_numbers(card.input.mean)}", "x = (value - mean) * scale, for values 0..255"),
        (f"  scale: {_numbers(card.input.scale)}", ""),
        ("output:", ""),
        (f"  name: {_quoted(card.output.name)}", ""),
        (f"  kind: {card.output.kind}", "logits | probabilities | labels"),
        (f"  height: {card.output.height}", ""),
        (f"  width: {card.output.width}", ""),
        (f"  upsample: {card.output.upsample}", "half_pixel | align_corners | asymmetric"),
    )
    lines = [f"{entry:<36}  # {comment}" if comment else entry for entry, comment in entries]
    return "\n".join(["# Model card: what the model file beside it expects and returns.", *lines, ""])


def refuse_overwriting(folder: Path, *names: str) -> None:
    """Refuse a folder that has one of these files.

    Raises:
        ConfigError: it has one.
    """
    for name in names:
        if (folder / name).exists():
            raise ConfigError(f"{folder / name}: is there already; give --force to write over it")


def run_once(model: Model) -> NDArray[Any]:
    """Run a model on an image of noise, the same each time, and return its output.

    Raises:
        EngineError: the model fails, or is not what its card says.
    """
    engine = load_engine(model, 1)
    try:
        return engine.run(noise(model.card.input))
    finally:
        engine.close()


def noise(spec: InputSpec) -> NDArray[np.float32]:
    """Return the input that an image of noise, the same each time, gives: 1 x 3 x height x width float32."""
    pixels = np.random.default_rng(0).integers(0, 256, (spec.height, spec.width, 3), np.uint8)
    return Preprocessor(spec)(Frame(pixels, "rgb"))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _kind(output: NDArray[Any], found: Interface, known: Knowledge) -> OutputKind:
    """Tell what an output is, from its shape, type and values."""
    where = f"{found.path}: output {known.output!r}"
    sizes = " x ".join(map(str, output.shape))
    if output.ndim == 3 and np.issubdtype(output.dtype, np.integer):
        return "labels"
    if output.ndim != 4 or not np.issubdtype(output.dtype, np.floating):
        raise EngineError(
            f"{where} is {output.dtype} {sizes}, expected scores N x classes x h x w or integer labels N x h x w"
        )
    if output.shape[1] != len(known.classes):
        raise EngineError(
            f"{where} has {output.shape[1]} channels ({sizes}), but there are {len(known.classes)} classes "
            f"({', '.join(known.classes.names[:3])}, ...); give the list of this model's own classes"
        )
    certain = output.min() >= 0 and np.allclose(output.sum(axis=1), 1, atol=1e-3)
    return "probabilities" if certain else "logits"


def _numbers(values: Triple) -> str:
    """Format numbers for YAML, with the digits that float32 has and without exponents, which YAML 1.1 misreads."""
    return "[" + ", ".join(np.format_float_positional(np.float32(value), trim="-") for value in values) + "]"
