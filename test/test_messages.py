"""Faulty messages where they are met: in recordings, by every command that reads them, and frames of odd shapes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from rosbags.typesys import Stores, get_typestore
from support.tinymodels import SUB_CLASSES, World, random_rules, tiny_model, write_world

from classaug_ros.cli import main as classaug
from classaug_ros.data.bags import COMPRESSED_IMAGE, IMAGE, BagWriter, image_message
from classaug_ros.data.groundtruth import label_image
from classaug_ros.errors import ConfigError
from classaug_ros.imaging.images import Frame
from classaug_ros.models.card import load_model
from classaug_ros.node.framelog import cause_of
from classaug_ros.pipeline.cpu import Pipeline
from classaug_ros.rules import Kind, RuleSet
from classaug_ros.rules.decision import Decision

GREY = np.arange(20, dtype=np.uint8).reshape(4, 5)
MESSAGE = bytes(image_message(7, "", GREY, "mono8"))
JPEG = cv2.imencode(".jpg", GREY)[1].tobytes()
PNG = cv2.imencode(".png", GREY)[1].tobytes()


def compressed(data: bytes, form: str) -> bytes:
    store = get_typestore(Stores.ROS2_JAZZY)
    header = store.types["std_msgs/msg/Header"](store.types["builtin_interfaces/msg/Time"](0, 7), "")
    message = store.types[COMPRESSED_IMAGE](header, form, np.frombuffer(data, np.uint8))
    return bytes(store.serialize_cdr(message, COMPRESSED_IMAGE))


def raw(height: int = 4, width: int = 5, encoding: str = "mono8", step: int = 5, data: bytes = bytes(20)) -> bytes:
    store = get_typestore(Stores.ROS2_JAZZY)
    header = store.types["std_msgs/msg/Header"](store.types["builtin_interfaces/msg/Time"](0, 7), "")
    message = store.types[IMAGE](header, height, width, encoding, 0, step, np.frombuffer(data, np.uint8))
    return bytes(store.serialize_cdr(message, IMAGE))


RECORDED = {
    "data too short": (IMAGE, raw(height=5), "data has 20 bytes, expected height 5 x step 5 = 25"),
    "megabytes of encoding": (IMAGE, raw(encoding="x" * 2**20), "encoding 'xxxx"),
    "text that is none": (IMAGE, MESSAGE.replace(b"mono8", b"\xff\xfe\xfd\xfc\xfb"), "'utf-8' codec can't decode"),
    "cut in the recording": (IMAGE, MESSAGE[:40], "a sensor_msgs/msg/Image message of 40 bytes: cannot be read"),
    "JPEG cut off": (COMPRESSED_IMAGE, compressed(JPEG[:-2], "jpeg"), "format 'jpeg': a broken or cut-off JPEG"),
    "no JPEG": (COMPRESSED_IMAGE, compressed(b"hello", "a\nb"), r"format 'a\nb': expected JPEG or PNG, found 5 bytes"),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def evaluate(world: World) -> Callable[..., int]:
    """Run ``classaug evaluate`` with rules for the world's models."""
    rules = world.folder / "rules.yaml"
    random_rules(load_model(world.main), load_model(world.sub), world.task).save(rules)
    models = ("--main", world.main, "--sub", world.sub, "--task", world.task, "--rules", rules)
    return lambda *options: classaug([str(word) for word in ("evaluate", *models, *options)])


