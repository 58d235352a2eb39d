"""Measurements: every step is there, and the ratios are those of the times. How fast it is, no test says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.ros import own_domain
from support.tinymodels import World, random_rules

from classaug_ros.benchmark.steps import Stopwatch, synthetic_frames
from classaug_ros.cli import main
from classaug_ros.models.card import load_model
from classaug_ros.rules import KINDS, Kind


@pytest.fixture
def command(world: World, tmp_path: Path) -> list[str]:
    """``classaug bench`` of the world's models, with rules learned there."""
    models = ["--main", str(world.main), "--sub", str(world.sub)]
    rules = str(tmp_path / "rules.yaml")
    assert main(["learn", *models, "--dataset", str(world.dataset), "--task", str(world.task), "--output", rules]) == 0
    images = str(world.folder / "drive" / "images")
    return ["bench", *models, "--rules", rules, "--size", "40x30", "--images", images]


def test_the_running_node_is_measured_under_every_load(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = tmp_path / "bench.json"
    load = ["--node", "--cameras", "1", "2", "--rate", "20", "--seconds", "2", "--json", str(written)]
    with own_domain() as domain:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
        assert main([*command, *load]) == 0
    result = json.loads(written.read_text())
    assert [(load["cameras"], load["sent"]) for load in result["loads"]] == [(1, 40), (2, 80)]
    for load in result["loads"]:
        counts = load["frames"]
        assert counts["out"] == load["labels"] > 20
        assert counts["in"] == counts["out"] + counts["dropped"] == load["sent"] - counts["lost on the way"]
        assert load["steps_ms"].keys() == {
            *("transport in", "wait", "prepare", "engines", "fusion", "publish", "transport out")
        }
        p50, p95, p99 = load["latency_ms"]
        assert 0 < p50 <= p95 <= p99
        assert sum(load["steps_ms"].values()) == pytest.approx(p50, rel=0.5, abs=20)  # medians of different frames
        assert load["of_bare_rate"] == pytest.approx(load["labels_per_second"] / load["bare_per_second"])
        assert 0 < load["cores"] < 16
        assert all(10 < memory < 10_000 for _, memory in load["memory_mib"])
    shown = capsys.readouterr().out
    assert "| 2 | 20 | " in shown
    assert "80 in" in shown or "lost" in shown


@pytest.mark.parametrize("folder", ["", "/"])
def test_figures_that_cannot_be_kept_are_refused_before_the_work(
    command: list[str], folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--json", folder]) == 2
    assert "is a folder; name a file" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [("--rate", "0"), ("--rate", "5", "-1"), ("--seconds", "0.2")], ids=" ".join)
def test_loads_that_are_none_are_refused(
    command: list[str], wrong: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--node", *wrong])
    assert ended.value.code == 2
    assert "expected a number from " in capsys.readouterr().err


def test_cards_that_the_node_would_not_read_are_refused(
    command: list[str], world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--node", "--main-card", str(world.main / "model.yaml")]) == 2
    assert "leave out --main-card" in capsys.readouterr().err


FUSION = {"label and overlay", "label", "label and confidence"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_step_is_measured_and_told(
    kind: Kind, world: World, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fusion by each kind of rules there is; whole frames by the table, whatever kind is in use."""
    random_rules(load_model(world.main), load_model(world.sub), world.task, kind=kind).save(tmp_path / "rules.yaml")
    written = tmp_path / "bench.json"
    assert main([*command, "--rounds", "4", "--json", str(written)]) == 0
    result = json.loads(written.read_text())
    steps = {name: times["p50"] for name, times in result["steps"].items()}
    assert len(steps) == (16 if kind == "table" else 20)
    fusion = {f"table fusion: {what}" for what in FUSION}
    if kind == "probability":
        fusion |= {f"probability fusion: {what}" for what in FUSION | {"label along contours"}}
    after = "after the models, "
    assert {name.removeprefix(after) for name in steps if name.startswith(after)} == fusion
    assert all(0 < times["p50"] <= times["p95"] <= times["p99"] for times in result["steps"].values())
    ratio = result["ratios"]["whole frame with overlay / engines alone"]
    assert ratio == pytest.approx(steps["frame: label and overlay"] / steps["engines alone, both at once"])
    ratios = {name: value for name, value in result["ratios"].items() if name.startswith("probability")}
    assert ratios == {
        f"probability fusion / table fusion: {what}": pytest.approx(
            steps[f"{after}probability fusion: {what}"] / steps[f"{after}table fusion: {what}"]
        )
        for what in (FUSION if kind == "probability" else ())
    }
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
