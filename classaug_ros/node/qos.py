"""A word to the user when publisher and subscriber of a topic ask for quality of service that does not match."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, qos_check_compatible, qos_policy_name_from_kind

SETTLE = 0.5
"""Seconds from the event to the line: the event comes before the other side is known in the ROS graph."""


class IncompatibleQos:
    """Event callback of one topic: logs both sides' settings, which the event itself does not tell."""

    def __init__(self, node: Node, topic: str, *, publishing: bool) -> None:
        """Watch a topic.

        Args:
            node: the node the topic's end belongs to.
            topic: its full name.
            publishing: whether the node publishes it, rather than subscribes to it.
        """
        self._node = node
        self._topic = topic
        self._publishing = publishing
        self._policy = ""
        self._timer: Any = None

    def __call__(self, event: Any) -> None:
        """Note the event; the line follows."""
        self._policy = qos_policy_name_from_kind(event.last_policy_kind).lower()
        if self._timer is None:
            self._timer = self._node.create_timer(SETTLE, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _report(self) -> None:
        self._node.destroy_timer(self._timer)
        self._timer = None
        publishers = self._node.get_publishers_info_by_topic(self._topic)
        subscribers = self._node.get_subscriptions_info_by_topic(self._topic)
        ours, theirs = (publishers, subscribers) if self._publishing else (subscribers, publishers)
        here = next((end for end in ours if _full_name(end) == self._node.get_fully_qualified_name()), None)
        if here is None:
            return  # deactivated meanwhile
        others = "; ".join(map(_side, self._incompatible(here, theirs))) or "the other side is gone again"
        self._node.get_logger().warning(
            f"incompatible QoS on {self._topic}, no images pass: {_side(here)}; {others} ({self._policy} differs)"
        )

    def _incompatible(self, here: Any, others: Iterable[Any]) -> list[Any]:
        def check(end: Any) -> Any:
            pair = (here, end) if self._publishing else (end, here)
            return qos_check_compatible(pair[0].qos_profile, pair[1].qos_profile)[0]

        return [end for end in others if check(end) == QoSCompatibility.ERROR]


def _side(end: Any) -> str:
    qos = end.qos_profile
    verb = "offers" if end.endpoint_type.name == "PUBLISHER" else "asks for"
    return (
        f"{_full_name(end)} {verb} reliability {qos.reliability.name.lower()}, "
        f"durability {qos.durability.name.lower()}, deadline {_seconds(qos.deadline)}, "
        f"liveliness {qos.liveliness.name.lower()} within {_seconds(qos.liveliness_lease_duration)}"
    )


def _full_name(end: Any) -> str:
    return f"{end.node_namespace.rstrip('/')}/{end.node_name}"


def _seconds(duration: Any) -> str:
    seconds = duration.nanoseconds * 1e-9
    return "any" if seconds > 1e9 else f"{seconds:g} s"