@pytest.mark.parametrize("fault", RECORDED)
def test_a_faulty_message_in_a_recording_is_named_in_one_line(
    fault: str, tmp_path: Path, evaluate: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    kind, faulty, cause = RECORDED[fault]
    topic = "/front/image_raw/compressed" if kind == COMPRESSED_IMAGE else "/front/image_raw"
    bag = tmp_path / "bag"
    with BagWriter(bag) as writer:
        writer.add_topic(topic, kind)
        for stamp, message in enumerate((compressed(PNG, "png") if kind == COMPRESSED_IMAGE else MESSAGE, faulty)):
            writer.write(topic, stamp, message)
    assert evaluate("--bag", bag, "--report", tmp_path / "report", "--write-bag", tmp_path / "written") == 2
    out, err = capsys.readouterr()
    line = err.splitlines()[-1]
    assert line.startswith(f"classaug evaluate: {bag}: topic {topic}, image 2: ")
    assert cause in line
    assert len(line) < 1000
    assert "Traceback" not in err
    assert out == ""
    assert not (tmp_path / "report" / "report.json").exists()
    assert not (tmp_path / "written").exists()


LABELS = {
    "of no size": (IMAGE, raw(height=0, data=b""), "0 bytes, step 5: no 0 x 5 mono8"),
    "too short": (IMAGE, raw(data=bytes(19)), "19 bytes, step 5: no 4 x 5 mono8"),
    "too long": (IMAGE, raw(data=bytes(21)), "21 bytes, step 5: no 4 x 5 mono8"),
    "of too small a step": (IMAGE, raw(step=4, data=bytes(16)), "16 bytes, step 4: no 4 x 5 mono8"),
    "of a wide encoding": (IMAGE, raw(encoding="mono16"), "20 bytes, step 5: no 4 x 5 mono16"),
    "of megabytes of encoding": (IMAGE, raw(encoding="x" * 2**20), "encoding 'xxxx"),
    "of megabytes of format": (COMPRESSED_IMAGE, compressed(PNG, "x" * 2**20), "format 'xxxx"),
    "cut off": (COMPRESSED_IMAGE, compressed(PNG[:-5], "png"), "format 'png': a broken or cut-off PNG"),
    "in JPEG": (COMPRESSED_IMAGE, compressed(JPEG, "jpeg"), "expected PNG, which changes no label"),
}


@pytest.mark.parametrize("fault", LABELS)
def test_a_faulty_label_image_is_refused(fault: str) -> None:
    kind, message, cause = LABELS[fault]
    with pytest.raises(ConfigError) as refused:
        label_image(message, kind, "bag: topic /label")
    said = str(refused.value)
    assert said.startswith("bag: topic /label: ")
    assert cause in said
    assert len(said) < 300
    assert said.isprintable()


def test_a_defect_that_a_frame_meets_is_told_in_one_line() -> None:
    with pytest.raises(cv2.error) as met:
        cv2.resize(np.zeros((0, 1, 3), np.uint8), (4, 5))
    assert "\n" in str(met.value)
    assert re.fullmatch(r"error: OpenCV\(.*\(.*test_messages\.py:\d+\)", cause_of(met.value))
    with pytest.raises(ValueError, match="megabyte") as found:
        raise ValueError("a megabyte of text: " + "x" * 2**20)
    assert len(cause_of(found.value)) < 1000


@pytest.fixture(scope="module")
def pipeline(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    aligned = tmp_path_factory.mktemp("sub")
    sub = tiny_model(aligned, SUB_CLASSES, (12, 10), seed=4, stride=2, upsample="align_corners")
    with Pipeline(load_model(world.main), sub) as loaded:
        yield loaded


@pytest.mark.parametrize("decision", [None, Decision(), Decision(contours=True, min_confidence=0.3)], ids=str)
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (1, 3000), (3000, 1), (2, 70000), (70000, 2)], ids=str)
def test_frames_of_a_pixel_s_width_have_labels_of_their_size(
    size: tuple[int, int], decision: Decision | None, world: World, pipeline: Pipeline
) -> None:
    """70,000 is more than 16 bits can count."""
    kind: Kind = "table" if decision is None else "probability"
    rules = RuleSet([random_rules(pipeline.main, pipeline.subs[0], world.task, kind=kind)])
    pixels: NDArray[np.uint8] = np.random.default_rng(5).integers(0, 256, (*size, 3), np.uint8)
    made = pipeline.augment(
        Frame(pixels, "rgb"), rules, decision or Decision(), confidence=True, color=True, overlay=True
    )
    assert made.confidence is not None
    assert made.color is not None
    assert made.overlay is not None
    assert made.label.shape == made.confidence.shape == size
    assert made.color.shape == made.overlay.shape == (*size, 3)
    known = len(rules.output)
    assert ((made.label < known) | (made.label == rules.output.unlabelled)).all()
