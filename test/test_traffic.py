"""Publishers and subscribers that behave badly around a running node."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import Image
from support.programs import program
from support.ros import Peer, environment, eventually, standard_input
from support.tinynode import NODE, Rig, at, running, tiny_node

from classaug_ros.running.nodeprocess import footprint

pytestmark = pytest.mark.ros

OUTPUTS = [f"/classaug_node/camera/{output}" for output in ("label", "overlay", "label_color", "confidence")]

SUBSCRIBER = """
import sys
import rclpy
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node("other")
qos = QoSProfile(depth=10, reliability=QoSReliabilityPolicy[sys.argv[1]])
for topic in sys.argv[2:]:
    node.create_subscription(Image, topic, lambda image: print(image.header.frame_id, flush=True), qos)
rclpy.spin(node)
"""

CAMERA = """
import rclpy
from sensor_msgs.msg import Image
rclpy.init()
publisher = rclpy.create_node("other").create_publisher(Image, "/camera/image_raw", 5)
image = Image(height=1080, width=1920, step=5760, encoding="rgb8", data=bytes(1080 * 5760))
while True:
    image.header.stamp.nanosec += 1
    image.header.frame_id = "large"
    publisher.publish(image)
"""


VISITORS = """
import rclpy
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import Image
for number in range(40):
    context = Context()
    rclpy.init(args=[], context=context)
    node = Node(f"visitor{number}", context=context, enable_rosout=False, start_parameter_services=False)
    node.create_subscription(Image, "/classaug_node/camera/overlay", lambda _: None, 1)
    node.destroy_node()
    context.shutdown()
"""


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with running(tmp_path_factory.mktemp("rig")) as made:
        made.exchange(at(time.time()))
        yield made


def beside(rig: Rig, code: str, *arguments: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """Run a program in the node's domain; it is killed at the end, if it still runs."""
    domain = rig.node.domain
    command = [sys.executable, "-c", code, *arguments]
    return program(command, env=environment(domain), stdin=standard_input(domain), stdout=subprocess.PIPE)


def test_two_publishers_on_one_topic_are_both_served(rig: Rig) -> None:
    before = rig.told().counts
    with Peer(rig.node.domain, "second") as second:
        others = second.publisher(Image, "/camera/image_raw")
        for number in range(10):
            for publisher, name in ((rig.publisher, "one"), (others, "two")):
                rig.exchange(at(1000 + number), publisher=publisher, frame_id=name)
    after = rig.told().counts
    assert after["out"] - before["out"] >= 20
    assert (after["refused"], after["failed"]) == (before["refused"], before["failed"])


def test_another_camera_takes_over_in_mid_stream(rig: Rig) -> None:
    for size, encoding, name in (((24, 32), "rgb8", "old"), ((31, 17), "mono8", "new"), ((24, 32), "rgb8", "old")):
        with Peer(rig.node.domain, name) as peer:
            publisher = peer.publisher(Image, "/camera/image_raw")
            label = rig.exchange(at(time.time()), publisher=publisher, frame_id=name, size=size, encoding=encoding)
            assert (label.height, label.width) == size


@pytest.mark.parametrize("frame_id", ["x" * 2**20, "nan", "a\nb \u0394\x01"], ids=["1 MB", "nan", "control characters"])
def test_every_frame_id_goes_out_unchanged(rig: Rig, frame_id: str) -> None:
    assert rig.exchange(at(time.time()), frame_id=frame_id).header.frame_id == frame_id


def test_a_camera_killed_while_it_sends_may_come_back(rig: Rig) -> None:
    before = rig.told().counts
    for _ in range(3):
        since = len(rig.labels.items())
        with beside(rig, CAMERA) as camera:
            rig.labels.wait(lambda label: bool(label.header.frame_id == "large"), what="large ones", since=since)
            camera.send_signal(signal.SIGKILL)
    eventually(lambda: rig.publisher.get_subscription_count() == 1, "the subscription")
    rig.exchange(at(time.time()))
    after = rig.told().counts
    assert (after["refused"], after["failed"]) == (before["refused"], before["failed"])


