from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader

from classaug_ros.data.bags import (
    COMPRESSED_IMAGE,
    FOLDER_RATE,
    IMAGE,
    START_NS,
    BagReader,
    BagTopic,
    BagWriter,
    Storage,
    decode_message,
    make_bag,
)
from classaug_ros.data.recordings import open_recording
from classaug_ros.errors import ConfigError, ImageError
from classaug_ros.imaging.images import decode_compressed, decode_image, read_image

STORAGES: tuple[Storage, ...] = get_args(Storage)
TOPIC = "/camera/image_raw"
COMPRESSED_TOPIC = f"{TOPIC}/compressed"
STRING = "std_msgs/msg/String"

each_storage = pytest.mark.parametrize("storage", STORAGES)


def text_cdr(text: str) -> bytes:
    """A std_msgs/String as DDS carries it: little-endian CDR."""
    data = text.encode() + b"\0"
    return b"\x00\x01\x00\x00" + len(data).to_bytes(4, "little") + data


def write_images(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for index, name in enumerate(names):
        noise = rng.integers(0, 256, (24 + 8 * index, 40, 3), np.uint8)
        assert cv2.imwrite(str(folder / name), cv2.GaussianBlur(noise, (0, 0), 4))
    return folder


def write_texts(bag: Path, storage: Storage = "mcap", count: int = 20) -> Path:
    with BagWriter(bag, storage) as writer:
        writer.add_topic("/text", STRING)
        for index in range(count):
            writer.write("/text", 1000 + index, text_cdr(f"{index} " * 50))
    return bag


def read(bag: Path, topic: str = TOPIC) -> list[tuple[int, Any]]:
    """Timestamps and messages of a topic, as another program reads them."""
    with AnyReader([bag]) as reader:
        connections = [connection for connection in reader.connections if connection.topic == topic]
        return [(t, reader.deserialize(data, c.msgtype)) for c, t, data in reader.messages(connections)]


def stamp(message: Any) -> int:
    return int(message.header.stamp.sec) * 10**9 + int(message.header.stamp.nanosec)


@each_storage
def test_images_come_back_as_they_were(tmp_path: Path, storage: Storage) -> None:
    folder = write_images(tmp_path / "images", "b.png", "a.jpg", "c.PNG")
    (folder / "notes.txt").write_text("not an image")
    assert make_bag(folder, tmp_path / "bag", topic=TOPIC, rate=4, storage=storage, frame_id="front") == 3
    messages = read(tmp_path / "bag")
    assert [t for t, _ in messages] == [START_NS, START_NS + 250_000_000, START_NS + 500_000_000]
    for (t, message), name in zip(messages, ("a.jpg", "b.png", "c.PNG"), strict=True):
        assert (stamp(message), message.header.frame_id) == (t, "front")
        np.testing.assert_array_equal(decode_image(message).rgb(), read_image(folder / name).rgb())


@each_storage
def test_compressed_bags_hold_jpeg_files_as_they_are(tmp_path: Path, storage: Storage) -> None:
    folder = write_images(tmp_path / "images", "a.jpeg", "b.png")
    make_bag(folder, tmp_path / "bag", topic=TOPIC, compressed=True, storage=storage)
    (_, first), (t, second) = read(tmp_path / "bag", COMPRESSED_TOPIC)
    assert first.data.tobytes() == (folder / "a.jpeg").read_bytes()
    assert t == START_NS + round(10**9 / FOLDER_RATE) == stamp(second)
    difference = decode_compressed(second).rgb().astype(int) - read_image(folder / "b.png").rgb()
    assert second.format == "jpeg"
    assert 0 < np.abs(difference).max() <= 12


@each_storage
@pytest.mark.parametrize("compressed", [False, True], ids=["raw", "compressed"])
def test_metadata_is_what_ros2_bag_expects(tmp_path: Path, storage: Storage, compressed: bool) -> None:
    folder = write_images(tmp_path / "images", "a.jpg", "b.jpg")
    make_bag(folder, tmp_path / "bag", topic=TOPIC, rate=2, compressed=compressed, storage=storage)
    info = yaml.safe_load((tmp_path / "bag/metadata.yaml").read_text())["rosbag2_bagfile_information"]
    suffix = {"mcap": "mcap", "sqlite3": "db3"}[storage]
    assert sorted(path.name for path in (tmp_path / "bag").iterdir()) == [f"bag.{suffix}", "metadata.yaml"]
    assert info["version"] == 9
    assert info["storage_identifier"] == storage
    assert info["relative_file_paths"] == [f"bag.{suffix}"]
    assert info["message_count"] == 2
    assert info["starting_time"]["nanoseconds_since_epoch"] == START_NS
    assert info["duration"]["nanoseconds"] == 500_000_000
    (entry,) = info["topics_with_message_count"]
    topic = entry["topic_metadata"]
    assert entry["message_count"] == 2
    assert (topic["name"], topic["type"]) == ((COMPRESSED_TOPIC, COMPRESSED_IMAGE) if compressed else (TOPIC, IMAGE))
    assert topic["serialization_format"] == "cdr"
    assert topic["type_description_hash"].startswith("RIHS01_")
    (qos,) = topic["offered_qos_profiles"]
    assert (qos["reliability"], qos["durability"]) == ("reliable", "volatile")
    assert (qos["history"], qos["depth"]) == ("keep_last", 10)


@pytest.mark.parametrize(
    ("rate", "index", "seconds_e9"),
    [(30, 300, 10 * 10**9), (29.97, 2, 66_733_400), (3, 1, 333_333_333), (3, 2, 666_666_667), (0.1, 3, 30 * 10**9)],
)
def test_stamps_never_drift(tmp_path: Path, rate: float, index: int, seconds_e9: int) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    assert cv2.imwrite(str(folder / "0000.png"), np.zeros((1, 1, 3), np.uint8))
    for number in range(1, index + 1):
        (folder / f"{number:04}.png").hardlink_to(folder / "0000.png")
    make_bag(folder, tmp_path / "bag", topic=TOPIC, rate=rate, start_ns=7)
    timestamp, message = read(tmp_path / "bag")[index]
    assert timestamp == stamp(message) == 7 + seconds_e9


def write_video(path: Path, frames: Sequence[NDArray[np.uint8]], rate: float) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, frames[0].shape[1::-1])
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame)
    writer.release()


