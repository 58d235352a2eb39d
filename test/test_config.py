from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from classaug_ros.models.labels import LabelSpace
from classaug_ros.rules.task import Task

CONFIG = Path(__file__).resolve().parents[1] / "config"
TASKS = sorted((CONFIG / "tasks").glob("*.yaml"))


@pytest.fixture(scope="module")
def paper() -> Task:
    return Task.load(CONFIG / "tasks" / "cityscapes_ade20k.yaml")


@pytest.mark.parametrize(
    ("file", "count", "some"),
    [
        pytest.param(
            "cityscapes.csv",
            19,
            {0: ("road", (128, 64, 128)), 10: ("sky", (70, 130, 180)), 18: ("bicycle", (119, 11, 32))},
            id="cityscapes",
        ),
        pytest.param(
            "ade20k.csv",
            150,
            {
                0: ("wall", (120, 120, 120)),
                12: ("person", (150, 5, 61)),
                59: ("stairway", (31, 0, 255)),
                93: ("pole", (51, 0, 255)),
                149: ("flag", (92, 0, 255)),
            },
            id="ade20k",
        ),
    ],
)
def test_classes_are_complete(file: str, count: int, some: dict[int, tuple[str, tuple[int, int, int]]]) -> None:
    space = LabelSpace.from_csv(CONFIG / "classes" / file)
    assert len(space) == count
    assert {number: (space.names[number], space.colors[number]) for number in some} == some


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.stem)
def test_task_loads(path: Path) -> None:
    assert Task.load(path).added


def test_papers_table_1(paper: Task) -> None:
    similar = {
        name: {paper.sub.names[number] for number in numbers}
        for name, numbers in zip(paper.main.names, paper.similar, strict=True)
    }
    assert similar["road"] == {"road"}
    assert similar["building"] == {"building", "house", "skyscraper"}
    assert similar["pole"] == {"pole", "column"}


def test_every_main_class_but_rider_and_train_has_similar_ones(paper: Task) -> None:
    without = {name for name, numbers in zip(paper.main.names, paper.similar, strict=True) if not numbers}
    assert without == {"rider", "train"}


def test_every_ade20k_class_is_similar_or_added(paper: Task) -> None:
    similar = frozenset().union(*paper.similar)
    assert similar.union(paper.added) == set(range(150))
    assert not similar.intersection(paper.added)


def test_a_class_of_both_names_is_similar_to_itself(paper: Task) -> None:
    for name in set(paper.main.names).intersection(paper.sub.names):
        assert paper.sub.index(name) in paper.similar[paper.main.index(name)], name


def test_output_colours_tell_classes_apart(paper: Task) -> None:
    assert len(set(paper.output.colors)) == len(paper.output) == 19 + len(paper.added)


def test_fast_dds_segment_holds_whole_images() -> None:
    dds = {"": "http://www.eprosima.com"}
    root = ET.parse(CONFIG / "fastdds.xml").getroot()
    transports = {item.findtext("type", "", dds): item for item in root.iterfind(".//transport_descriptor", dds)}
    assert set(transports) == {"SHM", "UDPv4"}
    assert int(transports["SHM"].findtext("segment_size", "0", dds)) >= 64 * 2**20


def test_fast_dds_for_networks_sends_messages_of_one_packet() -> None:
    dds = {"": "http://www.eprosima.com"}
    transports = list(ET.parse(CONFIG / "fastdds_network.xml").getroot().iterfind(".//transport_descriptor", dds))
    assert [transport.findtext("type", "", dds) for transport in transports] == ["UDPv4"]
    assert int(transports[0].findtext("maxMessageSize", "65500", dds)) <= 1472  # of 1500 bytes, UDP and IP take 28
