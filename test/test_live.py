"""A node of its own, over DDS: every frame is accounted for, and labels score as they do offline."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tinymodels import World, write_world

pytest.importorskip("rclpy")

from sensor_msgs.msg import Image
from support.reports import world_rules
from support.ros import Peer, Process, eventually

from classaug_ros.cli import main as classaug
from classaug_ros.data.bags import COMPRESSED_IMAGE, IMAGE, BagReader, BagWriter, make_bag
from classaug_ros.data.dataset import load_dataset
from classaug_ros.data.recordings import open_recording
from classaug_ros.errors import ConfigError
from classaug_ros.evaluation.evaluate import Scorer
from classaug_ros.evaluation.live import Account, _play, _predicted, evaluate_live
from classaug_ros.evaluation.methods import Methods
from classaug_ros.evaluation.scoring import scoring_for
from classaug_ros.models.card import load_model
from classaug_ros.pipeline.cpu import Pipeline
from classaug_ros.rules import Rules, RuleSet
from classaug_ros.rules.task import Task

pytestmark = pytest.mark.ros

TOPIC = "/front/image_raw"
FRAMES = 12


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Models with rules of both kinds, in a folder with a name that YAML would take apart."""
    world = write_world(tmp_path_factory.mktemp("the: world #1"), images=FRAMES)
    world_rules(world, "probability").save(rules(world))
    return world


def models(world: World) -> list[str]:
    return [f"--main={world.main}", f"--sub={world.sub}", f"--task={world.task}"]


def rules(world: World) -> Path:
    return world.folder / "rules.yaml"


def options(world: World, bag: Path, report: Path, *more: object) -> list[str]:
    given = [f"--rules={rules(world)}", f"--dataset={world.dataset}", f"--bag={bag}", f"--report={report}"]
    return ["evaluate", *models(world), *given, *map(str, more)]


def record(world: World, bag: Path, **options: Any) -> Path:
    make_bag(world.dataset.parent / "images", bag, topic=TOPIC, **options)
    return bag


def read(report: Path) -> Any:
    return json.loads((report / "report.json").read_text())


def test_every_frame_is_accounted_for_and_scores_as_offline(
    world: World, tmp_path: Path, start: Callable[..., Process]
) -> None:
    bag = record(world, tmp_path / "bag", rate=10)
    decision = ("--prefer", "main", "--min-confidence", 0.4)
    process = start("classaug_ros.cli", *options(world, bag, tmp_path / "live", "--live", *decision))
    assert process.wait() == 0, process.output
    assert classaug(options(world, bag, tmp_path / "offline", *decision)) == 0
    live, offline = read(tmp_path / "live"), read(tmp_path / "offline")
    figures = live["live"]
    assert (figures["sent"], figures["lost"]) == (FRAMES, 0)
    assert figures["answered"] + figures["dropped"] == figures["sent"]
    assert f"{FRAMES} frames sent: {figures['answered']} answered, {figures['dropped']} dropped\n" in process.output
    assert len(figures["latency_ms"]) == figures["answered"] == len(live["frames"]) > FRAMES / 2
    assert all(0 < latency < 5000 for latency in figures["latency_ms"])
    expected = {frame["stamp"]: frame for frame in offline["frames"]}
    for frame in live["frames"]:
        for key in ("name", "camera", "miou", "shares"):
            assert frame[key] == expected[frame["stamp"]][key]
    if figures["answered"] == FRAMES:
        for key in ("methods", "calibration", "unlabelled"):
            assert live[key] == offline[key]
        assert live["unlabelled"] > 1
    assert all(memory > 10 for _, memory in figures["memory_mib"])
    assert "active" in (tmp_path / "live" / "node.log").read_text()


def test_the_node_s_labels_are_scored_and_no_others(world: World) -> None:
    tasks, methods = [Task.load(world.task)], Methods(RuleSet([Rules.load(rules(world))]))
    example = next(iter(load_dataset(world.dataset)))
    label = np.random.default_rng(0).integers(0, 5, (24, 20), np.uint8)  # the node saw an image of twice the size
    with Pipeline(load_model(world.main), load_model(world.sub)) as pipeline:
        here = methods.predict(pipeline, example.frame, example.frame.size)
        predicted = _predicted(methods, pipeline, example, label, 0.5)
    assert predicted.seconds == 0.5
    np.testing.assert_array_equal(predicted.labels["probability"], label[1::2, 1::2])
    for method in ("main_only", "sub_only", "table"):
        np.testing.assert_array_equal(predicted.labels[method], here.labels[method])
    np.testing.assert_array_equal(predicted.confidence, here.confidence)
    scorer = Scorer(scoring_for(load_dataset(world.dataset).truth, tasks), methods)
    np.testing.assert_array_equal(scorer.add(example, predicted).output, label[1::2, 1::2])


