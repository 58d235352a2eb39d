"""The bag that an evaluation writes: what the node would have published, under its names and the frames' own times."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from rosbags.highlevel import AnyReader
from support.reports import world_rules
from support.tinymodels import World

from classaug_ros.cli import main as classaug
from classaug_ros.data.bags import START_NS, make_bag
from classaug_ros.imaging.images import Frame
from classaug_ros.models.card import load_model
from classaug_ros.pipeline.cpu import Pipeline
from classaug_ros.rules import Rules, RuleSet

LABEL, OVERLAY, INFO = (f"/classaug_node/{name}" for name in ("front/label", "front/overlay", "label_info"))


@pytest.fixture
def evaluate(world: World) -> Callable[..., int]:
    """Run ``classaug evaluate`` on the world's images as a bag."""
    models = ("--main", world.main, "--sub", world.sub, "--task", world.task)
    rules, bag = world.folder / "rules.yaml", world.folder / "bag"
    world_rules(world, "probability").save(rules)
    make_bag(world.dataset.parent / "images", bag, topic="/front/image_raw", frame_id="front_optical")

    def run(*options: object) -> int:
        given = ("evaluate", *models, "--rules", rules, "--bag", bag, "--report", world.folder / "report", *options)
        return classaug(list(map(str, given)))

    return run


def read(bag: Path, topic: str) -> list[tuple[int, Any]]:
    with AnyReader([bag]) as reader:
        connections = [connection for connection in reader.connections if connection.topic == topic]
        return [(t, reader.deserialize(data, c.msgtype)) for c, t, data in reader.messages(connections)]


@pytest.mark.parametrize("scaled", [False, True], ids=["truth of the image's size", "of another size"])
def test_it_holds_what_the_node_would_publish(
    world: World, tmp_path: Path, evaluate: Callable[..., int], scaled: bool
) -> None:
    if scaled:
        for file in (world.dataset.parent / "labels").iterdir():
            values = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
            assert values is not None
            assert cv2.imwrite(str(file), values.repeat(2, axis=0))
    assert evaluate("--dataset", world.dataset, "--write-bag", tmp_path / "out") == 0
    rules = RuleSet([Rules.load(world.folder / "rules.yaml")])
    labels, overlays = read(tmp_path / "out", LABEL), read(tmp_path / "out", OVERLAY)
    with Pipeline(load_model(world.main), load_model(world.sub)) as pipeline:
        for number, (image, label, overlay) in enumerate(zip(world.images.values(), labels, overlays, strict=True)):
            expected = pipeline.augment(Frame(image, "rgb"), rules, overlay=True)
            for recorded, message in (label, overlay):
                stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
                assert stamp == recorded == START_NS + number * 10**8
                assert message.header.frame_id == "front_optical"
            assert (label[1].encoding, overlay[1].encoding) == ("mono8", "rgb8")
            np.testing.assert_array_equal(label[1].data.reshape(expected.label.shape), expected.label)
            assert expected.overlay is not None
            np.testing.assert_array_equal(overlay[1].data.reshape(expected.overlay.shape), expected.overlay)
    [(recorded, info)] = read(tmp_path / "out", INFO)
    assert recorded == START_NS
    assert json.loads(info.data) == rules.label_info()


def test_its_metadata_says_what_is_latched(tmp_path: Path, evaluate: Callable[..., int]) -> None:
    assert evaluate("--write-bag", tmp_path / "out") == 0
    metadata = yaml.safe_load((tmp_path / "out" / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert metadata["storage_identifier"] == "mcap"
    topics = {entry["topic_metadata"]["name"]: entry for entry in metadata["topics_with_message_count"]}
    assert {name: entry["message_count"] for name, entry in topics.items()} == {LABEL: 5, OVERLAY: 5, INFO: 1}
    for name, entry in topics.items():
        [qos] = entry["topic_metadata"]["offered_qos_profiles"]
        assert qos["reliability"] == "reliable"
        assert qos["durability"] == ("transient_local" if name == INFO else "volatile")


def test_a_mistake_leaves_no_bag(
    world: World, tmp_path: Path, evaluate: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (world.dataset.parent / "labels" / "0002.png").write_bytes(b"broken")
    assert evaluate("--dataset", world.dataset, "--write-bag", tmp_path / "out") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["world"]
    (tmp_path / "there").mkdir()
    capsys.readouterr()
    assert evaluate("--write-bag", tmp_path / "there") == 2
    assert capsys.readouterr().err.endswith("there: exists already; remove it or name another output\n")