@pytest.mark.parametrize(("given_rate", "used"), [(None, 25), (5.0, 5)])
def test_a_video_becomes_a_bag_at_its_own_or_the_given_rate(
    tmp_path: Path, given_rate: float | None, used: int
) -> None:
    frames = [np.full((48, 64, 3), 40 * index, np.uint8) for index in range(5)]
    write_video(tmp_path / "drive.avi", frames, 25)
    assert make_bag(tmp_path / "drive.avi", tmp_path / "bag", topic=TOPIC, rate=given_rate) == 5
    messages = read(tmp_path / "bag")
    assert [t for t, _ in messages] == [START_NS + index * 10**9 // used for index in range(5)]
    for (_, message), frame in zip(messages, frames, strict=True):
        assert np.abs(decode_image(message).pixels.astype(int) - frame).max() <= 3


def test_a_compressed_video_is_encoded(tmp_path: Path) -> None:
    write_video(tmp_path / "drive.avi", [np.full((48, 64, 3), (200, 100, 50), np.uint8)], 25)
    make_bag(tmp_path / "drive.avi", tmp_path / "bag", topic=COMPRESSED_TOPIC, compressed=True)
    ((_, message),) = read(tmp_path / "bag", COMPRESSED_TOPIC)
    assert np.abs(decode_compressed(message).rgb().astype(int) - (50, 100, 200)).max() <= 5


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"topic": "camera"}, "topic 'camera': expected an absolute name"),
        ({"topic": "/camera/"}, "topic '/camera/': expected"),
        ({"topic": "/2nd camera"}, "topic '/2nd camera': expected"),
        ({"rate": 0}, r"rate 0: expected 0\.001 to 1000000 Hz"),
        ({"rate": -1.5}, "rate -1.5: expected"),
        ({"rate": float("nan")}, "rate nan: expected"),
        ({"rate": float("inf")}, "rate inf: expected"),
        ({"storage": "zip"}, "storage 'zip': expected one of mcap, sqlite3"),
    ],
)
def test_wrong_options_are_refused_and_leave_nothing(tmp_path: Path, options: dict[str, Any], cause: str) -> None:
    folder = write_images(tmp_path / "images", "a.png")
    with pytest.raises(ConfigError, match=cause):
        make_bag(folder, tmp_path / "bag", **{"topic": TOPIC, **options})
    assert list(tmp_path.iterdir()) == [folder]


def test_sources_without_images_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    text = tmp_path / "notes.txt"
    text.write_text("not a video")
    for source, cause in [
        (empty, "empty: expected a folder with .jpeg, .jpg, .png files"),
        (text, "notes.txt: cannot be read as a video"),
        (tmp_path / "missing", "missing: cannot be read: No such file"),
    ]:
        with pytest.raises(ConfigError, match=cause):
            make_bag(source, tmp_path / "bag", topic=TOPIC)
    assert sorted(tmp_path.iterdir()) == [empty, text]


