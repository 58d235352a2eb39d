"""Publishes a bag's messages on their topics, at the bag's own timing."""

from __future__ import annotations

import importlib
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from builtin_interfaces.msg import Time
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock

from classaug_ros.data.bags import BagMessage, BagReader, BagTopic
from classaug_ros.errors import ConfigError
from classaug_ros.io.interruption import interruption

NODE_NAME = "classaug_play"
CLOCK = "/clock"
MIN_RATE, MAX_RATE = 0.001, 1000.0
DISCOVERY_S = 6.0  # longest wait for subscribers: DDS participants that missed each other try again after 3 s
SETTLE_S = 0.5  # publishers learn of a subscriber sooner than it learns of them
DELIVERY_S = 4.0  # longest wait for the last messages to arrive, which DDS asks about every 3 s
LATE_S = 0.02
TICK_NS = 25_000_000  # between clock messages, as in ros2 bag

_TYPE_NAME = re.compile(r"([a-z][a-z0-9_]*)/msg/([A-Z][A-Za-z0-9]*)")


@dataclass(frozen=True)
class Playback:
    """What was published.

    Attributes:
        messages: number of messages.
        late: those published more than LATE_S after their time.
        worst_lag: the longest such delay of any message, in seconds.
    """

    messages: int = 0
    late: int = 0
    worst_lag: float = 0.0

    def add(self, lag: float) -> Playback:
        """Count one more message, published ``lag`` seconds after its time."""
        return Playback(self.messages + 1, self.late + (lag > LATE_S), max(self.worst_lag, lag))


def play(
    bag: Path,
    *,
    rate: float = 1.0,
    loop: bool = False,
    topics: Sequence[str] = (),
    clock: bool = False,
    subscribers: int = 1,
    publishing: Callable[[BagMessage], None] | None = None,
) -> Playback:
    """Publish a bag's messages as they were recorded, byte for byte, and return what was published.

    Waits up to DISCOVERY_S for subscribers of each topic, then plays regardless. Each message is due at a time
    counted from the start, so that delays do not add up; one that is late is published at once, none is left out.
    Publishers are reliable, which serves best-effort subscribers as well, and latched where the recorded ones were.

    Args:
        bag: a rosbag2 folder, or a single .mcap or .db3 file.
        rate: seconds of recording per second.
        loop: start again at the end, until interrupted.
        topics: play these only; none plays all.
        clock: publish the recording's time on /clock (in place of a recorded one), for nodes with ``use_sim_time``.
        subscribers: how many to wait for on each topic.
        publishing: is told of each message just before it is published.

    Raises:
        ConfigError: an argument is wrong, the bag cannot be read, or a message type is not installed.
        KeyboardInterrupt: on Ctrl-C, after everything is shut down.
    """
    if not MIN_RATE <= rate <= MAX_RATE:
        raise ConfigError(f"rate {rate}: expected {MIN_RATE} to {MAX_RATE:.0f}")
    with BagReader(bag) as reader:
        selected = [topic for topic in reader.select(topics) if topic.count and not (clock and topic.name == CLOCK)]
        if not selected:
            raise ConfigError(f"{bag}: has no messages to play{' on ' + ', '.join(topics) if topics else ''}")
        types = {topic: _message_type(topic) for topic in selected}
        with interruption() as interrupted, _node() as node:
            publishers = {t.name: node.create_publisher(kind, t.name, _qos(t)) for t, kind in types.items()}
            ticker = _Clock(node) if clock else None
            _wait_for_subscribers(node, publishers, subscribers, interrupted)
            timeline = _timeline(reader, list(publishers), loop)
            played = _publish(node, timeline, publishers, rate, ticker, interrupted, publishing)
            for publisher in node.publishers:
                publisher.wait_for_all_acked(Duration(seconds=DELIVERY_S))
    return played


