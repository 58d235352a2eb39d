"""A camera on another machine, as far as the network is concerned: over a cable that loses and delays packets."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

from support.programs import PATIENCE, PROJECT
from support.tinynode import NODE, tiny_node

from classaug_ros.running.fastdds import profiles_variable

pytestmark = pytest.mark.ros

LOSS, DELAY = 0.05, 0.05  # share of the packets, and s, each way
RATE, FRAMES = 15, 90
KEPT = 0.9  # share of the frames that come
RATE_KEPT = 0.5  # share of the rate they were sent at that they come at; no less on a busy machine

CAMERA = """
import sys, time
import cv2, rclpy
import numpy as np
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CompressedImage
rate, frames = map(int, sys.argv[1:])
rclpy.init()
qos = QoSProfile(depth=rate, reliability=QoSReliabilityPolicy.RELIABLE)
publisher = rclpy.create_node("driver").create_publisher(CompressedImage, "/camera/image_raw/compressed", qos)
coarse = np.random.default_rng(0).integers(0, 256, (15, 20, 3), np.uint8)
image = cv2.imencode(".jpg", cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_CUBIC))[1]
message = CompressedImage(format="jpeg", data=image.tobytes())
while publisher.get_subscription_count() < 1:
    time.sleep(0.02)
time.sleep(1)
start = time.monotonic()
for number in range(frames):
    message.header.stamp.sec = number + 1
    publisher.publish(message)
    time.sleep(max(0, start + (number + 1) / rate - time.monotonic()))
print(frames / (time.monotonic() - start), flush=True)
time.sleep(2)
"""

WATCH = """
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image

def told(message):
    for status in message.status:
        for pair in status.values:
            if pair.key == "frames in":
                print(pair.value, message.header.stamp.sec + message.header.stamp.nanosec / 1e9, flush=True)

rclpy.init()
node = rclpy.create_node("watch")
node.create_subscription(Image, "/classaug_node/camera/label", lambda label: None, 10)
node.create_subscription(DiagnosticArray, "/diagnostics", told, 10)
rclpy.spin(node)
"""


@pytest.fixture
def namespaces() -> Iterator[tuple[str, str]]:
    """Two network namespaces with nothing but a cable of 10.77.0.1 and 10.77.0.2 between them."""
    names = tuple(f"classaug-{os.getpid()}-{end}" for end in "ab")
    with ExitStack() as stack:
        for name in names:
            made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
            if made.returncode:
                pytest.skip(f"network namespaces are not permitted here: {made.stderr.strip()}")
            stack.callback(subprocess.run, ["ip", "netns", "del", name], check=True)
        cable = [sys.executable, str(PROJECT / "test/support/cable.py"), str(LOSS), str(DELAY), *names]
        with subprocess.Popen(cable, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            if process.stdout.readline() != b"connected\n":
                pytest.skip("TAP devices are not permitted here")
            yield names[0], names[1]
            process.communicate(b"")


@contextmanager
def inside(namespace: str, *arguments: str, output: Path) -> Iterator[None]:
    """Run Python in a namespace meanwhile; discovery there is free to use the whole network."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH")))),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",
        profiles_variable(): str(PROJECT / "config/fastdds_network.xml"),
    }
    command = ["ip", "netns", "exec", namespace, sys.executable, *arguments]
    with output.open("wb") as file, subprocess.Popen(command, env=environment, stdout=file, stderr=file) as process:
        try:
            yield
        finally:
            process.terminate()


@pytest.mark.slow
def test_compressed_images_come_over_a_network_that_loses_packets(tmp_path: Path, namespaces: tuple[str, str]) -> None:
    there, here = namespaces
    parameters: dict[str, Any] = {
        "camera.image_transport": "compressed",
        "image_reliability": "reliable",
        "image_depth": 30,
    }
    logs = {name: tmp_path / name for name in ("camera", "node", "watch")}
    with (
        inside(here, "-m", NODE, *tiny_node(tmp_path, **parameters), output=logs["node"]),
        inside(here, "-c", WATCH, output=logs["watch"]),
        inside(there, "-c", CAMERA, str(RATE), str(FRAMES), output=logs["camera"]),
    ):
        deadline = time.monotonic() + FRAMES / RATE + PATIENCE
        while time.monotonic() < deadline:
            sent_at, received = logs["camera"].read_text(), told(logs["watch"])
            if sent_at and received[-1][0] >= KEPT * FRAMES:
                break
            time.sleep(0.1)
    said = {name: log.read_text()[-2000:] for name, log in logs.items()}
    assert received[-1][0] >= KEPT * FRAMES, said
    (first, since) = received[1]
    last, until = next(each for each in received if each[0] >= KEPT * FRAMES)
    assert (last - first) / (until - since) >= RATE_KEPT * float(sent_at), said


def told(log: Path) -> list[tuple[int, float]]:
    """Return how many frames had come and when, each time that it was told, from the last time that none had."""
    pairs = [line.split() for line in log.read_text().splitlines() if re.fullmatch(r"\d+ [\d.]+", line)]
    return [(0, 0.0), *((int(count), float(when)) for count, when in pairs if int(count))]