@each_storage
def test_a_broken_image_names_the_file_and_leaves_nothing(tmp_path: Path, storage: Storage) -> None:
    folder = write_images(tmp_path / "images", "a.png", "b.png")
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:200])
    with pytest.raises(ImageError, match=r"b\.png: a broken or cut-off"):
        make_bag(folder, tmp_path / "bag", topic=TOPIC, storage=storage)
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_an_existing_output_is_never_touched(tmp_path: Path, kind: str) -> None:
    folder = write_images(tmp_path / "images", "a.png")
    output = tmp_path / "bag"
    if kind == "file":
        output.write_text("mine")
    elif kind == "folder":
        output.mkdir()
    else:
        output.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="bag: exists already; remove it or name another output"):
        make_bag(folder, output, topic=TOPIC)
    assert output.is_symlink() or (output.read_text() == "mine" if kind == "file" else not list(output.iterdir()))


def test_an_output_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    output = tmp_path / "bag"

    def record() -> None:
        with BagWriter(output) as writer:
            writer.add_topic("/text", STRING)
            output.mkdir()
            (output / "mine").touch()

    with pytest.raises(ConfigError, match="bag: cannot be written"):
        record()
    assert [path.name for path in output.iterdir()] == ["mine"]
    assert list(tmp_path.iterdir()) == [output]


def test_an_output_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="bag: cannot be written: "):
        write_texts(tmp_path / "file" / "bag")


@each_storage
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_recording_leaves_nothing(tmp_path: Path, storage: Storage, error: type[BaseException]) -> None:
    def record() -> None:
        with BagWriter(tmp_path / "bag", storage) as writer:
            writer.add_topic("/text", STRING)
            writer.write("/text", 5, text_cdr("a"))
            raise error

    with pytest.raises(error):
        record()
    assert list(tmp_path.iterdir()) == []


@each_storage
def test_recorded_bytes_come_back_in_time_order(tmp_path: Path, storage: Storage) -> None:
    bag = tmp_path / "recordings" / "bag"
    with BagWriter(bag, storage) as writer:
        writer.add_topic("/a", STRING)
        writer.add_topic("/b", STRING, latched=True)
        writer.add_topic("/silent", IMAGE)
        for timestamp, topic in [(30, "/a"), (10, "/b"), (20, "/a")]:
            writer.write(topic, timestamp, text_cdr(f"{topic} at {timestamp}"))
    with BagReader(bag) as reader:
        assert reader.topics == {
            "/a": BagTopic("/a", STRING, 2, latched=False),
            "/b": BagTopic("/b", STRING, 1, latched=True),
            "/silent": BagTopic("/silent", IMAGE, 0, latched=False),
        }
        messages = list(reader.messages())
        assert [(m.timestamp, m.topic) for m in messages] == [(10, "/b"), (20, "/a"), (30, "/a")]
        assert [m.data for m in messages] == [text_cdr(f"{m.topic} at {m.timestamp}") for m in messages]
        assert [m.timestamp for m in reader.messages(["/a"])] == [20, 30]
        assert list(reader.messages(["/silent"])) == []
        assert decode_message(messages[0].data, STRING).data == "/b at 10"
        with pytest.raises(ConfigError, match="bag: has no topic /c; it has /a, /b, /silent"):
            reader.messages(["/c"])


@each_storage
def test_a_bag_without_messages_can_be_read(tmp_path: Path, storage: Storage) -> None:
    write_texts(tmp_path / "bag", storage, count=0)
    with BagReader(tmp_path / "bag") as reader:
        assert list(reader.messages()) == []


def test_topics_are_checked_as_they_are_added(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        writer.add_topic("/text", STRING)
        with pytest.raises(ConfigError, match="topic /text is already in"):
            writer.add_topic("/text", STRING)
        with pytest.raises(ConfigError, match="topic /odd: message type 'odd_msgs/msg/Odd' is not one of"):
            writer.add_topic("/odd", "odd_msgs/msg/Odd")


def test_what_is_no_bag_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "empty.mcap").touch()
    (tmp_path / "text.db3").write_text("text" * 100)
    for name, cause in [
        ("missing", "there is no such bag"),
        ("folder", "cannot be read as a rosbag2 recording: .*metadata"),
        ("notes.txt", "cannot be read as a rosbag2 recording"),
        ("empty.mcap", "cannot be read as a rosbag2 recording"),
        ("text.db3", "cannot be read as a rosbag2 recording"),
    ]:
        with pytest.raises(ConfigError, match=f"{name}: {cause}") as error, BagReader(tmp_path / name):
            pass
        assert "\n" not in str(error.value)