def test_frames_that_come_too_fast_are_dropped_and_counted(
    world: World, tmp_path: Path, start: Callable[..., Process]
) -> None:
    """Two cameras, one of them compressed, at 500 Hz."""
    bags = record(world, tmp_path / "raw", rate=500), record(world, tmp_path / "jpeg", rate=500, compressed=True)
    rear = "/rear/image_raw/compressed"
    with BagReader(bags[0]) as raw, BagReader(bags[1]) as jpeg, BagWriter(tmp_path / "bag") as writer:
        writer.add_topic(TOPIC, IMAGE)
        writer.add_topic(rear, COMPRESSED_IMAGE)
        for front, back in zip(raw.messages(), jpeg.messages(), strict=True):
            writer.write(TOPIC, front.timestamp, front.data)
            writer.write(rear, back.timestamp, back.data)
    given = options(world, tmp_path / "bag", tmp_path / "live", "--live", "--truth", f"{TOPIC}=order")
    process = start("classaug_ros.cli", *given)
    assert process.wait() == 0, process.output
    report = read(tmp_path / "live")
    figures = report["live"]
    assert (figures["sent"], figures["lost"]) == (2 * FRAMES, 0)
    assert 0 < figures["dropped"] == 2 * FRAMES - figures["answered"]
    assert {frame["camera"] for frame in report["frames"]} == {TOPIC, rear}
    scored = sum(frame["camera"] == TOPIC for frame in report["frames"])
    assert f"{figures['answered']} frames, {scored} with ground truth\n" in process.output


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)], ids=["Ctrl-C", "killed"]
)
def test_a_signal_ends_the_node_too_and_leaves_no_report(
    world: World, tmp_path: Path, start: Callable[..., Process], peer: Peer, number: signal.Signals, status: int
) -> None:
    bag = record(world, tmp_path / "bag", rate=0.2)

    def running() -> list[str]:
        return [name for name in peer.node.get_node_names() if name.startswith("classaug_")]

    process = start("classaug_ros.cli", *options(world, bag, tmp_path / "live", "--live"))
    eventually(lambda: "classaug_play" in running(), "the player")
    assert process.stop(number)[0] == status
    assert not (tmp_path / "live" / "report.json").exists()
    eventually(lambda: not running(), "the node to be gone")


def test_frames_of_one_stamp_cannot_be_told_apart(
    world: World, tmp_path: Path, peer: Peer, domain: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    peer.subscribe(Image, TOPIC)
    record(world, tmp_path / "once")
    with BagReader(tmp_path / "once") as reader, BagWriter(tmp_path / "bag") as writer:
        writer.add_topic(TOPIC, IMAGE)
        for message in reader.messages():
            writer.write(TOPIC, message.timestamp, message.data)
            writer.write(TOPIC, message.timestamp + 1000, message.data)
    with pytest.raises(ConfigError, match=r"two images on /front/image_raw have the stamp 1700000000.000000000, so"):
        _play(open_recording(tmp_path / "bag"), {TOPIC: "front"})


def test_a_node_that_cannot_start_says_why(
    world: World, tmp_path: Path, domain: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    recording = open_recording(record(world, tmp_path / "bag"))
    parameters = {"main_model": str(world.main), "sub_model": "/none/model.onnx", "rules_file": str(rules(world))}
    tasks, learned = [Task.load(world.task)], RuleSet([Rules.load(rules(world))])

    def load() -> Pipeline:
        raise AssertionError("nothing is there to score")

    with pytest.raises(ConfigError, match=r"the node did not start: .*/none/model\.onnx"):
        evaluate_live(load, recording, tasks, learned, parameters, tmp_path / "log")


@pytest.mark.parametrize(
    ("more", "cause"),
    [
        (["--save-labels"], "--live goes without --save-labels: leave one of them out"),
        (["--limit", "3"], "--live goes without --limit"),
        (["--write-bag", "x"], "--live goes without --write-bag"),
        (["--main-card", "x"], "--live goes without --main-card"),
    ],
)
def test_options_that_do_not_go_together(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], cause: str
) -> None:
    assert classaug(options(world, tmp_path / "bag", tmp_path / "r", "--live", *more)) == 2
    assert cause in capsys.readouterr().err
    without = [option for option in options(world, tmp_path, tmp_path / "r", "--live") if "--bag" not in option]
    assert classaug(without) == 2
    assert "--live is for recordings: give --bag too" in capsys.readouterr().err


def test_what_nobody_accounts_for_is_lost() -> None:
    fates = {"dropped": 3, "refused": 1, "skipped": 0, "failed": 0}
    assert Account(10, 6, fates).lost == 0
    assert Account(10, 4, fates).lost == 2
