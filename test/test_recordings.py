"""Recordings as a source: frames, ground truth in its three ways, and every mistake, through the command line too."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Writer
from support.tinymodels import IGNORED, World

from classaug_ros.cli import main as classaug
from classaug_ros.data.bags import (
    COMPRESSED_IMAGE,
    IMAGE,
    START_NS,
    STRING,
    BagReader,
    BagWriter,
    Storage,
    image_message,
    make_bag,
    text_message,
)
from classaug_ros.data.dataset import Annotations, load_annotations, load_dataset
from classaug_ros.data.groundtruth import _nearest, by_stamp
from classaug_ros.data.recordings import GroundTruth, Recording, camera_names, open_recording
from classaug_ros.errors import ConfigError, ImageError

TOPIC = "/front/image_raw"
SECOND = 10**9


@pytest.fixture
def bag(world: World) -> Path:
    """The world's images at 10 Hz."""
    make_bag(world.dataset.parent / "images", world.folder / "bag", topic=TOPIC, rate=10, frame_id="front_optical")
    return world.folder / "bag"


def truth(world: World, *ways: str, tolerance: float = 0.02, topic: str = "") -> GroundTruth:
    annotations, files = load_annotations(world.dataset)
    return GroundTruth(annotations, files, dict.fromkeys((topic,), ways[0]), tolerance)


