"""Evaluations that are interrupted go on where they were, and what comes out is that of one run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.programs import program
from support.reports import world_rules
from support.tinymodels import World, write_dataset, write_world

from classaug_ros.cli import main as classaug
from classaug_ros.data.dataset import load_dataset
from classaug_ros.data.examples import Example
from classaug_ros.errors import ImageError
from classaug_ros.evaluation.evaluate import Evaluation, evaluate
from classaug_ros.evaluation.methods import Methods
from classaug_ros.evaluation.prediction_cache import PredictionCache
from classaug_ros.imaging.images import Frame
from classaug_ros.models.card import load_model
from classaug_ros.pipeline.cpu import Inferred, Pipeline, Prepared
from classaug_ros.rules import KINDS, Kind, Rules, RuleSet
from classaug_ros.rules.decision import Decision
from classaug_ros.rules.task import Task

PROJECT = Path(__file__).resolve().parent.parent


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


def run(
    world: World, pipeline: Pipeline, kept: Path | None, kind: Kind, images: int = 5
) -> tuple[Evaluation, list[str]]:
    seen: list[str] = []
    tasks, rules = [Task.load(world.task)], RuleSet([world_rules(world, kind)])
    evaluation = evaluate(
        pipeline, Broken(world, images), tasks, rules, watchers=[lambda e, _: seen.append(e.name)], kept=kept
    )
    return evaluation, seen


def counted(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> list[Prepared]:
    """Count the images that the models are run on."""
    seen: list[Prepared] = []
    infer = pipeline.infer

    def noted(prepared: Prepared) -> Inferred:
        seen.append(prepared)
        return infer(prepared)

    monkeypatch.setattr(pipeline, "infer", noted)
    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_run_goes_on_after_the_first(
    world: World, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    whole, _ = run(world, pipeline, None, kind)
    with pytest.raises(ImageError):
        run(world, pipeline, tmp_path / "kept", kind, images=3)
    assert len(list((tmp_path / "kept").iterdir())) == 3
    inferred = counted(pipeline, monkeypatch)
    evaluation, seen = run(world, pipeline, tmp_path / "kept", kind)
    assert len(inferred) == 2
    assert seen == [f"{number:04}" for number in range(5)]
    assert evaluation.miou(kind) == whole.miou(kind)
    assert list(evaluation.matrices) == ["main_only", "sub_only", "table", "probability"][: len(whole.matrices)]
    for method, matrix in whole.matrices.items():
        np.testing.assert_array_equal(evaluation.matrices[method].counts, matrix.counts)
    assert repr(evaluation.calibration.bins()) == repr(whole.calibration.bins())  # NaN is not itself
    assert [frame.miou for frame in evaluation.frames] == [frame.miou for frame in whole.frames]


def test_a_report_that_cannot_be_written_costs_no_second_run(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world_rules(world).save(tmp_path / "rules.yaml")
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


def other_table(rules: Rules) -> Rules:
    return replace(rules, table=np.zeros_like(rules.table))


def other_confidence(rules: Rules) -> Rules:
    return replace(rules, confidence=rules.confidence / np.float32(2))


def other_evidence(rules: Rules) -> Rules:
    assert rules.evidence is not None
    return replace(rules, evidence=replace(rules.evidence, boost=rules.evidence.boost + np.float32(1)))


def other_kind(rules: Rules) -> Rules:
    return replace(rules, kind="table")


def same(rules: Rules) -> Rules:
    return rules


@pytest.mark.parametrize("change", [same, other_table, other_confidence, other_evidence, other_kind])
@pytest.mark.parametrize(
    "decision",
    [Decision(), Decision(prefer="main"), Decision(min_confidence=0.5)],
    ids=["default", "prefer", "min_confidence"],
)
def test_what_is_kept_serves_the_same_rules_and_decision_only(
    world: World,
    pipeline: Pipeline,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Rules], Rules],
    decision: Decision,
) -> None:
    rules = world_rules(world, "probability")
    frame = Frame(next(iter(world.images.values())), "rgb")
    first = PredictionCache(pipeline, Methods(RuleSet([rules])), tmp_path).predict(frame, (12, 10))
    inferred = counted(pipeline, monkeypatch)
    methods = Methods(RuleSet([change(rules)]), decision)
    again = PredictionCache(pipeline, methods, tmp_path).predict(frame, (12, 10))
    nothing_changed = change is same and decision == Decision()
    assert len(inferred) == (0 if nothing_changed else 1)
    if nothing_changed:
        assert again.seconds == first.seconds
    expected = first if nothing_changed else methods.predict(pipeline, frame, (12, 10))
    assert list(again.labels) == list(expected.labels)
    for labels, wanted in zip(again.labels.values(), expected.labels.values(), strict=True):
        assert labels.dtype == wanted.dtype
        np.testing.assert_array_equal(labels, wanted)
    np.testing.assert_array_equal(again.confidence, expected.confidence)


def test_what_is_kept_serves_the_same_image_model_and_size_only(
    world: World, pipeline: Pipeline, tmp_path: Path
) -> None:
    image = next(iter(world.images.values()))
    brighter = np.where(image < 255, image + 1, 0).astype(np.uint8)
    other = write_world(tmp_path / "other", seed=9)
    methods, theirs = Methods(RuleSet([world_rules(world)])), Methods(RuleSet([world_rules(other)]))
    with Pipeline(load_model(other.main), load_model(other.sub)) as models:
        for using, own, frame, size in (
            (pipeline, methods, Frame(brighter, "rgb"), (12, 10)),
            (pipeline, methods, Frame(image, "bgr"), (12, 10)),
            (pipeline, methods, Frame(image, "rgb"), (24, 20)),
            (models, theirs, Frame(image, "rgb"), (12, 10)),
        ):
            PredictionCache(pipeline, methods, tmp_path).predict(Frame(image, "rgb"), (12, 10))
            predicted = PredictionCache(using, own, tmp_path).predict(frame, size)
            for labels, expected in zip(predicted.labels.values(), using.predict(frame, size), strict=False):
                np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("content", [b"", b"broken", b"PK\x03\x04 cut off"])
def test_what_is_broken_is_done_again(world: World, pipeline: Pipeline, tmp_path: Path, content: bytes) -> None:
    image = next(iter(world.images.values()))
    (tmp_path / "0000000.npz").write_bytes(content)
    kept = PredictionCache(pipeline, Methods(RuleSet([world_rules(world)])), tmp_path)
    predicted = kept.predict(Frame(image, "rgb"), (12, 10))
    np.testing.assert_array_equal(predicted.labels["main_only"], pipeline.predict(Frame(image, "rgb"))[0])
    assert (tmp_path / "0000000.npz").stat().st_size > 100


def test_ctrl_c_stops_between_images_and_the_next_run_goes_on(tmp_path: Path) -> None:
    world = write_world(tmp_path / "world", images=2)
    many, _, _ = write_dataset(tmp_path, "many", 300, (96, 128), seed=3)
    models = [f"--main={world.main}", f"--sub={world.sub}", f"--task={world.task}"]
    world_rules(world).save(tmp_path / "r.yaml")
    report = tmp_path / "report"
    options = ["evaluate", *models, f"--rules={tmp_path / 'r.yaml'}", f"--dataset={many}", f"--report={report}"]

    def started() -> AbstractContextManager[subprocess.Popen[str]]:
        command = [sys.executable, "-m", "classaug_ros.cli", *options]
        return program(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with started() as process:
        while process.poll() is None and len(list(report.glob(".predictions/*.npz"))) < 3:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate()
    assert (process.returncode, told) == (130, "classaug evaluate: interrupted\n")
    assert [file.name for file in report.iterdir()] == [".predictions"]
    done = len(list(report.glob(".predictions/*.npz")))
    with started() as process:
        _, told = process.communicate()
    assert (process.returncode, told) == (0, f"{report}/.predictions: going on after {done} images done before\n")
    resumed = read(report)
    assert not (report / ".predictions").exists()
    assert classaug(options) == 0
    assert read(report) == resumed


def read(report: Path) -> Any:
    data = json.loads((report / "report.json").read_text())
    return data["methods"], [frame["miou"] for frame in data["frames"]]
