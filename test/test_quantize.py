"""Int8 models: made by the real quantiser, run by the real runtime."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import numpy_helper
from support.tinymodels import SUB_CLASSES, World, write_dataset, write_model, write_world

from classaug_ros import fusion
from classaug_ros.cli import main as classaug
from classaug_ros.convert.quantize import quantize, split
from classaug_ros.data.dataset import Dataset, Sample, load_dataset
from classaug_ros.engines import load_engine
from classaug_ros.engines.preprocess import Preprocessor
from classaug_ros.errors import ConfigError
from classaug_ros.evaluation.confusion import ConfusionMatrix, mean_iou
from classaug_ros.models.card import Model, load_model
from classaug_ros.models.labels import LabelSpace


@pytest.fixture
def world(tmp_path: Path) -> World:
    return write_world(tmp_path / "world", images=9, size=(24, 20))


def labels(model: Model, dataset: Dataset, sample: Sample) -> NDArray[np.unsignedinteger]:
    frame, truth = dataset.read(sample)
    output = load_engine(model, 1).run(Preprocessor(model.card.input)(frame))[0]
    return fusion.label_map(output, (truth.shape[0], truth.shape[1]), "half_pixel", model.card.classes.dtype)


def test_the_int8_model_has_a_card_and_costs_what_is_said(world: World, tmp_path: Path) -> None:
    model, dataset = load_model(world.sub), load_dataset(world.dataset)
    cost = quantize(model, dataset, tmp_path / "int8", images=4)
    made = load_model(tmp_path / "int8")
    assert sorted(file.name for file in (tmp_path / "int8").iterdir()) == [
        "classes.csv",
        "model-int8.onnx",
        "model.yaml",
    ]
    assert (made.card.name, made.card.classes) == ("sub-int8", model.card.classes)
    assert (made.card.input, made.card.output) == (model.card.input, model.card.output)
    graph = onnx.load(made.path).graph
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in graph.node}
    weights = [numpy_helper.to_array(value) for value in graph.initializer if value.data_type == onnx.TensorProto.INT8]
    assert any(value.ndim == 4 for value in weights)

    assert (cost.calibrated, cost.scored, cost.classes) == (4, 5, SUB_CLASSES)
    matrices = ConfusionMatrix(len(SUB_CLASSES)), ConfusionMatrix(len(SUB_CLASSES))
    same = []
    for sample in split(dataset, 4, None)[1]:
        truth = dataset.read(sample)[1].astype(int)
        both = labels(model, dataset, sample), labels(made, dataset, sample)
        for matrix, predicted in zip(matrices, both, strict=True):
            matrix.update(np.where(truth < len(SUB_CLASSES), truth, -1), predicted.astype(int))
        same.append((both[0] == both[1]).mean())
    assert cost.miou == tuple(mean_iou(matrix.iou()) for matrix in matrices)
    assert cost.agreement == pytest.approx(np.mean(same))
    assert 0.9 < cost.agreement <= 1
    assert min(cost.milliseconds) > 0
    assert cost.size == (model.path.stat().st_size, made.path.stat().st_size)


def test_a_reduced_range_leaves_a_bit_of_the_weights(world: World, tmp_path: Path) -> None:
    largest = []
    for reduce_range in (False, True):
        folder = tmp_path / str(reduce_range)
        quantize(
            load_model(world.sub), load_dataset(world.dataset), folder, images=2, limit=1, reduce_range=reduce_range
        )
        values = onnx.load(folder / "model-int8.onnx").graph.initializer
        weights = [
            numpy_helper.to_array(v) for v in values if v.data_type == onnx.TensorProto.INT8 and len(v.dims) == 4
        ]
        largest.append(max(int(np.abs(value.astype(int)).max()) for value in weights))
    assert largest == [127, 64]


def test_without_a_class_in_common_there_is_no_miou(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_model(tmp_path / "other", ("x", "y"), (24, 20))
    command = ["quantize", str(model), "--dataset", str(world.dataset), "--output", str(tmp_path / "int8")]
    assert classaug([*command, "--images", "3", "--limit", "2"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("calibrated on 3 images of drive, measured on 2 others:\n")
    assert "no mIoU: model and ground truth have no class name in common" in told
    assert re.search(r"same label on \d+\.\d% of the pixels", told)


def test_the_command_prints_the_cost_and_nothing_of_the_quantiser(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["quantize", str(world.sub), "--dataset", str(world.dataset), "--output", str(tmp_path / "int8")]
    assert classaug([*command, "--images", "3"]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert re.fullmatch(
        r"calibrated on 3 images of drive, measured on 6 others:\n"
        r"  mIoU \d+\.\d % -> \d+\.\d % \([+-]\d+\.\d\) over road, person, bicycle, bag, car\n"
        r"  same label on \d+\.\d% of the pixels\n"
        r"  \d+\.\d ms -> \d+\.\d ms an inference, \d+\.\d\d times as fast \(on this machine, now\)\n"
        r"  \d+\.\d MB -> \d+\.\d MB\n"
        r"model: .*/int8/model-int8.onnx\n",
        told.out,
    )


@pytest.mark.parametrize("kind", ["probabilities", "labels"])
def test_other_outputs_stay_what_they_are(kind: str, world: World, tmp_path: Path) -> None:
    model = load_model(write_model(tmp_path / "m", SUB_CLASSES, (24, 20), kind=kind))
    cost = quantize(model, load_dataset(world.dataset), tmp_path / "int8", images=4)
    assert load_model(tmp_path / "int8").card.output == model.card.output
    assert cost.agreement > 0.8


def test_models_that_are_int8_already_are_refused(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    once = tmp_path / "int8"
    quantize(load_model(world.sub), load_dataset(world.dataset), once, images=2, limit=1)
    command = ["quantize", str(once), "--dataset", str(world.dataset), "--output", str(tmp_path / "twice")]
    assert classaug([*command, "--images", "2"]) == 2
    assert "is quantised already; name the float model" in capsys.readouterr().err
    assert list((tmp_path / "twice").iterdir()) == []


def test_too_few_images_are_refused(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["quantize", str(world.sub), "--dataset", str(world.dataset), "--output", str(tmp_path / "int8")]
    assert classaug(command) == 2
    told = capsys.readouterr().err
    assert "data set 'drive' has 9 images, which leaves none to score beside 16 to calibrate on" in told
    assert told.count("\n") == 1


def test_a_broken_image_is_told_as_such(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (world.dataset.parent / "images" / "0000.png").write_bytes(b"broken")
    command = ["quantize", str(world.sub), "--dataset", str(world.dataset), "--output", str(tmp_path / "int8")]
    assert classaug([*command, "--images", "2"]) == 2
    assert "0000.png: expected JPEG or PNG" in capsys.readouterr().err
    assert list((tmp_path / "int8").iterdir()) == []


def test_a_model_that_is_there_stays_unless_forced(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["quantize", str(world.sub), "--dataset", str(world.dataset), "--output", str(world.sub), "--images", "2"]
    before = (world.sub / "model.yaml").read_bytes()
    assert classaug(command) == 2
    assert "model.yaml: is there already; give --force" in capsys.readouterr().err
    assert (world.sub / "model.yaml").read_bytes() == before
    assert not (world.sub / "model-int8.onnx").exists()


@given(total=st.integers(1, 60), images=st.integers(1, 60), limit=st.none() | st.integers(1, 60))
def test_images_are_calibrated_on_or_scored_never_both(total: int, images: int, limit: int | None) -> None:
    samples = tuple(Sample(f"d/{number:03}", Path(), Path()) for number in range(total))
    dataset = Dataset("d", LabelSpace(("a",), ((0, 0, 0),)), {0: 0}, samples)
    if total <= images:
        with pytest.raises(ConfigError, match="leaves none to score"):
            split(dataset, images, limit)
        return
    calibration, held_out = split(dataset, images, limit)
    assert len({sample.name for sample in calibration}) == images
    assert len({sample.name for sample in held_out}) == min(limit or total, total - images)
    assert not set(calibration) & set(held_out)


def test_ground_truth_of_other_classes_too_is_scored_over_those_in_common(world: World, tmp_path: Path) -> None:
    """Labels of a class the ground truth lacks count as wrong, not as another class."""
    names = ("car", "road", "unknown")
    model = load_model(write_model(tmp_path / "m", names, (24, 20), seed=3))
    file, _, _ = write_dataset(world.folder, "more", 6, (24, 20), seed=1)
    dataset = load_dataset(file)
    cost = quantize(model, dataset, tmp_path / "int8", images=2)
    assert cost.classes == ("road", "car")
    matrix = ConfusionMatrix(2)
    for sample in split(dataset, 2, None)[1]:
        truth, predicted = dataset.read(sample)[1], labels(model, dataset, sample)
        of_truth = np.select([truth == SUB_CLASSES.index("road"), truth == SUB_CLASSES.index("car")], [0, 1], -1)
        matrix.update(of_truth, np.select([predicted == 1, predicted == 0], [0, 1], 2))
    assert cost.miou[0] == mean_iou(matrix.iou())