@each_storage
def test_a_bag_cut_off_anywhere_is_refused_or_whole(tmp_path: Path, storage: Storage) -> None:
    bag = write_texts(tmp_path / "bag", storage)
    (file,) = (path for path in bag.iterdir() if path.name.startswith("bag."))
    whole = file.read_bytes()
    refused = []
    for length in range(0, len(whole), max(1, len(whole) // 200)):
        file.write_bytes(whole[:length])
        try:
            with BagReader(bag) as reader:
                messages = list(reader.messages())
        except ConfigError as error:
            refused.append(str(error))
        else:
            assert [m.data for m in messages] == [text_cdr(f"{index} " * 50) for index in range(20)]
    assert len(refused) > 100
    assert all(line.startswith(str(bag)) and "\n" not in line for line in refused)


@each_storage
@pytest.mark.parametrize("count", [10**30, -1, 2**63])
def test_a_bag_that_claims_to_have_such_many_messages_is_refused(tmp_path: Path, storage: Storage, count: int) -> None:
    bag = write_texts(tmp_path / "bag", storage)
    metadata = bag / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("message_count: 20", f"message_count: {count}"))
    with pytest.raises(ConfigError, match=rf"topic \S+ has {count} messages, so its metadata says"), BagReader(bag):
        pass


def read_texts(bag: Path) -> list[bytes]:
    with BagReader(bag) as reader:
        found = [bytes(message.data) for message in reader.messages(["/text"])]
        assert len(found) == reader.topics["/text"].count
    return found


def edited(metadata: dict[str, Any], what: str) -> dict[str, Any]:
    """What people change in metadata.yaml by hand."""
    topic = metadata["rosbag2_bagfile_information"]["topics_with_message_count"][0]
    qos = topic["topic_metadata"]["offered_qos_profiles"]
    if what == "no QoS":
        qos.clear()
    elif what == "durations 0":
        for name in ("deadline", "lifespan", "liveliness_lease_duration"):
            qos[0][name] = {"sec": 0, "nsec": 0}
    else:
        topic["message_count"] = 3
    return metadata


@each_storage
@pytest.mark.parametrize("what", ["no QoS", "durations 0", "fewer messages"])
def test_metadata_that_is_edited_hides_no_message(tmp_path: Path, storage: Storage, what: str) -> None:
    bag = write_texts(tmp_path / "bag", storage)
    before = read_texts(bag)
    metadata = bag / "metadata.yaml"
    metadata.write_text(yaml.safe_dump(edited(yaml.safe_load(metadata.read_text()), what)))
    assert len(before) == 20
    assert read_texts(bag) == before


@each_storage
def test_a_bag_without_a_message_has_none(tmp_path: Path, storage: Storage) -> None:
    with BagWriter(tmp_path / "bag", storage) as writer:
        writer.add_topic("/camera/image_raw", IMAGE)
    with BagReader(tmp_path / "bag") as reader:
        assert list(reader.messages()) == []
    with pytest.raises(ConfigError, match="has no images on /camera/image_raw"):
        open_recording(tmp_path / "bag")


@settings(max_examples=50)
@given(data=st.binary(max_size=100))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    try:
        decode_message(data, IMAGE)
    except ConfigError:
        return


def test_unknown_message_types_are_refused() -> None:
    with pytest.raises(ConfigError, match="message type 'odd_msgs/msg/Odd' is not one of"):
        decode_message(b"", "odd_msgs/msg/Odd")


def test_ros_reads_the_messages_of_a_bag(tmp_path: Path) -> None:
    serialization = pytest.importorskip("rclpy.serialization")
    image_type = pytest.importorskip("sensor_msgs.msg").Image
    folder = write_images(tmp_path / "images", "a.png")
    make_bag(folder, tmp_path / "bag", topic=TOPIC, frame_id="front", start_ns=3 * 10**9 + 5)
    with BagReader(tmp_path / "bag") as reader:
        (message,) = reader.messages()
    image = serialization.deserialize_message(message.data, image_type)
    assert (image.header.stamp.sec, image.header.stamp.nanosec, image.header.frame_id) == (3, 5, "front")
    np.testing.assert_array_equal(decode_image(image).rgb(), read_image(folder / "a.png").rgb())
