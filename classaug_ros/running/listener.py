"""Listens to a running classaug_node: its labels, kept in files, and what it says of itself."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from classaug_ros.data.bags import IMAGE, decode_message
from classaug_ros.data.groundtruth import label_image
from classaug_ros.models.labels import LabelMap
from classaug_ros.running.companion import Companion

DEPTH = 50  # labels that may wait while one is written


class Listener(Companion):
    """Subscribes to a node's labels and diagnostics in a thread of its own; use as a context manager."""

    def __init__(self, node: str, cameras: Collection[str], folder: Path) -> None:
        """Subscribe.

        Args:
            node: full name of the node.
            cameras: names of its cameras.
            folder: takes the label images.
        """
        self._watched = node
        self._folder = folder
        self._arrivals: dict[tuple[str, int], float] = {}
        self._counts: dict[str, dict[str, int]] = {}
        self._problem = ""
        self._told = 0
        self._changed = threading.Condition()
        super().__init__("classaug_listener")
        for camera in cameras:
            (folder / camera).mkdir(parents=True)
            topic = f"{node}/{camera}/label"
            take = partial(self._label, camera)
            self.node.create_subscription(Image, topic, take, QoSProfile(depth=DEPTH), raw=True)
        self._cameras = {f"{node.rpartition('/')[2]}: camera {camera}": camera for camera in cameras}
        self._own_status = f"{node.rpartition('/')[2]}: node"
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnostics, 10)

    @property
    def arrivals(self) -> dict[tuple[str, int], float]:
        """Monotonic seconds at which each label came, by camera and stamp in ns."""
        with self._changed:
            return dict(self._arrivals)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """What the node's diagnostics counted last of each camera, such as ``frames in`` and ``frames dropped``."""
        with self._changed:
            return {camera: dict(counts) for camera, counts in self._counts.items()}

    @property
    def active(self) -> bool:
        """Whether the node has told of frames of all its cameras, be it that there are none."""
        with self._changed:
            return all(self._counts.get(camera) for camera in self._cameras.values())

    def reads(self, topic: str) -> bool:
        """Tell whether the node subscribes to a topic."""
        ends = self.node.get_subscriptions_info_by_topic(topic)
        return any(f"{end.node_namespace.rstrip('/')}/{end.node_name}" == self._watched for end in ends)

    @property
    def problem(self) -> str:
        """Why the node cannot be configured, as it told last."""
        with self._changed:
            return self._problem

    @property
    def told(self) -> int:
        """How many times diagnostics of the node came."""
        with self._changed:
            return self._told

    def label(self, camera: str, stamp: int) -> LabelMap:
        """Return a label image that came, H x W class ids."""
        path = self._path(camera, stamp)
        labels: LabelMap = label_image(zlib.decompress(path.read_bytes()), IMAGE, str(path))
        return labels

    def wait_until(self, holds: Callable[[], bool], timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until a condition holds, looked at as messages come; tell whether it does."""
        deadline = time.monotonic() + timeout
        while not (held := holds()) and (left := deadline - time.monotonic()) > 0:
            with self._changed:
                self._changed.wait(min(left, 0.2))
        return held

    def _path(self, camera: str, stamp: int) -> Path:
        return self._folder / camera / str(stamp)

    def _label(self, camera: str, data: bytes) -> None:
        arrival = time.monotonic()
        stamp = decode_message(data, IMAGE).header.stamp
        key = camera, stamp.sec * 10**9 + stamp.nanosec
        self._path(*key).write_bytes(zlib.compress(data, 1))
        with self._changed:
            self._arrivals[key] = arrival
            self._changed.notify_all()

    def _diagnostics(self, message: Any) -> None:
        with self._changed:
            for status in message.status:
                if status.name == self._own_status:
                    self._problem = status.message if status.level == DiagnosticStatus.ERROR else ""
                    self._told += 1
                elif status.name in self._cameras:
                    self._counts[self._cameras[status.name]] = {
                        pair.key: int(pair.value) for pair in status.values if pair.key.startswith("frames ")
                    }
            self._changed.notify_all()
