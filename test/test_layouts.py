"""Data sets by name, on tiny folders laid out as their authors do; scores against the official Cityscapes tools."""

from __future__ import annotations

import argparse
import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from support.tinymodels import write_classes, write_model

from classaug_ros.cli import main as classaug
from classaug_ros.data.dataset import Dataset
from classaug_ros.data.layouts import open_annotations, open_dataset
from classaug_ros.errors import ConfigError
from classaug_ros.evaluation.evaluate import evaluate
from classaug_ros.io.shipped import shipped
from classaug_ros.learning.learn import count, derive_rules
from classaug_ros.models.card import load_model
from classaug_ros.models.labels import LabelSpace
from classaug_ros.pipeline.cpu import Pipeline
from classaug_ros.rules import RuleSet
from classaug_ros.rules.task import Task

SIZE = (6, 9)


def picture(path: Path, pixels: NDArray[Any] | None = None) -> Path:
    """Write an image, of noise if none is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).integers(0, 256, (*SIZE, 3), np.uint8)
    assert cv2.imwrite(str(path), noise if pixels is None else pixels)
    return path


def write_cityscapes(root: Path, labels: dict[str, NDArray[np.uint8]], ending: str = "labelIds") -> Path:
    """Write a Cityscapes folder; ``labels`` by ``split/city/stem``."""
    for name, values in labels.items():
        picture(root / "leftImg8bit" / f"{name}_leftImg8bit.png")
        picture(root / "gtFine" / f"{name}_gtFine_{ending}.png", values)
        picture(root / "gtFine" / f"{name}_gtFine_color.png")
        picture(root / "gtFine" / f"{name}_gtFine_instanceIds.png", values.astype(np.uint16))
    return root


def truths(dataset: Dataset) -> list[list[list[int]]]:
    return [dataset.read(sample)[1].tolist() for sample in dataset.samples]


def test_cityscapes_ids_become_its_19_classes(tmp_path: Path) -> None:
    ids = np.array([[*range(34)]], np.uint8)
    write_cityscapes(
        tmp_path, {"val/munster/munster_1": ids, "val/bonn/bonn_2": ids, "train/aachen/aachen_3": ids[:, :3]}
    )
    dataset = open_dataset(f"cityscapes:{tmp_path}")
    assert dataset.name == "cityscapes-val"
    assert [sample.image.parent.name for sample in dataset.samples] == ["bonn", "munster"]
    assert [example.name for example in dataset] == ["bonn_2_leftImg8bit", "munster_1_leftImg8bit"]
    names = dict(enumerate(dataset.classes.names))
    found = [names.get(number, "-") for number in truths(dataset)[0][0]]
    assert found == [
        *["-"] * 7,
        *("road", "sidewalk", "-", "-", "building", "wall", "fence", "-", "-", "-", "pole", "-", "traffic light"),
        *("traffic sign", "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "-", "-", "train"),
        *("motorcycle", "bicycle"),
    ]
    assert len(open_dataset(f"cityscapes/train:{tmp_path}").samples) == 1


def test_cityscapes_train_ids_serve_where_there_are_no_others(tmp_path: Path) -> None:
    write_cityscapes(tmp_path, {"val/bonn/bonn_2": np.array([[0, 18, 255]], np.uint8)}, "labelTrainIds")
    assert truths(open_dataset(f"cityscapes:{tmp_path}")) == [[[0, 18, 255]]]


@pytest.mark.parametrize("inner", ["ADEChallengeData2016", "."])
def test_ade20k_of_the_scene_parsing_challenge(tmp_path: Path, inner: str) -> None:
    root = tmp_path / inner
    for split in ("training", "validation"):
        picture(root / "images" / split / f"ADE_{split}.jpg")
        picture(root / "annotations" / split / f"ADE_{split}.png", np.array([[0, 1, 150]], np.uint8))
    for text, split in (("ade20k", "validation"), ("ade20k/val", "validation"), ("ade20k/train", "training")):
        dataset = open_dataset(f"{text}:{tmp_path}")
        assert dataset.name == f"ade20k-{split}"
        assert [sample.image.stem for sample in dataset.samples] == [f"ADE_{split}"]
        assert truths(dataset) == [[[255, 0, 149]]]
    assert (dataset.classes.names[0], dataset.classes.names[149]) == ("wall", "flag")


def test_camvid_in_11_classes(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        picture(tmp_path / split / f"0016E5_{split}.png")
        picture(tmp_path / f"{split}annot" / f"0016E5_{split}.png", np.array([[0, 10, 11]], np.uint8))
    dataset = open_dataset(f"camvid:{tmp_path}")
    assert dataset.name == "camvid-val"
    assert truths(dataset) == [[[0, 10, 255]]]
    assert dataset.classes.names[::10] == ("Sky", "Bicyclist")
    assert open_dataset(f"camvid/test:{tmp_path}").samples[0].image.stem == "0016E5_test"


def write_colors(root: Path, rgb: NDArray[np.uint8]) -> Path:
    picture(root / "701_StillsRaw_full" / "0001TP_1.png")
    picture(root / "LabeledApproved_full" / "0001TP_1_L.png", rgb[..., ::-1])
    return root


def test_camvid_in_colours(tmp_path: Path) -> None:
    dataset = open_dataset(f"camvid:{write_colors(tmp_path, np.array([[(64, 128, 64), (0, 0, 0)]], np.uint8))}")
    assert truths(dataset) == [[[dataset.classes.index("Animal"), 255]]]
    every = np.array([[*dataset.classes.colors, (0, 0, 0)]], np.uint8)
    dataset = open_dataset(f"camvid:{write_colors(tmp_path, every)}")
    assert truths(dataset) == [[[*range(31), 255]]]
    assert dataset.present == tuple(range(31))
    with pytest.raises(ConfigError, match="has no splits; write camvid:"):
        open_dataset(f"camvid/val:{tmp_path}")


def test_a_colour_of_no_class_is_named(tmp_path: Path) -> None:
    dataset = open_dataset(f"camvid:{write_colors(tmp_path, np.array([[(1, 2, 250)]], np.uint8))}")
    with pytest.raises(ConfigError, match=r"0001TP_1_L.png: value #0102fa is in neither"):
        dataset.read(dataset.samples[0])


def test_a_file_is_still_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text in ("data.yaml", "x/y/data.yaml"):
        with pytest.raises(ConfigError, match=f"{text}: cannot be read"):
            open_dataset(text)
    Path("odd:name.yaml").write_text("name: 3", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"odd:name.yaml: classes: expected str"):
        open_dataset("odd:name.yaml")


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    write_cityscapes(tmp_path, {"val/bonn/bonn_2": np.zeros(SIZE, np.uint8)})
    picture(tmp_path / "leftImg8bit/val/bonn/bonn_3_leftImg8bit.png")
    (tmp_path / "leftImg8bit/empty").mkdir()
    (tmp_path / "gtFine/empty").mkdir()
    for text, cause in (
        (f"kitti:{tmp_path}", "no data set 'kitti' is known; expected cityscapes, ade20k, camvid, or a file"),
        (f"cityscapes:{tmp_path / 'no'}", "there is no folder"),
        (f"cityscapes/train:{tmp_path}", "leftImg8bit: has no 'train'; it has empty, val"),
        (f"cityscapes/empty:{tmp_path}", "empty: expected a folder per city with images in it, found none"),
        (f"ade20k:{tmp_path}", "images: there is no such folder"),
        (f"camvid:{tmp_path}", "has no 'val'; it has gtFine, leftImg8bit"),
        (f"cityscapes:{tmp_path}", "bonn_3_leftImg8bit.png: has no annotation .*bonn_3_gtFine_labelIds.png"),
    ):
        with pytest.raises(ConfigError, match=cause) as raised:
            open_dataset(text)
        assert "\n" not in str(raised.value)


def test_annotations_alone(tmp_path: Path) -> None:
    write_cityscapes(tmp_path, {"val/bonn/bonn_2": np.zeros(SIZE, np.uint8)})
    annotations, files = open_annotations(f"cityscapes:{tmp_path}")
    assert annotations.name == "cityscapes-val"
    assert [file.name for file in files] == ["bonn_2_gtFine_labelIds.png"]


def test_shipped_class_lists_are_found() -> None:
    for name, classes in (("cityscapes", 19), ("ade20k", 150), ("camvid", 11), ("camvid32", 31)):
        assert len(LabelSpace.from_csv(shipped(f"classes/{name}.csv"))) == classes
    with pytest.raises(ConfigError, match=r"none\.csv: not found"):
        shipped("classes/none.csv")


OFFICIAL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


def test_iou_is_that_of_the_official_cityscapes_scripts(tmp_path: Path) -> None:
    """Learn and evaluate on a Cityscapes folder, and let the official program score the same label images."""
    pytest.importorskip("cityscapesscripts", reason="cityscapesScripts is not installed")
    official: Any = importlib.import_module("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    random = np.random.default_rng(3)
    # Patches, some classes rare, some absent; every id occurs, those that are ignored too.
    present = np.array([*range(31), 33])
    labels = {
        f"val/bonn/bonn_{number}": np.kron(random.choice(present, (16, 24)), np.ones((4, 4))).astype(np.uint8)
        for number in range(4)
    }
    root = write_cityscapes(tmp_path / "cityscapes", labels)
    for name in labels:
        image = random.integers(0, 256, (64, 96, 3), np.uint8)
        picture(root / "leftImg8bit" / f"{name}_leftImg8bit.png", image)
    space = LabelSpace.from_csv(shipped("classes/cityscapes.csv"))
    sub_names = ("road", "sky", "person", "traffic cone")
    models = [
        load_model(write_model(tmp_path / name, classes, (64, 96), seed=seed))
        for name, classes, seed in (("main", space.names, 1), ("sub", sub_names, 2))
    ]
    (tmp_path / "task.yaml").write_text(
        "main: main/classes.csv\nsub: sub/classes.csv\nsimilar: {road: [road], sky: [sky], person: [person]}\n"
        "add: [traffic cone]\n",
        encoding="utf-8",
    )
    task = Task.load(tmp_path / "task.yaml")
    dataset = open_dataset(f"cityscapes:{root}")
    predicted: dict[str, list[str]] = {"main_only": [], "table": []}
    with Pipeline(*models) as pipeline:
        rules = replace(derive_rules(count_on_sub(pipeline, tmp_path, task), task), kind="table")

        def official_ids(method: str, name: str, ids: NDArray[Any]) -> None:
            # An added class has no official id; 0, unlabelled, is what the program counts as wrong and nothing else.
            path = tmp_path / method / f"{name}.png"
            predicted[method].append(str(picture(path, np.array([*OFFICIAL_IDS, 0], np.uint8)[ids])))

        evaluation = evaluate(
            pipeline,
            dataset,
            [task],
            RuleSet([rules]),
            watchers=[
                lambda example, prediction: official_ids("main_only", example.name, prediction.main),
                lambda example, prediction: official_ids("table", example.name, prediction.output),
            ],
        )
    assert (rules.table >= len(space)).any()
    arguments = argparse.Namespace(**vars(official.args))
    arguments.quiet, arguments.JSONOutput, arguments.evalInstLevelScore = True, False, False
    for method, files in predicted.items():
        result = official.evaluateImgLists(files, [str(sample.label) for sample in dataset.samples], arguments)
        expected = {name: result["classScores"][name] for name in space.names}
        np.testing.assert_allclose(
            list(evaluation.iou(method).values()), [expected[name] for name in evaluation.iou(method)], rtol=1e-12
        )
        assert evaluation.miou(method)["all"] == pytest.approx(result["averageScoreClasses"], rel=1e-12)


def count_on_sub(pipeline: Pipeline, folder: Path, task: Task) -> Any:
    """Count on a data set of sub classes, on noise."""
    root = folder / "learning"
    write_classes(root.parent / "learning.csv", task.sub.names)
    random = np.random.default_rng(4)
    picture(root / "images" / "0.png", random.integers(0, 256, (64, 96, 3), np.uint8))
    picture(root / "labels" / "0.png", random.integers(0, len(task.sub), (64, 96), np.uint8))
    (root / "d.yaml").write_text("name: d\nimages: images\nlabels: labels\nclasses: ../learning.csv\n", "utf-8")
    return count(pipeline, [open_dataset(str(root / "d.yaml"))], task, folder / "counts.npz")


def test_learn_and_evaluate_take_a_data_set_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(tmp_path / "camvid/val/1.png")
    picture(tmp_path / "camvid/valannot/1.png", np.random.default_rng(0).integers(0, 12, SIZE, np.uint8))
    classes = LabelSpace.from_csv(shipped("classes/camvid.csv")).names
    write_model(tmp_path / "main", ("Sky", "Road", "Car"), SIZE, seed=1)
    write_model(tmp_path / "sub", classes, SIZE, seed=2)
    (tmp_path / "task.yaml").write_text(
        "main: main/classes.csv\nsub: sub/classes.csv\nsimilar: {Sky: [Sky], Road: [Road], Car: [Car]}\nadd: rest\n",
        encoding="utf-8",
    )
    models = [f"--main={tmp_path / 'main'}", f"--sub={tmp_path / 'sub'}", f"--task={tmp_path / 'task.yaml'}"]
    named = f"--dataset=camvid:{tmp_path / 'camvid'}"
    assert classaug(["learn", *models, named, f"--output={tmp_path / 'rules.yaml'}"]) == 0
    options = [*models, f"--rules={tmp_path / 'rules.yaml'}", f"--report={tmp_path / 'report'}"]
    assert classaug(["evaluate", *options, named]) == 0
    assert "Bicyclist" in (tmp_path / "report" / "report.md").read_text()
    capsys.readouterr()
    assert classaug(["evaluate", *options, f"--dataset=camvid/none:{tmp_path / 'camvid'}"]) == 2
    assert "has no 'none'; it has val, valannot\n" in capsys.readouterr().err
