from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String
from support.programs import program
from support.ros import Peer, environment, eventually, standard_input

from classaug_ros.data.bags import START_NS, BagReader, BagWriter, Storage, make_bag
from classaug_ros.errors import ConfigError
from classaug_ros.imaging.images import decode_image, read_image
from classaug_ros.running.player import Playback, _timeline, play

pytestmark = pytest.mark.ros

TOPIC = "/camera/image_raw"
STRING = "std_msgs/msg/String"
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)

PROGRAM = """
import json, sys, time
from dataclasses import asdict
from pathlib import Path
from classaug_ros.running.player import play
times = []
try:
    played = play(Path(sys.argv[1]), **json.loads(sys.argv[2]), publishing=lambda _: times.append(time.monotonic()))
    print(json.dumps([asdict(played), times]))
except KeyboardInterrupt:
    sys.exit(130)
"""


class Player:
    """``play`` in a process of its own."""

    def __init__(self, domain: int, bag: Path, **options: Any) -> None:
        self._stack = ExitStack()
        self.process = self._stack.enter_context(
            program(
                [sys.executable, "-c", PROGRAM, bag, json.dumps(options)],
                env=environment(domain),
                stdin=standard_input(domain),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )

    def result(self) -> tuple[Playback, list[float], str]:
        """Wait for the end; return what it published, when in seconds, and what it logged."""
        out, log = self.process.communicate()
        assert self.process.returncode == 0, log
        played, times = json.loads(out)
        return Playback(**played), times, log

    def __enter__(self) -> Player:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


@pytest.fixture
def player(domain: int) -> Iterator[Callable[..., Player]]:
    with ExitStack() as stack:

        def start_player(bag: Path, **options: Any) -> Player:
            return stack.enter_context(Player(domain, bag, **options))

        yield start_player


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for index in range(10):
        assert cv2.imwrite(str(folder / f"{index}.jpg"), rng.integers(0, 256, (60, 80, 3), np.uint8))
    return folder


@pytest.fixture(scope="module")
def bag(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images at 10 Hz."""
    path = tmp_path_factory.mktemp("bags") / "bag"
    make_bag(images, path, topic=TOPIC, rate=10)
    return path


def text_cdr(text: str) -> bytes:
    data = text.encode() + b"\0"
    return b"\x00\x01\x00\x00" + len(data).to_bytes(4, "little") + data


def write_texts(bag: Path, *messages: tuple[int, str, str], latched: str = "") -> Path:
    """Write (time in ns, topic, text) messages."""
    with BagWriter(bag) as writer:
        for topic in {topic for _, topic, _ in messages}:
            writer.add_topic(topic, STRING, latched=topic == latched)
        for timestamp, topic, text in messages:
            writer.write(topic, timestamp, text_cdr(text))
    return bag


def stamps(messages: list[Any]) -> list[int]:
    return [message.header.stamp.sec * 10**9 + message.header.stamp.nanosec for message in messages]


EXPECTED_STAMPS = [START_NS + index * 10**8 for index in range(10)]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_another_process_gets_every_image_unchanged_and_in_order(
    images: Path, tmp_path: Path, peer: Peer, player: Callable[..., Player], storage: Storage
) -> None:
    make_bag(images, tmp_path / "bag", topic=TOPIC, rate=20, frame_id="front", storage=storage)
    received = peer.subscribe(Image, TOPIC)
    played, _, log = player(tmp_path / "bag").result()
    messages = received.wait_for(10)
    assert stamps(messages) == [START_NS + index * 50_000_000 for index in range(10)]
    for message, path in zip(messages, sorted(images.iterdir()), strict=True):
        assert message.header.frame_id == "front"
        np.testing.assert_array_equal(decode_image(message).rgb(), read_image(path).rgb())
    assert played.messages == 10
    assert f"played 10 messages; {played.late} of them late" in log
    assert "nobody subscribes" not in log


def test_compressed_images_reach_a_best_effort_subscriber(
    images: Path, tmp_path: Path, peer: Peer, player: Callable[..., Player]
) -> None:
    make_bag(images, tmp_path / "bag", topic=TOPIC, rate=20, compressed=True)
    received = peer.subscribe(CompressedImage, f"{TOPIC}/compressed", qos_profile_sensor_data)
    player(tmp_path / "bag")
    messages = received.wait_for(10)
    assert [bytes(message.data) for message in messages] == [p.read_bytes() for p in sorted(images.iterdir())]


@pytest.mark.parametrize("rate", [0.5, 10.0])
def test_messages_come_at_the_times_of_the_bag(
    bag: Path, peer: Peer, player: Callable[..., Player], rate: float
) -> None:
    received = peer.subscribe(Image, TOPIC)
    played, times, _ = player(bag, rate=rate).result()
    received.wait_for(10)
    due = [index * 0.1 / rate for index in range(10)]
    lags = [when - times[0] - wanted for when, wanted in zip(times, due, strict=True)]
    # The first may itself have been late; and a busy machine may stop the player before it looks at the clock.
    assert min(lags) > -played.worst_lag - 0.5, "early"
    assert max(lags) < played.worst_lag + 0.5, "late"


def test_only_the_named_topics_are_played(tmp_path: Path, peer: Peer, player: Callable[..., Player]) -> None:
    bag = write_texts(tmp_path / "bag", (1, "/a", "one"), (2, "/b", "two"), (3, "/a", "three"))
    a, b = peer.subscribe(String, "/a"), peer.subscribe(String, "/b")
    played, _, _ = player(bag, topics=["/a"]).result()
    assert [message.data for message in a.wait_for(2)] == ["one", "three"]
    assert played.messages == 2
    assert b.items() == []


def test_a_latched_topic_stays_latched(tmp_path: Path, peer: Peer, player: Callable[..., Player]) -> None:
    texts = [(index * 10**8, "/ticks", str(index)) for index in range(100)]
    bag = write_texts(tmp_path / "bag", (0, "/info", "classes"), *texts, latched="/info")
    ticks = peer.subscribe(String, "/ticks")
    player(bag)
    ticks.wait_for(1)
    late_joiner = peer.subscribe(String, "/info", LATCHED)
    assert [message.data for message in late_joiner.wait_for(1)] == ["classes"]


def test_the_clock_runs_with_the_bag(bag: Path, peer: Peer, player: Callable[..., Player]) -> None:
    clock, received = peer.subscribe(Clock, "/clock", QoSProfile(depth=200)), peer.subscribe(Image, TOPIC)
    player(bag, clock=True, rate=0.5)
    received.wait_for(10)
    times = [message.clock.sec * 10**9 + message.clock.nanosec for message in clock.items()]
    assert times == sorted(times)
    assert times[0] >= EXPECTED_STAMPS[0]
    eventually(lambda: clock.items()[-1].clock.nanosec == EXPECTED_STAMPS[-1] % 10**9, "the last clock message")
    assert len(set(times) - set(EXPECTED_STAMPS)) > 20, "ticks between the messages"


def test_a_loop_goes_on_until_interrupted(tmp_path: Path, peer: Peer, player: Callable[..., Player]) -> None:
    bag = write_texts(tmp_path / "bag", *((index * 10**7, "/text", str(index)) for index in range(4)))
    received = peer.subscribe(String, "/text", 100)
    process = player(bag, loop=True).process
    messages = received.wait_for(14)
    assert [message.data for message in messages[:12]] == ["0", "1", "2", "3"] * 3
    process.send_signal(signal.SIGINT)
    _, log = process.communicate()
    assert process.returncode == 130
    assert "played" in log
    assert "Traceback" not in log
    eventually(lambda: peer.node.count_publishers("/text") == 0, "the publisher to be gone")


def test_without_subscribers_it_plays_regardless(tmp_path: Path, player: Callable[..., Player]) -> None:
    bag = write_texts(tmp_path / "bag", (1, "/unheard", "one"))
    played, _, log = player(bag).result()
    assert played.messages == 1
    assert "nobody subscribes to /unheard; playing regardless" in log


def test_passes_of_a_loop_follow_each_other_at_the_mean_interval(tmp_path: Path) -> None:
    even = write_texts(tmp_path / "even", *((5 + index * 10, "/text", str(index)) for index in range(3)))
    single = write_texts(tmp_path / "single", (5, "/text", "0"))
    with BagReader(even) as reader:
        assert [offset for offset, _ in _timeline(reader, (), loop=False)] == [0, 10, 20]
        assert [offset for offset, _ in islice(_timeline(reader, (), loop=True), 7)] == [0, 10, 20, 30, 40, 50, 60]
    with BagReader(single) as reader:
        assert [offset for offset, _ in islice(_timeline(reader, (), loop=True), 3)] == [0, 10**9, 2 * 10**9]


def test_late_messages_are_counted() -> None:
    assert Playback().add(0.001).add(0.5).add(0.03) == Playback(messages=3, late=2, worst_lag=0.5)


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"rate": 0.0}, r"rate 0\.0: expected 0\.001 to 1000"),
        ({"rate": float("nan")}, "rate nan: expected"),
        ({"topics": ["/other"]}, "has no topic /other; it has /camera/image_raw"),
    ],
)
def test_wrong_options_are_refused(bag: Path, options: dict[str, Any], cause: str) -> None:
    with pytest.raises(ConfigError, match=cause):
        play(bag, **options)


def test_bags_that_cannot_be_played_are_refused(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "empty") as writer:
        writer.add_topic("/text", STRING)
    with pytest.raises(ConfigError, match="empty: has no messages to play"):
        play(tmp_path / "empty")
    with pytest.raises(ConfigError, match="missing: there is no such bag"):
        play(tmp_path / "missing")


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("odd_msgs/msg/Odd", "topic /text: message type odd_msgs/msg/Odd is not installed; install .* odd_msgs"),
        ("std_msgs/msg/Odd", "topic /text: message type std_msgs/msg/Odd is not installed"),
        ("std_msgs/String", "topic /text: 'std_msgs/String' is not a ROS 2 message type"),
        ("os.path/msg/Odd", "topic /text: 'os.path/msg/Odd' is not a ROS 2 message type"),
    ],
)
def test_message_types_that_are_not_installed_are_named(tmp_path: Path, kind: str, cause: str) -> None:
    with BagWriter(tmp_path / "bag", "sqlite3") as writer:
        writer.add_topic("/text", STRING)
        writer.write("/text", 1, text_cdr("one"))
    with closing(sqlite3.connect(tmp_path / "bag/bag.db3")) as database, database:
        database.execute("UPDATE topics SET type = ?", [kind])
    with pytest.raises(ConfigError, match=cause):
        play(tmp_path / "bag")