def _sleep(seconds: float, interrupted: threading.Event) -> None:
    if interrupted.wait(seconds):
        raise KeyboardInterrupt


@contextmanager
def _node() -> Iterator[Node]:
    context = Context()
    # Ctrl-C is not rclpy's to handle: publishers stay until this shuts down.
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = rclpy.create_node(NODE_NAME, context=context, start_parameter_services=False)
        try:
            yield node
        finally:
            node.destroy_node()
    finally:
        context.try_shutdown()


def _message_type(topic: BagTopic) -> type[Any]:
    name = _TYPE_NAME.fullmatch(topic.type)
    if name is None:
        raise ConfigError(
            f"topic {topic.name}: {topic.type!r} is not a ROS 2 message type such as sensor_msgs/msg/Image"
        )
    package, message = name.groups()
    try:
        kind: type[Any] = getattr(importlib.import_module(f"{package}.msg"), message)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"topic {topic.name}: message type {topic.type} is not installed;"
            f" install the ROS package {package}, or name only the topics to play"
        ) from error
    return kind


def _qos(topic: BagTopic) -> QoSProfile:
    if topic.latched:
        return QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    return QoSProfile(depth=10)  # reliable, as rclpy's default is


def _wait_for_subscribers(node: Node, publishers: Mapping[str, Any], wanted: int, interrupted: threading.Event) -> None:
    deadline = time.monotonic() + DISCOVERY_S
    while missing := [topic for topic, publisher in publishers.items() if publisher.get_subscription_count() < wanted]:
        if time.monotonic() > deadline:
            few = "nobody subscribes" if wanted == 1 else f"fewer than {wanted} subscribe"
            node.get_logger().warning(f"{few} to {', '.join(missing)}; playing regardless")
            break
        _sleep(0.02, interrupted)
    if len(missing) < len(publishers):
        _sleep(SETTLE_S, interrupted)


def _timeline(reader: BagReader, topics: Collection[str], loop: bool) -> Iterator[tuple[int, BagMessage]]:
    """Yield each message with its time in ns of recording after the first one."""
    begin = 0
    while True:
        first = None
        count = offset = 0
        for message in reader.messages(topics):
            first = message.timestamp if first is None else first
            offset = message.timestamp - first
            count += 1
            yield begin + offset, message
        if not loop:
            return
        # The last message lasts as long as the others do on average.
        begin += offset + (offset // (count - 1) if offset else 10**9)


def _publish(
    node: Node,
    timeline: Iterator[tuple[int, BagMessage]],
    publishers: Mapping[str, Any],
    rate: float,
    clock: _Clock | None,
    interrupted: threading.Event,
    publishing: Callable[[BagMessage], None] | None,
) -> Playback:
    played = Playback()
    start = 0
    try:
        for offset, message in timeline:
            if not played.messages:
                start = time.monotonic_ns()
            due = start + round(offset / rate)
            while (left := due - time.monotonic_ns()) > 0:
                if clock:
                    clock.publish(message.timestamp - round(left * rate))
                _sleep(min(left, TICK_NS) / 1e9, interrupted)
            _sleep(0, interrupted)
            if clock:
                clock.publish(message.timestamp)
            played = played.add(-left / 1e9)
            if publishing:
                publishing(message)
            publishers[message.topic].publish(message.data)
    finally:
        summary = f"played {played.messages} messages; {played.late} of them late, by up to {played.worst_lag:.3f} s"
        node.get_logger().info(summary)
    return played


class _Clock:
    """Publishes the recording's time."""

    def __init__(self, node: Node) -> None:
        self._publisher = node.create_publisher(Clock, CLOCK, QoSProfile(depth=1))

    def publish(self, timestamp: int) -> None:
        """Publish ``timestamp`` in ns since the epoch."""
        seconds, nanoseconds = divmod(max(0, timestamp), 10**9)
        self._publisher.publish(Clock(clock=Time(sec=seconds, nanosec=nanoseconds)))
