"""Measurements: every step is there, and the ratios are those of the times. How fast it is, no test says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tinymodels import World, write_world

from classaug_ros.bench import Stopwatch, synthetic_frames
from classaug_ros.cli import main


@pytest.fixture
def world(tmp_path: Path) -> World:
    return write_world(tmp_path / "world", images=2)


def test_every_step_is_measured_and_told(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = ["--main", str(world.main), "--sub", str(world.sub)]
    rules = tmp_path / "rules.yaml"
    learned = ["learn", *models, "--dataset", str(world.dataset), "--task", str(world.task), "--output", str(rules)]
    assert main(learned) == 0
    written = tmp_path / "bench.json"
    measured = ["bench", *models, "--rules", str(rules), "--size", "40x30", "--rounds", "4", "--json", str(written)]
    assert main([*measured, "--images", str(world.folder / "drive" / "images")]) == 0
    result = json.loads(written.read_text())
    steps = {name: times["p50"] for name, times in result["steps"].items()}
    assert len(steps) == 12
    assert all(0 < times["p50"] <= times["p95"] <= times["p99"] for times in result["steps"].values())
    ratio = result["ratios"]["whole frame with overlay / engines alone"]
    assert ratio == pytest.approx(steps["frame: label and overlay"] / steps["engines alone, both at once"])
    assert result["machine"]["frame"] == "40 x 30"
    shown = capsys.readouterr().out
    assert all(name in shown for name in (*steps, *result["ratios"], *result["machine"]))


def test_a_folder_without_images_is_refused(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    missing = ["bench", "--main", str(world.main), "--sub", str(world.sub), "--rules", "none.yaml"]
    assert main([*missing, "--images", str(tmp_path / "empty")]) == 2
    assert "found none" in capsys.readouterr().err


def test_the_stopwatch_passes_arguments_and_results() -> None:
    watch = Stopwatch()
    assert watch.measure("power", pow, 2, exp=5) == 32
    assert list(watch.percentiles()["power"]) == ["p50", "p95", "p99"]


def test_synthetic_frames_are_the_same_each_time() -> None:
    first, again = synthetic_frames((48, 64)), synthetic_frames((48, 64))
    assert {frame.size for frame in first} == {(48, 64)}
    assert all(np.array_equal(one.pixels, other.pixels) for one, other in zip(first, again, strict=True))
    assert not np.array_equal(first[0].pixels, first[1].pixels)
