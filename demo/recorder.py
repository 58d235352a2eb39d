"""Records what a node publishes into a bag, and when each message came."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from functools import partial

from rclpy.qos import DurabilityPolicy, QoSProfile

from classaug_ros.data.bags import BagWriter, decode_message
from classaug_ros.running.companion import Companion

IMAGE = "sensor_msgs/msg/Image"


class Recorder(Companion):
    """Subscribes to image topics and latched topics in a thread of its own; use as a context manager.

    Attributes:
        arrivals: per image topic the arrival time (monotonic seconds) by header stamp (ns).
        latched: the last message (CDR bytes) of each latched topic.
    """

    def __init__(self, bag: BagWriter, images: Mapping[str, type], latched: Mapping[str, type]) -> None:
        """Subscribe.

        Args:
            bag: takes every message.
            images: message type by topic, of topics with a header stamp.
            latched: message type by topic, of topics whose last message late subscribers get.
        """
        self.arrivals: dict[str, dict[int, float]] = {topic: {} for topic in images}
        self.latched: dict[str, bytes] = {}
        self._bag = bag
        self._changed = threading.Condition()
        super().__init__("classaug_recorder")
        for topic, kind in images.items():
            bag.add_topic(topic, IMAGE)
            qos = QoSProfile(depth=50)
            self.node.create_subscription(kind, topic, partial(self._image, topic), qos, raw=True)
        for topic, kind in latched.items():
            bag.add_topic(topic, _type_name(kind), latched=True)
            qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            self.node.create_subscription(kind, topic, partial(self._latched, topic), qos, raw=True)

    def wait_for_latched(self, topic: str, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for a latched message; tell whether it came."""
        with self._changed:
            return self._changed.wait_for(lambda: topic in self.latched, timeout)

    def wait_for_images(self, topic: str, count: int, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for a number of images; tell whether they came."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.arrivals[topic]) >= count, timeout)

    def _image(self, topic: str, data: bytes) -> None:
        arrival = time.monotonic()
        stamp = decode_message(data, IMAGE).header.stamp
        with self._changed:
            self.arrivals[topic][stamp.sec * 10**9 + stamp.nanosec] = arrival
            self._changed.notify_all()
        self._bag.write(topic, time.time_ns(), data)

    def _latched(self, topic: str, data: bytes) -> None:
        with self._changed:
            self.latched[topic] = data
            self._changed.notify_all()
        self._bag.write(topic, time.time_ns(), data)


def _type_name(kind: type) -> str:
    package, folder, _ = kind.__module__.split(".", 2)
    return f"{package}/{folder}/{kind.__name__}"
