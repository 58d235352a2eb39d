"""The topics of one camera: its images in, its labels and pictures out."""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from typing import Any

from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.exceptions import InvalidTopicNameException
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rclpy.validate_topic_name import validate_topic_name
from sensor_msgs.msg import CompressedImage, Image

from classaug_ros.errors import ConfigError
from classaug_ros.imaging.images import Frame, decode_compressed, decode_image, fill_image
from classaug_ros.node.cameras import Turns
from classaug_ros.node.framelog import ThrottledLog
from classaug_ros.node.parameters import CameraSettings
from classaug_ros.node.qos import IncompatibleQos
from classaug_ros.node.worker import Intake
from classaug_ros.pipeline.cpu import Augmented
from classaug_ros.pipeline.frame_path import RequestedOutputs

OUTPUTS = ("label", "overlay", "label_color", "confidence")
"""Topics of a camera's results, in the order of ``RequestedOutputs``."""
OUTPUT_DEPTH = 5
"""Output images kept for reliable subscribers that are behind."""
MAX_AGE = 60.0
"""Seconds between a stamp and the node's clock from which on that is no latency: one of the two is wrong."""


class CameraTopics:
    """One camera in ROS: publishers from the start, a subscription while the node is active and somebody listens."""

    def __init__(self, node: LifecycleNode, camera: CameraSettings, reliability: str, depth: int) -> None:
        """Make the publishers ``~/<camera>/`` of all ``OUTPUTS``.

        Args:
            node: the node that owns the topics.
            camera: name, topic and transport.
            reliability: asked of the camera: best_effort or reliable.
            depth: images the middleware keeps until they are taken.

        Raises:
            ConfigError: the image topic is no topic name.
        """
        self._node = node
        self._name = camera.name
        self._compressed = camera.image_transport == "compressed"
        topic = f"{camera.image_topic}/compressed" if self._compressed else camera.image_topic
        self._topic = _checked_topic(node, topic, f"{camera.name}.image_topic")
        self._image_qos = QoSProfile(depth=depth, reliability=QoSReliabilityPolicy[reliability.upper()])
        self._turns = camera.turns
        self._log = ThrottledLog(camera.name, node.get_logger().warning)
        self._intake: Intake | None = None
        self._subscription: Any = None
        self._publishers = tuple(self._output(f"~/{camera.name}/{output}") for output in OUTPUTS)

    @property
    def name(self) -> str:
        """The camera's name."""
        return self._name

    @property
    def output_topics(self) -> tuple[str, ...]:
        """Full names of the topics that are published."""
        return tuple(publisher.topic_name for publisher in self._publishers)

    @property
    def image_topic(self) -> str:
        """Full name of the topic that is read."""
        return self._topic

    @property
    def turns(self) -> Turns:
        """Its share of the worker's time."""
        return self._turns

    @property
    def read(self) -> bool:
        """Whether the camera's images are subscribed to now."""
        return self._subscription is not None

    def activate(self, intake: Intake) -> None:
        """Hand every message that comes from now on to ``intake``, while somebody subscribes to an output."""
        self._intake = intake
        self.follow()

    def deactivate(self) -> None:
        """Receive nothing any more."""
        self._intake = None
        self.follow()

    def follow(self, _: Any = None) -> None:
        """Read the camera while somebody wants its results: images nobody needs cost nothing, not even transport.

        Called when a subscriber comes or goes, and now and then besides, for middleware whose event for that is lost
        when the count of subscribers is asked for at the same moment.
        """
        intake = self._intake
        if intake is not None and self.wanted():
            if self._subscription is None:
                intake.begin()
                self._subscription = self._subscribe(intake)
        elif self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def _subscribe(self, intake: Intake) -> Any:
        return self._node.create_subscription(
            CompressedImage if self._compressed else Image,
            self._topic,
            intake.receive,
            self._image_qos,
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=IncompatibleQos(self._node, self._topic, publishing=False),
                message_lost=lambda event: intake.lose(event.total_count_change),
            ),
        )

    def destroy(self) -> None:
        """Take all topics back."""
        self.deactivate()
        for publisher in self._publishers:
            self._node.destroy_lifecycle_publisher(publisher)

    def wanted(self) -> RequestedOutputs:
        """Return which outputs somebody subscribes to now."""
        return RequestedOutputs(*(publisher.get_subscription_count() > 0 for publisher in self._publishers))

    def decode(self, message: Any) -> Frame:
        """Return the image of a message; ImageError when it cannot be used."""
        return decode_compressed(message) if self._compressed else decode_image(message)

    def publish(self, message: Any, augmented: Augmented, wanted: RequestedOutputs) -> None:
        """Publish what is wanted, with the header of ``message``."""
        ids = "mono8" if augmented.label.dtype.itemsize == 1 else "16UC1"
        label, overlay, color, confidence = self._publishers
        if wanted.label:
            label.publish(_image(message.header, augmented.label, ids))
        if wanted.overlay:
            overlay.publish(_image(message.header, augmented.overlay, "rgb8"))
        if wanted.color:
            color.publish(_image(message.header, augmented.color, "rgb8"))
        if wanted.confidence:
            confidence.publish(_image(message.header, augmented.confidence, "mono8"))

    def age(self, message: Any) -> float:
        """Return the seconds, on the node's clock, since the stamp of a message.

        It is nan where the message has no stamp, or one more than ``MAX_AGE`` from the clock; a log line tells of that.
        """
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec  # rclpy's Time refuses negative ones
        if stamp == 0:
            return math.nan
        age = (self._node.get_clock().now().nanoseconds - stamp) * 1e-9
        if abs(age) <= MAX_AGE:
            return float(age)
        self._log.add(
            time.monotonic(),
            f"stamps are {abs(age):.0f} s {'behind' if age > 0 else 'ahead of'} the node's clock, no latency is told; "
            "set the camera's clock, or use_sim_time for a recording",
        )
        return math.nan

    def _output(self, topic: str) -> Any:
        name = self._node.resolve_topic_name(topic)
        events = PublisherEventCallbacks(
            incompatible_qos=IncompatibleQos(self._node, name, publishing=True), matched=self.follow
        )
        # Reliable serves subscribers of both kinds.
        qos = QoSProfile(depth=OUTPUT_DEPTH, reliability=QoSReliabilityPolicy.RELIABLE)
        return self._node.create_lifecycle_publisher(Image, topic, qos, event_callbacks=events)


def refuse_loops(cameras: Collection[CameraTopics]) -> None:
    """Raise ConfigError where a camera would read what one of them publishes: each label would make a next one."""
    published = {topic for camera in cameras for topic in camera.output_topics}
    for camera in cameras:
        if camera.image_topic in published:
            raise ConfigError(
                f"parameter {camera.name}.image_topic makes {camera.image_topic}, which this node publishes itself; "
                "name the topic of a camera"
            )


def _checked_topic(node: LifecycleNode, topic: str, parameter: str) -> str:
    try:
        validate_topic_name(topic)
    except InvalidTopicNameException as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"parameter {parameter} makes {topic!r}, which is no topic name: {reason}") from None
    return str(node.resolve_topic_name(topic))


def _image(header: Any, pixels: Any, encoding: str) -> Image:
    message = Image(header=header)
    fill_image(message, pixels, encoding)
    return message
