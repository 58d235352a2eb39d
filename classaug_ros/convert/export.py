"""Models of the Transformers library as ONNX files with model cards: semantic segmentation, ending in its logits."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForSemanticSegmentation
from transformers.image_processing_base import ImageProcessingMixin
from transformers.utils import logging

from classaug_ros import fusion
from classaug_ros.convert.cards import Knowledge, complete, interface, noise, run_once, write_card
from classaug_ros.convert.classlists import classes_named
from classaug_ros.convert.graphs import cut_upsampling, declare_output
from classaug_ros.errors import ConfigError, EngineError
from classaug_ros.models.card import InputSpec, Model, ModelCard, Upsampling, load_model

INPUT, OUTPUT, OPSET = "image", "logits", 17
TOLERATED = 0.001
"""Share of pixels whose label may differ from the original's: rounding decides where two classes are all but equal."""

Size = tuple[int, int]

_UNUSED = re.compile(r"num_batches_tracked|^auxiliary_head\.")  # weights that only training needs


@dataclass(frozen=True)
class Exported:
    """An exported model, and how it compares with the original on an image of noise.

    Attributes:
        card: its model card.
        shipped: the shipped class list its classes are; None where they are its own.
        difference: largest difference of a logit, at the original's size.
        spread: the original's largest logit less its smallest.
        changed: share of pixels with another label, 0..1, at the input's size.
    """

    card: ModelCard
    shipped: str | None
    difference: float
    spread: float
    changed: float


def export(name: str, folder: Path, size: Size | None = None) -> Exported:
    """Write ``model.onnx``, ``model.yaml`` and ``classes.csv`` of a model, all of them or none.

    Args:
        name: the model's name on the Transformers hub, or a folder that ``save_pretrained`` wrote.
        folder: where to write; files of these names are written over.
        size: (H, W) of the input; that of the model's image processor when left out.

    Raises:
        ConfigError: there is no such model, it is for something else, or its image processor cannot be followed.
        EngineError: it cannot be exported, or the exported model is not the same.
    """
    network, processor = _load(name)
    classes, shipped = classes_named([network.config.id2label.get(i, "") for i in range(network.config.num_labels)])
    inputs = input_spec(processor, size, name)
    image = noise(inputs)
    original = _logits(network, image, name)
    graph, upsampling = _trace(network, image, name)
    known = Knowledge(
        Path(name).name,
        classes,
        (inputs.height, inputs.width),
        inputs.mean,
        inputs.scale,
        inputs.color,
        OUTPUT,
        upsampling or "half_pixel",  # how Transformers' image processors bring logits to an image's size
    )
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".export-", dir=folder) as temporary:
        model = _write(graph, known, Path(temporary))
        result = _compared(original, torch.from_numpy(run_once(model)), model.card)
        if not result.changed <= TOLERATED:
            raise EngineError(
                f"{name}: the exported model gives {result.changed:.2%} of the pixels of a random image another label "
                f"than the original, and logits that differ by {result.difference:.3g}; nothing was written"
            )
        for file in Path(temporary).iterdir():
            file.replace(folder / file.name)
    return replace(result, shipped=shipped)


def input_spec(processor: Mapping[str, Any], size: Size | None, name: str) -> InputSpec:
    """Return what an image processor's configuration (``preprocessor_config.json``) makes of an image.

    Args:
        processor: the configuration.
        size: (H, W) to use in place of its own.
        name: the model, for messages.

    Raises:
        ConfigError: it says no size, or no mean and standard deviation.
    """
    height, width = size or _size_of(processor, name)
    factor = float(processor.get("rescale_factor", 1 / 255)) if processor.get("do_rescale", True) else 1.0
    mean, deviation = [0.0] * 3, [1.0] * 3
    if processor.get("do_normalize", True):
        mean, deviation = processor.get("image_mean", []), processor.get("image_std", [])
        if len(mean) != 3 or len(deviation) != 3:
            raise ConfigError(f"{name}: preprocessor_config.json has no image_mean and image_std of three numbers")
    # (value * factor - mean) / deviation = (value - mean / factor) * (factor / deviation)
    means, scales = [value / factor for value in mean], [factor / value for value in deviation]
    flipped = bool(processor.get("do_flip_channel_order", False))
    order = -1 if flipped else 1  # it is flipped last, so mean and deviation are in RGB order
    first, second, third = zip(means[::order], scales[::order], strict=True)
    mean_of, scale_of = zip(first, second, third, strict=True)
    return InputSpec(INPUT, height, width, "bgr" if flipped else "rgb", mean_of, scale_of)


def _size_of(processor: Mapping[str, Any], name: str) -> Size:
    """Return the (H, W) an image has once processed, where it does not depend on the image."""
    size = processor.get("crop_size" if processor.get("do_center_crop") else "size")
    if isinstance(size, int):
        return size, size
    if isinstance(size, dict) and {"height", "width"} <= size.keys():
        return int(size["height"]), int(size["width"])
    found = f"{size} keeps each image's proportions" if size else "there is none"
    raise ConfigError(f"{name}: expected a fixed size in preprocessor_config.json, but {found}; give --size")


