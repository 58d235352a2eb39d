"""Evaluations that are interrupted go on where they were, and what comes out is that of one run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tinymodels import World, write_dataset, write_world

from classaug_ros.cli import main as classaug
from classaug_ros.data.dataset import load_dataset
from classaug_ros.data.examples import Example
from classaug_ros.errors import ImageError
from classaug_ros.evaluation.evaluate import Evaluation, evaluate
from classaug_ros.evaluation.kept import KeptPredictions
from classaug_ros.images import Frame
from classaug_ros.labels import LabelMap
from classaug_ros.learning.learn import count, derive_rules
from classaug_ros.models import load_model
from classaug_ros.pipeline import Pipeline
from classaug_ros.task import Task

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture
def world(tmp_path: Path) -> World:
    return write_world(tmp_path / "world", images=5)


@pytest.fixture
def pipeline(world: World) -> Iterator[Pipeline]:
    with Pipeline(load_model(world.main), load_model(world.sub)) as loaded:
        yield loaded


@dataclass
class Broken:
    """The world's data set, which ends with an error after some images."""

    world: World
    images: int
    read: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dataset = load_dataset(self.world.dataset)
        self.name, self.truth = self.dataset.name, self.dataset.truth

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[Example]:
        for number, example in enumerate(self.dataset):
            if number == self.images:
                raise ImageError("broken")
            self.read.append(example.name)
            yield example


def run(world: World, pipeline: Pipeline, kept: Path | None, images: int = 5) -> tuple[Evaluation, list[str]]:
    task = Task.load(world.task)
    rules = derive_rules(count(pipeline, [load_dataset(world.dataset)], task, world.folder / "c.npz"), task)
    seen: list[str] = []
    evaluation = evaluate(
        pipeline, Broken(world, images), task, rules, watchers=[lambda e, _: seen.append(e.name)], kept=kept
    )
    return evaluation, seen


def test_a_second_run_goes_on_after_the_first(
    world: World, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = run(world, pipeline, None)
    with pytest.raises(ImageError):
        run(world, pipeline, tmp_path / "kept", images=3)
    assert len(list((tmp_path / "kept").iterdir())) == 3
    predicted = 0
    predict = pipeline.predict

    def counted(frame: Frame, size: tuple[int, int]) -> tuple[LabelMap, LabelMap]:
        nonlocal predicted
        predicted += 1
        return predict(frame, size)

    monkeypatch.setattr(pipeline, "predict", counted)
    evaluation, seen = run(world, pipeline, tmp_path / "kept")
    assert predicted == 2
    assert seen == [f"{number:04}" for number in range(5)]
    assert evaluation.miou("rules") == whole.miou("rules")
    for method, matrix in whole.matrices.items():
        np.testing.assert_array_equal(evaluation.matrices[method].counts, matrix.counts)
    assert [frame.miou for frame in evaluation.frames] == [frame.miou for frame in whole.frames]


def test_a_report_that_cannot_be_written_costs_no_second_run(
    world: World, pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = Task.load(world.task)
    rules = derive_rules(count(pipeline, [load_dataset(world.dataset)], task, tmp_path / "c.npz"), task)
    rules.save(tmp_path / "rules.yaml")
    report = tmp_path / "report"
    given = {"main": world.main, "sub": world.sub, "task": world.task, "dataset": world.dataset, "report": report}
    command = ["evaluate", "--rules", str(tmp_path / "rules.yaml")]
    command += [part for name, value in given.items() for part in (f"--{name}", str(value))]
    (report / "report.html").mkdir(parents=True)
    assert classaug(command) == 2
    assert "report.html: cannot be written" in capsys.readouterr().err
    assert len(list(report.glob(".predictions/*.npz"))) == len(world.images)
    (report / "report.html").rmdir()
    assert classaug(command) == 0
    assert not (report / ".predictions").exists()


def test_what_is_kept_serves_the_same_image_model_and_size_only(
    world: World, pipeline: Pipeline, tmp_path: Path
) -> None:
    image = next(iter(world.images.values()))
    first = KeptPredictions(pipeline, tmp_path).predict(Frame(image, "rgb"), (12, 10))
    again = KeptPredictions(pipeline, tmp_path).predict(Frame(image, "rgb"), (12, 10))
    assert again[2] == first[2]
    for new, old in zip(again[:2], first[:2], strict=True):
        assert new.dtype == old.dtype
        np.testing.assert_array_equal(new, old)
    brighter = np.where(image < 255, image + 1, 0).astype(np.uint8)
    other = write_world(tmp_path / "other", seed=9)
    with Pipeline(load_model(other.main), load_model(other.sub)) as models:
        for using, frame, size in (
            (pipeline, Frame(brighter, "rgb"), (12, 10)),
            (pipeline, Frame(image, "bgr"), (12, 10)),
            (pipeline, Frame(image, "rgb"), (24, 20)),
            (models, Frame(image, "rgb"), (12, 10)),
        ):
            KeptPredictions(pipeline, tmp_path).predict(Frame(image, "rgb"), (12, 10))
            main, sub, _ = KeptPredictions(using, tmp_path).predict(frame, size)
            for labels, expected in zip((main, sub), using.predict(frame, size), strict=True):
                np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("content", [b"", b"broken", b"PK\x03\x04 cut off"])
def test_what_is_broken_is_done_again(world: World, pipeline: Pipeline, tmp_path: Path, content: bytes) -> None:
    image = next(iter(world.images.values()))
    (tmp_path / "0000000.npz").write_bytes(content)
    main, _, _ = KeptPredictions(pipeline, tmp_path).predict(Frame(image, "rgb"), (12, 10))
    np.testing.assert_array_equal(main, pipeline.predict(Frame(image, "rgb"))[0])
    assert (tmp_path / "0000000.npz").stat().st_size > 100


def test_ctrl_c_stops_between_images_and_the_next_run_goes_on(tmp_path: Path) -> None:
    world = write_world(tmp_path / "world", images=2)
    many, _, _ = write_dataset(tmp_path, "many", 300, (96, 128), seed=3)
    models = [f"--main={world.main}", f"--sub={world.sub}", f"--task={world.task}"]
    assert classaug(["learn", *models, f"--dataset={world.dataset}", f"--output={tmp_path / 'r.yaml'}"]) == 0
    report = tmp_path / "report"
    options = ["evaluate", *models, f"--rules={tmp_path / 'r.yaml'}", f"--dataset={many}", f"--report={report}"]

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "classaug_ros.cli", *options]
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    process = start()
    while process.poll() is None and len(list(report.glob(".predictions/*.npz"))) < 3:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert (process.returncode, told) == (130, "classaug evaluate: interrupted\n")
    assert [file.name for file in report.iterdir()] == [".predictions"]
    done = len(list(report.glob(".predictions/*.npz")))
    process = start()
    _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (0, f"{report}/.predictions: going on after {done} images done before\n")
    resumed = read(report)
    assert not (report / ".predictions").exists()
    assert classaug(options) == 0
    assert read(report) == resumed


def read(report: Path) -> Any:
    data = json.loads((report / "report.json").read_text())
    return data["methods"], [frame["miou"] for frame in data["frames"]]
