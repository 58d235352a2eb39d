"""The demo drive through the node as a process of its own, over DDS; short."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

pytest.importorskip("rclpy")

from support.ros import own_domain

from classaug_ros.data.bags import BagReader, decode_message
from classaug_ros.errors import ClassaugError, ConfigError
from classaug_ros.rules import KINDS
from demo import run as demo
from demo.saying import Saying

FRAMES = 8


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, demo.Drive]]:
    output = tmp_path_factory.mktemp("demo") / "out"
    with own_domain() as domain, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(domain))
        patch.setenv("NUMBA_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))  # for the demo's other processes: empty
        patch.setattr(demo, "LEARNING_SEEDS", range(5000, 5008))
        yield output, demo.run(output, FRAMES)


def test_every_frame_comes_back_as_label_and_overlay_equal_to_the_evaluation(played: tuple[Path, demo.Drive]) -> None:
    _, drive = played
    assert (drive.sent, drive.labels, drive.overlays, drive.identical) == (FRAMES,) * 4
    assert len(drive.latency) == FRAMES


def test_labels_and_overlays_carry_the_stamps_of_their_images(played: tuple[Path, demo.Drive]) -> None:
    output, _ = played
    stamps: dict[str, list[tuple[int, int, str]]] = {}
    with BagReader(output / "recorded_bag") as bag:
        for message in bag.messages([demo.IMAGE_TOPIC, demo.LABEL_TOPIC, demo.OVERLAY_TOPIC]):
            header = decode_message(message.data, "sensor_msgs/msg/Image").header
            stamps.setdefault(message.topic, []).append((header.stamp.sec, header.stamp.nanosec, header.frame_id))
    assert len(set(stamps[demo.IMAGE_TOPIC])) == FRAMES
    assert stamps[demo.LABEL_TOPIC] == stamps[demo.OVERLAY_TOPIC] == stamps[demo.IMAGE_TOPIC]


def test_it_leaves_what_it_promises(played: tuple[Path, demo.Drive]) -> None:
    output, _ = played
    assert [name for name in demo._RESULTS if not (output / name).exists()] == []
    report = json.loads((output / "report" / "report.json").read_text())
    assert report["in_use"] == "probability"
    miou = {name: method["miou"] for name, method in report["methods"].items()}
    assert miou["main_only"]["added"] == 0
    for kind in KINDS:
        assert miou[kind]["added"] > 20
        assert miou[kind]["all"] > miou["main_only"]["all"] + 5
    sheet = cv2.imread(str(output / "contact_sheet.png"))
    assert sheet is not None
    assert sheet.shape[1] > 4 * 640
    video = cv2.VideoCapture(str(output / "overlay.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == FRAMES


def test_the_node_finds_compiled_what_it_needs(played: tuple[Path, demo.Drive]) -> None:
    output, _ = played
    log = (output / "node.log").read_text()
    assert "active" in log
    assert "compiling" not in log
    assert not (output / "compiling.log").exists()


def test_that_nothing_could_be_compiled_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "LEARNING_SEEDS", range(5000, 5001))
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))  # where no Python is
    with pytest.raises(ClassaugError, match=r"could not be compiled; see .*compiling\.log"):
        demo.run(tmp_path / "out", 1)
    assert "Python" in (tmp_path / "out" / "compiling.log").read_text()


def test_who_waits_is_told_that_it_goes_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("demo.saying.SILENCE", 0.05)
    with Saying() as say:
        say("1/1 waiting")
        said = ""
        while said.count("still at it") < 3:
            said += capsys.readouterr().out
    assert said.splitlines()[0] == "1/1 waiting"
    assert not any(thread.name == "saying" for thread in threading.enumerate())


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("keep")
    with pytest.raises(ConfigError, match="not of an earlier demo"):
        demo.run(tmp_path, FRAMES)
    assert (tmp_path / "mine").read_text() == "keep"
