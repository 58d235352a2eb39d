"""Int8 models by ONNX Runtime's quantiser, calibrated on a data set, and what they cost and gain."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from tqdm import tqdm

from classaug_ros.convert.cards import write_card
from classaug_ros.data.dataset import Dataset, Sample
from classaug_ros.engines.model_runner import ModelRunner
from classaug_ros.engines.preprocess import Preprocessor
from classaug_ros.errors import ClassaugError, ConfigError, EngineError
from classaug_ros.evaluation.confusion import ConfusionMatrix, mean_iou
from classaug_ros.imaging.images import read_image
from classaug_ros.models.card import Model, load_model

SUFFIX = "-int8"
IMAGES = 16  # to calibrate on
PERCENTILE = 99.99
"""Share of each activation's values that its range holds, in per cent: outliers would make the steps of all coarse."""
NOT_SCORED = -1

_QUANTISED = {"QuantizeLinear", "DequantizeLinear"}


@dataclass(frozen=True)
class Cost:
    """What an int8 model costs and gains.

    Attributes:
        calibrated: images it was calibrated on.
        scored: other images, which these figures come from.
        classes: names that model and ground truth share.
        miou: of the original and the int8 model over these, 0..1; NaN where there are none.
        agreement: share of pixels both give the same label, 0..1.
        milliseconds: median time of an inference of the original and the int8 model, run in turn.
        size: bytes of both model files.
    """

    calibrated: int
    scored: int
    classes: tuple[str, ...]
    miou: tuple[float, float]
    agreement: float
    milliseconds: tuple[float, float]
    size: tuple[int, int]


def quantize(
    model: Model,
    dataset: Dataset,
    folder: Path,
    *,
    images: int = IMAGES,
    limit: int | None = None,
    reduce_range: bool = False,
) -> Cost:
    """Write an int8 model with its card and classes into a folder, all of them or none.

    Weights are symmetric int8 with a scale for each channel, activations uint8 over the range that ``PERCENTILE`` of
    their values have on the calibration images: what ONNX Runtime runs fastest on the CPU.

    Args:
        model: a float model.
        dataset: images like those it will see; ground truth for the score. Calibration takes them evenly spread.
        folder: where to write; files of the same names are written over.
        images: how many to calibrate on.
        limit: score on so many of the others, evenly spread; all when left out.
        reduce_range: use 7 bits for weights, where the CPU has no VNNI instructions and sums would overflow.

    Raises:
        ConfigError: there are not enough images, or the model is int8 already.
        ImageError: an image cannot be read.
        EngineError: the model cannot be quantised or run.
    """
    calibration, held_out = split(dataset, images, limit)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".quantize-", dir=folder) as temporary:
        made = _write(model, calibration, Path(temporary), reduce_range)
        cost = _cost(model, made, dataset, held_out, len(calibration))
        for file in made.path.parent.iterdir():
            file.replace(folder / file.name)
    return cost