def expected_truth(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.where(values == IGNORED, 255, values).astype(np.uint8)


def assert_whole(recording: Recording, world: World) -> None:
    """Every frame of the world is there with its truth, twice."""
    for _ in range(2):
        examples = list(recording)
        assert len(examples) == len(recording) == len(world.images)
        for example, name in zip(examples, world.images, strict=True):
            np.testing.assert_array_equal(example.frame.rgb(), world.images[name])
            assert example.truth is not None
            np.testing.assert_array_equal(example.truth, expected_truth(world.truths[name]))


def write_bag(path: Path, world: World, labels: dict[int, int] | None = None, *, encoding: str = "mono8") -> Path:
    """Write the world's images at 10 Hz, and labels by image number: so many ns off, recorded a second later."""
    messages = [
        (START_NS + n * SECOND // 10, TOPIC, image_message(START_NS + n * SECOND // 10, "", image, "rgb8"))
        for n, image in enumerate(world.images.values())
    ]
    values = list(world.truths.values())
    for n, off in (labels or {}).items():
        stamp = START_NS + n * SECOND // 10 + off
        pixels = values[n] if encoding == "mono8" else values[n].astype(np.uint16)
        messages.append((stamp + SECOND, "/label", image_message(stamp, "", pixels, encoding)))
    with BagWriter(path) as writer:
        for topic in (TOPIC, "/label") if labels else (TOPIC,):
            writer.add_topic(topic, IMAGE)
        writer.add_topic("/text", STRING)
        for recorded, topic, data in sorted(messages, key=lambda message: message[0]):
            writer.write(topic, recorded, data)
    return path


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_frames_come_with_truth_by_order(world: World, tmp_path: Path, storage: Storage) -> None:
    make_bag(world.dataset.parent / "images", tmp_path / "bag", topic=TOPIC, storage=storage)
    recording = open_recording(tmp_path / "bag", truth=truth(world, "order"))
    assert recording.name == "bag"
    assert_whole(recording, world)


def test_frames_keep_their_header_and_time(bag: Path) -> None:
    examples = list(open_recording(bag))
    assert [example.name for example in examples] == [f"front/{number:06}" for number in range(5)]
    for number, example in enumerate(examples):
        assert example.stamp == example.recorded == START_NS + number * SECOND // 10
        assert (example.camera, example.frame_id, example.truth) == (TOPIC, "front_optical", None)


@pytest.mark.parametrize("mode", [CompressionMode.MESSAGE, CompressionMode.FILE])
def test_compressed_bags_are_read(world: World, bag: Path, tmp_path: Path, mode: CompressionMode) -> None:
    with BagReader(bag) as reader:
        packed = Writer(tmp_path / "zstd", version=Writer.VERSION_LATEST)
        packed.set_compression(mode, CompressionFormat.ZSTD)
        with packed as writer:
            connection = writer.add_connection(TOPIC, IMAGE, typestore=typestore())
            for message in reader.messages():
                writer.write(connection, message.timestamp, message.data)
    assert_whole(open_recording(tmp_path / "zstd", truth=truth(world, "order")), world)


def typestore() -> Any:
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_JAZZY)


def test_compressed_images_are_read(world: World, tmp_path: Path) -> None:
    make_bag(world.dataset.parent / "images", tmp_path / "bag", topic=TOPIC, compressed=True)
    recording = open_recording(tmp_path / "bag", truth=truth(world, "order"))
    assert [example.camera for example in recording] == [f"{TOPIC}/compressed"] * 5
    assert next(example.name for example in recording) == "front/000000"


def test_truth_by_stamp_is_the_nearest_within_the_tolerance(world: World, bag: Path, tmp_path: Path) -> None:
    """Frames at 0, 0.1, 0.2, 0.3 and 0.4 s; annotations beside some of them."""
    labels = tmp_path / "labels"
    labels.mkdir()
    names = {
        f"{START_NS + 4_000_000}": 0,  # 4 ms after frame 0
        "1700000000.09": 1,  # 10 ms before frame 1
        "1700000000.101000000": 1,  # 1 ms after frame 1, nearer
        "1700000000.225": 2,  # 25 ms after frame 2: too far
        "1700000000.4": 4,
    }
    values = [np.full((3, 4), number, np.uint8) for number in range(5)]
    for stem, number in names.items():
        assert cv2.imwrite(str(labels / f"{stem}.png"), values[number])
    (tmp_path / "d.yaml").write_text(f"name: d\nlabels: labels\nclasses: {world.dataset.parent}/classes.csv\n")
    annotations, files = load_annotations(tmp_path / "d.yaml")
    recording = open_recording(bag, truth=GroundTruth(annotations, files, {"": "stamp"}, 0.02))
    found = [(example.truth is None, example.apart) for example in recording]
    assert found == [(False, 4_000_000), (False, 1_000_000), (True, 0), (True, 0), (False, 0)]
    examples = list(recording)
    assert [None if e.truth is None else e.truth.flat[0] for e in examples] == [0, 1, None, None, 4]


@pytest.mark.parametrize("encoding", ["mono8", "16UC1"])
def test_truth_from_a_topic_of_the_bag(world: World, tmp_path: Path, encoding: str) -> None:
    bag = write_bag(tmp_path / "bag", world, {0: 0, 1: -15_000_000, 2: 25_000_000, 4: 3}, encoding=encoding)
    recording = open_recording(bag, truth=truth(world, "/label"))
    assert [camera.name for camera in recording.cameras] == [TOPIC]
    examples = list(recording)
    assert [example.apart for example in examples if example.truth is not None] == [0, 15_000_000, 3]
    for number, (example, name) in enumerate(zip(examples, world.truths, strict=True)):
        if number in (0, 1, 4):
            np.testing.assert_array_equal(example.truth, expected_truth(world.truths[name]))
        else:
            assert example.truth is None


def stamped_bag(path: Path, world: World, frames: list[int], labels: list[int]) -> Path:
    """Write the world's images, over and over, with these stamps, each with its label 50 ms later."""
    images, values = list(world.images.values()), list(world.truths.values())
    with BagWriter(path) as writer:
        writer.add_topic(TOPIC, IMAGE)
        writer.add_topic("/label", IMAGE)
        for n in range(max(len(frames), len(labels))):
            recorded = START_NS + n * SECOND // 10
            if n < len(frames):
                writer.write(TOPIC, recorded, image_message(frames[n], "", images[n % 5], "rgb8"))
            if n < len(labels):
                writer.write("/label", recorded + SECOND // 20, image_message(labels[n], "", values[n % 5], "mono8"))
    return path


LOOP = [START_NS + n % 5 for n in range(10)]


@pytest.mark.parametrize("stamps", [[0] * 10, LOOP], ids=["all 0", "looped"])
def test_label_images_that_share_a_stamp_go_in_order(
    world: World, tmp_path: Path, stamps: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    recording = open_recording(
        stamped_bag(tmp_path / "bag", world, stamps, stamps), [TOPIC], truth(world, "/label", tolerance=0)
    )
    for number, example in enumerate(recording):
        assert example.truth is not None
        np.testing.assert_array_equal(example.truth, expected_truth(list(world.truths.values())[number % 5]))
    assert "stamps repeat" in caplog.text


@pytest.mark.parametrize(
    ("frames", "labels", "said"),
    [
        ([0] * 5, [0] * 4, "4 label images have the stamp 0.000000000 and 5 frames are nearest to it"),
        (LOOP[:5], [LOOP[0], *LOOP[:5]], "2 label images have the stamp 1700000000.000000000 and 1 frames are nearest"),
        (LOOP, LOOP[:5], "two frames have the stamp 1700000000.000000000 and one annotation of topic /label"),
    ],
    ids=["a label short", "a label twice", "labels of one round"],
)
def test_stamps_that_do_not_tell_whose_a_label_is_are_refused(
    world: World, tmp_path: Path, frames: list[int], labels: list[int], said: str
) -> None:
    bag = stamped_bag(tmp_path / "bag", world, frames, labels)
    with pytest.raises(ConfigError, match=said):
        list(open_recording(bag, [TOPIC], truth(world, "/label", tolerance=0)))


def test_frames_that_share_a_stamp_have_no_file_of_their_own(world: World, tmp_path: Path) -> None:
    annotations, files = load_annotations(world.dataset)
    file = tmp_path / f"{START_NS}.png"
    file.write_bytes(files[0].read_bytes())
    bag = stamped_bag(tmp_path / "bag", world, [START_NS] * 2, [])
    with pytest.raises(ConfigError, match=r"two frames have the stamp 1700000000\.000000000 and one annotation of"):
        list(open_recording(bag, [TOPIC], GroundTruth(annotations, (file,), {"": "stamp"}, 0)))


def test_each_camera_may_have_its_own_truth(world: World, tmp_path: Path) -> None:
    path = write_bag(tmp_path / "one", world, {0: 0, 3: 0})
    with BagReader(path) as reader, BagWriter(tmp_path / "two") as writer:
        for topic in (TOPIC, "/rear/image_raw", "/label"):
            writer.add_topic(topic, IMAGE)
        for message in reader.messages():
            writer.write(message.topic, message.timestamp, message.data)
            if message.topic == TOPIC:
                writer.write("/rear/image_raw", message.timestamp, message.data)
    with pytest.raises(ConfigError, match=f"there are {TOPIC}, /rear/image_raw: choose one with --topic, or write "):
        open_recording(tmp_path / "two", truth=truth(world, "/label"))
    recording = open_recording(tmp_path / "two", truth=truth(world, "/label", topic="/rear/image_raw"))
    assert len(recording) == 10
    assert {example.camera for example in recording if example.truth is not None} == {"/rear/image_raw"}
    assert [e.name for e in recording if e.truth is not None] == ["rear/000000", "rear/000003"]
    only = open_recording(tmp_path / "two", [TOPIC], truth(world, "order"))
    assert [e.truth is None for e in only] == [False] * 5
    with pytest.raises(ConfigError, match=f"ground truth for /none, which is none of the cameras {TOPIC}, /rear"):
        open_recording(tmp_path / "two", truth=truth(world, "/label", topic="/none"))


@given(st.lists(st.integers(0, 1000), max_size=8), st.integers(0, 1000), st.integers(0, 100))
def test_nearest_is_the_nearest(stamps: list[int], stamp: int, tolerance: int) -> None:
    ascending = np.array(sorted(stamps), np.int64)
    found = _nearest(ascending, stamp, tolerance)
    distances = [abs(s - stamp) for s in ascending.tolist()]
    if found is None:
        assert all(distance > tolerance for distance in distances)
    else:
        assert found in stamps
        assert abs(found - stamp) == min(distances) <= tolerance


@pytest.mark.parametrize(
    ("topics", "names"),
    [
        (["/front/image_raw"], ["front"]),
        (["/front/image_raw/compressed"], ["front"]),
        (["/camera/front_left/image_rect_color"], ["camera_front_left"]),
        (["/image"], ["image"]),
        (["/front/image_raw", "/front/image_raw/compressed"], ["front_image_raw", "front_image_raw_compressed"]),
        (["/_a__b/image"], ["a_b"]),
        (["/_1/image"], ["camera_1"]),
        (["/a/x", "/a/y", "/b/x"], ["a_x", "a_y", "b"]),
    ],
)
def test_cameras_are_named_after_their_topics(topics: list[str], names: list[str]) -> None:
    from classaug_ros.node.parameters import camera_names as checked

    assert list(camera_names(topics).values()) == names
    assert checked({"cameras": tuple(names)}) == tuple(names)


@pytest.mark.parametrize("name", ["a", "9999999999999.5", "9223372036854775808", "1_0.5", "-1"])
def test_file_names_that_are_no_stamps_are_refused(world: World, name: str) -> None:
    annotations = load_dataset(world.dataset)
    with pytest.raises(ConfigError, match=rf"{name}\.png: expected a stamp for its name, such as"):
        by_stamp(annotations, [Path(f"{name}.png")], 1)


def test_topics_that_no_name_tells_apart_are_refused() -> None:
    with pytest.raises(ConfigError, match="makes the camera name 'a_b_c' too"):
        camera_names(["/a/b/c", "/a/b/d", "/a_b/c", "/a_b/d"])


def write_image(path: Path, message: memoryview | bytes, kind: str = IMAGE) -> Path:
    with BagWriter(path) as writer:
        writer.add_topic(TOPIC, kind)
        writer.write(TOPIC, 1, message)
    return path


def test_a_frame_that_cannot_be_decoded_is_named(world: World, tmp_path: Path) -> None:
    message = image_message(1, "", np.zeros((4, 4), np.uint8), "mono8")
    odd = write_image(tmp_path / "bag", bytes(message).replace(b"mono8", b"odd-8"))
    with pytest.raises(ImageError, match=f"bag: topic {TOPIC}, image 1: encoding 'odd-8' is not supported"):
        list(open_recording(odd))


def label_bag(path: Path, message: memoryview | bytes, kind: str = IMAGE) -> Path:
    with BagWriter(path) as writer:
        writer.add_topic(TOPIC, IMAGE)
        writer.add_topic("/label", kind)
        writer.write(TOPIC, 1, image_message(7, "", np.zeros((4, 4, 3), np.uint8), "rgb8"))
        writer.write("/label", 2, message)
    return path


def compressed(data: bytes, form: str) -> bytes:
    """A sensor_msgs/CompressedImage, stamped 7 ns."""
    store = typestore()
    header = store.types["std_msgs/msg/Header"](store.types["builtin_interfaces/msg/Time"](0, 7), "")
    message = store.types[COMPRESSED_IMAGE](header, form, np.frombuffer(data, np.uint8))
    return bytes(store.serialize_cdr(message, COMPRESSED_IMAGE))


def test_label_images_in_png_are_read(world: World, tmp_path: Path) -> None:
    values = np.array([[0, 1], [2, IGNORED]], np.uint8)
    data = cv2.imencode(".png", values)[1].tobytes()
    bag = label_bag(tmp_path / "bag", compressed(data, "mono8; png compressed "), COMPRESSED_IMAGE)
    [example] = open_recording(bag, truth=truth(world, "/label"))
    np.testing.assert_array_equal(example.truth, expected_truth(values))


def test_label_images_of_other_kinds_are_refused(world: World, tmp_path: Path) -> None:
    ids = np.zeros((4, 4), np.uint8)
    jpeg = cv2.imencode(".jpg", ids)[1].tobytes()
    cases: tuple[tuple[memoryview | bytes, str, str], ...] = (
        (image_message(7, "", np.zeros((4, 4, 3), np.uint8), "rgb8"), IMAGE, "encoding 'rgb8': expected one of mono8"),
        (image_message(7, "", np.full((4, 4), 77, np.uint8), "mono8"), IMAGE, "value 77 is in neither `map` nor"),
        (compressed(jpeg, "mono8; jpeg compressed"), COMPRESSED_IMAGE, "expected PNG, which changes no label"),
        (compressed(b"", "png"), COMPRESSED_IMAGE, "expected PNG, found 0 bytes"),
    )
    for number, (message, kind, cause) in enumerate(cases):
        bag = label_bag(tmp_path / str(number), message, kind)
        with pytest.raises(ConfigError, match=cause) as raised:
            list(open_recording(bag, truth=truth(world, "/label")))
        assert str(raised.value).startswith(f"{bag}: topic /label, stamp 0.000000007: ")
    bag = label_bag(tmp_path / "text", text_message("no image"), STRING)
    with pytest.raises(ConfigError, match="topic /label holds std_msgs/msg/String, no label images"):
        open_recording(bag, truth=truth(world, "/label"))


@pytest.fixture
def evaluate(world: World, tmp_path: Path) -> Callable[..., int]:
    """Run ``classaug evaluate`` on a world whose rules are learned."""
    models = ("--main", world.main, "--sub", world.sub, "--task", world.task)
    rules = world.folder / "rules.yaml"
    assert classaug(list(map(str, ("learn", *models, "--dataset", world.dataset, "--output", rules)))) == 0

    def run(*options: object) -> int:
        return classaug(list(map(str, ("evaluate", *models, "--rules", rules, *options))))

    return run


def methods(report: Path) -> Any:
    return json.loads((report / "report.json").read_text())["methods"]


def test_a_lossless_bag_scores_as_its_data_set_does(
    world: World, bag: Path, tmp_path: Path, evaluate: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    labels = write_bag(tmp_path / "labelled", world, dict.fromkeys(range(5), 0))
    assert evaluate("--dataset", world.dataset, "--report", tmp_path / "images") == 0
    for name, options in {
        "order": ("--bag", bag),
        "again": ("--bag", bag, "--truth", "order", "--topic", TOPIC),
        "topic": ("--bag", labels, "--truth", "/label"),
    }.items():
        capsys.readouterr()
        assert evaluate(*options, "--dataset", world.dataset, "--report", tmp_path / name) == 0
        assert "\n5 frames, 5 with ground truth\n" in capsys.readouterr().out
        assert methods(tmp_path / name) == methods(tmp_path / "images")


def test_frames_without_truth_are_run_and_not_scored(
    world: World, tmp_path: Path, evaluate: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_bag(tmp_path / "bag", world, {0: 2_000_000, 3: 0})
    capsys.readouterr()
    assert evaluate("--dataset", world.dataset, "--bag", bag, "--truth", "/label", "--report", tmp_path / "r") == 0
    assert "5 frames, 2 with ground truth, their stamps up to 2.000 ms apart\n" in capsys.readouterr().out
    pixels = sum((list(world.truths.values())[n] != IGNORED).sum() for n in (0, 3))
    assert np.sum(methods(tmp_path / "r")["table"]["confusion"]) == pixels


def test_without_a_data_set_it_tells_class_shares(
    bag: Path, tmp_path: Path, evaluate: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert evaluate("--bag", bag, "--report", tmp_path / "r", "--save-labels") == 0
    out = capsys.readouterr().out
    shares = [float(line.split("%")[0]) for line in out.splitlines() if "%" in line]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=0.1)
    assert "5 frames, 0 with ground truth\n" in out
    assert len(list((tmp_path / "r/labels/front").glob("*.png"))) == 5


def test_truth_of_another_size_is_scored_at_its_size(
    world: World, bag: Path, tmp_path: Path, evaluate: Callable[..., int]
) -> None:
    for file in (world.dataset.parent / "labels").iterdir():
        values = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        assert values is not None
        assert cv2.imwrite(str(file), values.repeat(2, axis=0).repeat(3, axis=1))
    assert evaluate("--dataset", world.dataset, "--bag", bag, "--report", tmp_path / "r") == 0
    pixels = 6 * sum((values != IGNORED).sum() for values in world.truths.values())
    assert np.sum(methods(tmp_path / "r")["table"]["confusion"]) == pixels


def cut_off(bag: Path) -> Path:
    [file] = bag.glob("*.mcap")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return bag


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ("--bag {bag} --topic /none", "{bag}: has no topic /none; it has /front/image_raw"),
        ("--bag {text}", "{text}: has no topic of images; it has /text"),
        ("--bag {text} --topic /text", "{text}: topic /text holds std_msgs/msg/String, no images"),
        ("--bag {empty}", "{empty}: has no images on /front/image_raw"),
        ("--bag {cut}", "{cut}: cannot be read as a rosbag2 recording: "),
        ("--bag {none}", "{none}: there is no such bag"),
        ("--bag {bag} --truth order", "--truth: give --dataset too"),
        ("--bag {bag} --dataset {data} --truth best", "--truth best: expected order, stamp or a label topic"),
        ("--bag {bag} --dataset {data} --truth /gt", "{bag}: has no topic /gt; it has /front/image_raw"),
        (
            "--bag {bag} --dataset {data} --truth stamp",
            "none of 5 images has ground truth; see --truth and --tolerance",
        ),
        ("--bag {bag} --dataset {data} --truth stamp --tolerance -1", "--tolerance -1.0: expected 0 to 3600 seconds"),
        ("--bag {bag} --dataset {fewer}", "topic /front/image_raw has 5 images, data set 'fewer' has 4 annotations; "),
        ("--bag {bag} --dataset {named} --truth stamp", "odd.png: expected a stamp for its name"),
        ("--bag {bag} --dataset {hollow}", "expected a folder with .jpeg, .jpg, .png files, found none"),
        ("--dataset {hollow}", "expected a folder with .jpeg, .jpg, .png files, found none"),
        ("--dataset {data} --topic /a", "--topic is for recordings: give --bag too, or leave it out"),
        ("--dataset {data} --write-bag {none}", "--write-bag is for recordings: give --bag too"),
        ("", "give --dataset, --bag, or both"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_report(
    world: World,
    bag: Path,
    tmp_path: Path,
    evaluate: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    options: str,
    cause: str,
) -> None:
    files = {"bag": bag, "data": world.dataset, "none": tmp_path / "none", **mistaken(world, tmp_path)}
    capsys.readouterr()
    assert evaluate(*options.format(**files).split(), "--report", tmp_path / "report") == 2
    out, err = capsys.readouterr()
    assert err.startswith("classaug evaluate: ")
    assert cause.format(**files) in err
    assert (out, err.count("\n")) == ("", 1)
    assert not any((tmp_path / "report").glob("[!.]*"))  # predictions may be kept for the corrected command


def mistaken(world: World, folder: Path) -> dict[str, Path]:
    """Write bags and data sets, each with something wrong."""
    with BagWriter(folder / "text") as writer:
        writer.add_topic("/text", STRING)
        writer.write("/text", 1, text_message("a"))
    with BagWriter(folder / "empty") as writer:
        writer.add_topic(TOPIC, IMAGE)
    make_bag(world.dataset.parent / "images", folder / "cut", topic=TOPIC)
    head = f"classes: {world.dataset.parent}/classes.csv\nignore: [{IGNORED}]\n"
    labels = world.dataset.parent / "labels"
    for name, stems in (("fewer", ("0", "1", "2", "3")), ("named", ("17", "odd")), ("hollow", ())):
        (folder / name).mkdir()
        for stem in stems:
            (folder / name / f"{stem}.png").write_bytes((labels / "0000.png").read_bytes())
        (folder / f"{name}.yaml").write_text(f"name: {name}\nlabels: {name}\n{head}", encoding="utf-8")
    (folder / "hollow.yaml").write_text(f"name: hollow\nimages: hollow\nlabels: hollow\n{head}", encoding="utf-8")
    return {
        "text": folder / "text",
        "empty": folder / "empty",
        "cut": cut_off(folder / "cut"),
        **{name: folder / f"{name}.yaml" for name in ("fewer", "named", "hollow")},
    }


def test_a_bag_that_ends_too_soon_leaves_no_report(
    bag: Path, tmp_path: Path, evaluate: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    metadata = bag / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("message_count: 5", "message_count: 6"))
    capsys.readouterr()
    assert evaluate("--bag", bag, "--report", tmp_path / "r", "--write-bag", tmp_path / "out") == 2
    assert capsys.readouterr().err.endswith(f"classaug evaluate: {bag}: is cut off: it has 5 of 6 messages\n")
    assert not (tmp_path / "r" / "report.json").exists()
    assert not (tmp_path / "out").exists()


def test_annotations_without_images_or_labels(world: World, tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_text(f"name: d\nclasses: {world.dataset.parent}/classes.csv\n", encoding="utf-8")
    annotations, files = load_annotations(tmp_path / "d.yaml")
    assert isinstance(annotations, Annotations)
    assert files == ()