def test_subscribers_come_and_go_without_growth_and_the_camera_is_read_while_wanted(tmp_path: Path) -> None:
    with running(tmp_path, cameras="[camera, spare]") as rig:
        spare = rig.peer.publisher(Image, "/spare/image_raw", subscribers=0)
        policies = [
            QoSProfile(depth=depth, reliability=reliability)
            for depth in (1, 10)
            for reliability in (QoSReliabilityPolicy.RELIABLE, QoSReliabilityPolicy.BEST_EFFORT)
        ]

        def come_and_go(times: int) -> None:
            for number in range(times):
                topic = OUTPUTS[number % 4].replace("camera", "spare")
                listener = rig.peer.node.create_subscription(Image, topic, lambda _: None, policies[number // 4 % 4])
                if number % 10 == 0:
                    eventually(lambda: spare.get_subscription_count() == 1, "the node to read the camera")
                rig.peer.node.destroy_subscription(listener)

        with rig.streaming():
            come_and_go(100)
            eventually(lambda: spare.get_subscription_count() == 0, "the node to read it no more")
            before = footprint(rig.node.pid)
            come_and_go(200)
            eventually(lambda: spare.get_subscription_count() == 0, "the node to read it no more")
            after = footprint(rig.node.pid)
            rig.labels.wait_for(len(rig.labels.items()) + 5)
        assert after.handles <= before.handles + 2
        assert after.threads <= before.threads + 1
        assert after.memory - before.memory < 200 * 20_000


def read(process: subprocess.Popen[bytes]) -> bytes:
    """Return what a process has printed since it was last read."""
    assert process.stdout is not None
    return process.stdout.read() or b""


@pytest.mark.parametrize("reliability", ["RELIABLE", "BEST_EFFORT"])
def test_a_stopped_subscriber_holds_nobody_up(rig: Rig, reliability: str) -> None:
    def seconds(frames: int) -> float:
        """Return how long one of so many frames takes, half of which take longer."""
        taken = []
        for _ in range(frames):
            start = time.monotonic()
            rig.exchange(at(time.time()))
            taken.append(time.monotonic() - start)
        return statistics.median(taken)

    with beside(rig, SUBSCRIBER, reliability, *OUTPUTS) as other:
        assert other.stdout is not None
        os.set_blocking(other.stdout.fileno(), False)
        eventually(lambda: all(rig.peer.node.count_subscribers(topic) for topic in OUTPUTS[1:]), "the subscriber")
        listening = seconds(20)
        other.send_signal(signal.SIGSTOP)
        seconds(100)  # until what it has not taken fills the memory shared with it
        stopped = seconds(20)
        other.send_signal(signal.SIGCONT)
        eventually(lambda: rig.exchange(at(time.time()), frame_id="again") and b"again" in read(other), "its return")
    # Each image to it costs Fast DDS about 5 ms, and there are four outputs; but nobody waits for it.
    assert stopped < 3 * listening + 0.2


def test_frames_are_served_while_participants_come_and_go(rig: Rig) -> None:
    def seconds() -> float:
        start = time.monotonic()
        rig.exchange(at(time.time()))
        time.sleep(0.02)
        return time.monotonic() - start

    before = rig.told().counts
    alone, among = [seconds() for _ in range(20)], list[float]()
    with beside(rig, VISITORS) as visitors:
        while visitors.poll() is None:
            among.append(seconds())
        assert visitors.returncode == 0
    assert len(among) >= 10
    assert statistics.median(among) < 5 * statistics.median(alone)
    after = rig.told().counts
    assert (after["refused"], after["failed"]) == (before["refused"], before["failed"])


@pytest.mark.parametrize("topic", ["/classaug_node/camera/label", "/classaug_node/rear/overlay"])
def test_a_camera_that_would_read_the_nodes_own_labels_is_refused(tmp_path: Path, start: Any, topic: str) -> None:
    parameters: dict[str, Any] = {"cameras": "[camera, rear]", "camera.image_topic": topic}
    node = start(NODE, *tiny_node(tmp_path, **parameters))
    line = node.wait_for_line("ERROR")
    assert f"parameter camera.image_topic makes {topic}, which this node publishes itself; name the topic of" in line