def split(dataset: Dataset, images: int, limit: int | None) -> tuple[list[Sample], list[Sample]]:
    """Choose the images to calibrate on and those to score on, both evenly spread, none in both.

    Raises:
        ConfigError: there are too few.
    """
    if len(dataset.samples) <= images:
        raise ConfigError(
            f"data set {dataset.name!r} has {len(dataset.samples)} images, which leaves none to score beside {images} "
            "to calibrate on; give a smaller --images"
        )
    calibration = _spread(dataset.samples, images)
    others = [sample for sample in dataset.samples if sample not in calibration]
    return calibration, _spread(others, min(limit or len(others), len(others)))


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    return [samples[number * len(samples) // count] for number in range(count)]


class _Calibration(CalibrationDataReader):  # type: ignore[misc]
    """Model inputs of some images, by ranges of them."""

    def __init__(self, model: Model, samples: Sequence[Sample], progress: tqdm[Any]) -> None:
        self._name, self._preprocess = model.card.input.name, Preprocessor(model.card.input)
        self._samples, self._progress = samples, progress
        self._waiting: Iterator[Sample] = iter(())

    def __len__(self) -> int:
        return len(self._samples)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._waiting = iter(self._samples[start_index:end_index])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        sample = next(self._waiting, None)
        if sample is None:
            return None
        self._progress.update()
        return {self._name: self._preprocess(read_image(sample.image)).copy()}


def _write(model: Model, calibration: Sequence[Sample], folder: Path, reduce_range: bool) -> Model:
    """Quantise into a folder of its own within ``folder``."""
    prepared, written = folder / "prepared.onnx", folder / "int8" / f"{model.path.stem}{SUFFIX}.onnx"
    written.parent.mkdir()
    _prepare(model, prepared)
    with tqdm(total=len(calibration), desc="calibrate", unit="image", disable=None) as progress, _quiet():
        _run(
            model,
            quantize_static,
            prepared,
            written,
            _Calibration(model, calibration, progress),
            quant_format=QuantFormat.QDQ,
            calibrate_method=CalibrationMethod.Percentile,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=reduce_range,
            extra_options={
                "CalibPercentile": PERCENTILE,
                "CalibTensorRangeSymmetric": False,
                "CalibStridedMinMax": 1,  # one image at a time: otherwise every activation of all is kept, gigabytes
            },
        )
    write_card(replace(model.card, name=model.card.name + SUFFIX), written.parent)
    return load_model(written)


def _prepare(model: Model, path: Path) -> None:
    """Fold and fuse what can be, with shapes fixed: the quantiser then puts fewer roundings in."""
    graph = _run(model, onnx.load, model.path)
    if _QUANTISED.intersection(node.op_type for node in graph.graph.node):
        raise ConfigError(f"{model.path}: is quantised already; name the float model")
    with _quiet():
        _run(model, quant_pre_process, model.path, path, skip_symbolic_shape=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the quantiser prints and logs about its own steps to itself."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        logging.disable(before)


def _run(model: Model, work: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    try:
        return work(*(str(argument) if isinstance(argument, Path) else argument for argument in arguments), **options)
    except ClassaugError:
        raise
    except Exception as error:  # neither ONNX nor the quantiser has a base for its exceptions
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise EngineError(f"{model.path}: ONNX Runtime cannot quantise it: {reason}") from error


def _cost(original: Model, made: Model, dataset: Dataset, held_out: Sequence[Sample], calibrated: int) -> Cost:
    names = original.card.classes.names
    present = [dataset.classes.names[number] for number in dataset.present]
    shared = tuple(name for name in present if name in names)
    matrices = ConfusionMatrix(len(shared)), ConfusionMatrix(len(shared))
    times: tuple[list[float], list[float]] = ([], [])
    of_truth = _to_shared(dataset.classes.names, shared, NOT_SCORED, dataset.classes.unlabelled + 1)
    of_label = _to_shared(names, shared, len(shared), len(names))
    same = total = 0
    with ExitStack() as stack:
        runners = [ModelRunner(model, len(os.sched_getaffinity(0))) for model in (original, made)]
        for runner in runners:
            stack.callback(runner.close)
        for sample in tqdm(held_out, desc="score", unit="image", disable=None):
            frame, truth = dataset.read(sample)
            labels = []
            for runner, matrix, taken in zip(runners, matrices, times, strict=True):
                image = runner.prepare(frame)
                start = time.perf_counter()
                output = runner.infer(image)
                taken.append(1000 * (time.perf_counter() - start))
                labels.append(runner.label(output, (truth.shape[0], truth.shape[1])))
                matrix.update(of_truth[truth], of_label[labels[-1]])
            same += int((labels[0] == labels[1]).sum())
            total += truth.size
    return Cost(
        calibrated,
        len(held_out),
        shared,
        (mean_iou(matrices[0].iou()), mean_iou(matrices[1].iou())),
        same / total,
        (float(np.median(times[0])), float(np.median(times[1]))),
        (original.path.stat().st_size, made.path.stat().st_size),
    )


def _to_shared(names: Sequence[str], shared: Sequence[str], none: int, values: int) -> NDArray[np.int64]:
    """Return a table from class ids to shared classes; ``none`` for all else."""
    table = np.full(values, none, np.int64)
    for number, name in enumerate(names):
        if name in shared:
            table[number] = shared.index(name)
    return table
