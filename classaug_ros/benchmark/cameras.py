"""Cameras that publish frames to a running node, and a listener to what it answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import Image

from classaug_ros.imaging.images import Frame, fill_image
from classaug_ros.running.companion import Companion

OUTPUTS = ("label", "overlay")


@dataclass(frozen=True)
class Load:
    """What the cameras send: how many there are, and Hz of each."""

    cameras: int
    rate: float


class Cameras(Companion):
    """Cameras that publish frames to the node, and a listener to its outputs; a context manager."""

    def __init__(self, load: Load, frames: Sequence[Frame]) -> None:
        self.latencies: list[float] = []
        self.arrivals: list[float] = []
        self.status: dict[str, dict[str, str]] = {}
        self._messages = [_message(frame) for frame in frames]
        super().__init__("classaug_bench")
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnosed, 10)
        best_effort = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        self._publishers = []
        for name in names(load):
            self._publishers.append(self.node.create_publisher(Image, f"/{name}/image_raw", best_effort))
            for output in OUTPUTS:
                arrived = partial(self._arrived, output)
                self.node.create_subscription(Image, f"/classaug_node/{name}/{output}", arrived, 10)

    def read(self) -> bool:
        """Tell whether the node reads every camera."""
        return all(publisher.get_subscription_count() > 0 for publisher in self._publishers)

    def publish(self, number: int) -> None:
        """Publish the frame of that number on every camera, stamped now."""
        message = self._messages[number % len(self._messages)]
        for publisher in self._publishers:
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(time.time_ns(), 10**9)
            publisher.publish(message)

    def _arrived(self, output: str, message: Image) -> None:
        if output == OUTPUTS[0]:
            now = time.time()
            self.arrivals.append(now)
            self.latencies.append(now - message.header.stamp.sec - message.header.stamp.nanosec * 1e-9)

    def _diagnosed(self, message: DiagnosticArray) -> None:
        for status in message.status:
            _, _, name = status.name.partition(": camera ")
            if name:
                self.status[name] = {pair.key: pair.value for pair in status.values}


def names(load: Load) -> list[str]:
    """Return the cameras' names."""
    return [f"camera{number}" for number in range(load.cameras)]


def _message(frame: Frame) -> Image:
    message = Image()
    message.header.frame_id = "bench"
    fill_image(message, frame.pixels, f"{frame.order}8")
    return message