def _load(name: str) -> tuple[nn.Module, Mapping[str, Any]]:
    """Return the network and the configuration of its image processor."""
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    with _told_as(f"{name}: is no semantic segmentation model that Transformers can load"):
        network, loaded = AutoModelForSemanticSegmentation.from_pretrained(name, output_loading_info=True)
    lacking = sorted(key for key in loaded["missing_keys"] if not _UNUSED.search(key))
    if lacking:  # Transformers fills them with random numbers, and only warns
        raise ConfigError(
            f"{name}: lacks {len(lacking)} of the weights that {type(network).__name__} needs ({lacking[0]}, ...): it "
            "was not trained for segmentation"
        )
    with _told_as(f"{name}: the configuration of its image processor cannot be read"):
        processor, _ = ImageProcessingMixin.get_image_processor_dict(name)
    return network.eval(), processor


@contextmanager
def _told_as(what: str) -> Iterator[None]:
    """Tell what Transformers raises in one line: its first sentence, for the rest is about its own interface."""
    try:
        yield
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().partition("\n")[0].partition(". ")[0]
        raise ConfigError(f"{what}: {reason}") from error


class _Logits(nn.Module):  # type: ignore[misc]
    """A network with an image for input and its logits for output."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return self.network(pixel_values=image).logits


def _logits(network: nn.Module, image: NDArray[np.float32], name: str) -> Tensor:
    with torch.no_grad():
        try:
            return _Logits(network)(torch.from_numpy(image))
        except (RuntimeError, ValueError) as error:  # what PyTorch and Transformers raise for a size they cannot take
            height, width = image.shape[2:]
            reason = str(error).partition("\n")[0]
            raise EngineError(f"{name}: fails on {width}x{height} images: {reason}; give another --size") from error


def _trace(network: nn.Module, image: NDArray[np.float32], name: str) -> tuple[onnx.ModelProto, Upsampling | None]:
    """Return the graph, without the upsampling it ended with, and the convention of that."""
    written = io.BytesIO()
    with _exportable_pooling(network), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of each size that is fixed in the graph, as it is meant to be
        try:
            torch.onnx.export(
                _Logits(network),
                (torch.from_numpy(image),),
                written,
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=OPSET,
                dynamo=False,
            )
        except (RuntimeError, torch.onnx.OnnxExporterError) as error:
            reason = str(error).partition("\n")[0]
            raise EngineError(f"{name}: PyTorch cannot export it to ONNX: {reason}") from error
    graph = onnx.load_from_string(written.getvalue())
    return graph, cut_upsampling(graph)


@contextmanager
def _exportable_pooling(network: nn.Module) -> Iterator[None]:
    """Let adaptive pooling, which ONNX does not have, run as products with matrices while it is exported."""
    pools = [module for module in network.modules() if isinstance(module, nn.AdaptiveAvgPool2d)]
    for pool in pools:
        pool.forward = _as_products(pool.output_size)
    try:
        yield
    finally:
        for pool in pools:
            del pool.forward


def _as_products(size: int | tuple[int | None, int | None]) -> Any:
    def forward(x: Tensor) -> Tensor:
        rows, columns = (
            _averaging(int(length), int(length) if cells is None else cells)
            for length, cells in zip(x.shape[2:], (size, size) if isinstance(size, int) else size, strict=True)
        )
        return rows @ x @ columns.T

    return forward


def _averaging(length: int, cells: int) -> Tensor:
    """Return the matrix, cells x length, that averages a line over cells as PyTorch cuts it."""
    matrix = torch.zeros(cells, length)
    for cell in range(cells):
        start, end = cell * length // cells, math.ceil((cell + 1) * length / cells)
        matrix[cell, start:end] = 1 / (end - start)
    return matrix


def _write(graph: onnx.ModelProto, known: Knowledge, folder: Path) -> Model:
    """Write a model folder; the output's size is what a run shows."""
    path = folder / "model.onnx"
    onnx.save(graph, path)
    card = complete(interface(path), known)
    declare_output(graph, (1, len(card.classes), card.output.height, card.output.width))
    onnx.save(graph, path)
    write_card(card, folder)
    return load_model(path)


def _compared(original: Tensor, exported: Tensor, card: ModelCard) -> Exported:
    """Compare logits, brought to the original's size by the card's convention, and labels at the input's size."""
    size = (card.input.height, card.input.width)
    corners = card.output.upsample == "align_corners"
    enlarged = functional.interpolate(exported, original.shape[2:], mode="bilinear", align_corners=corners)
    full = functional.interpolate(original, size, mode="bilinear", align_corners=False)
    labels = fusion.label_map(exported[0].numpy(), size, card.output.upsample, card.classes.dtype)
    return Exported(
        card,
        None,
        float((enlarged - original).abs().max()),
        float(original.max() - original.min()),
        float((labels != full.argmax(dim=1)[0].numpy()).mean()),
    )
