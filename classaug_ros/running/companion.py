"""A ROS node beside another one."""

from __future__ import annotations

import threading
from typing import TypeVar

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

_Companion = TypeVar("_Companion", bound="Companion")


class Companion:
    """Listens and talks to a node from a thread and a ROS context of its own; a context manager, to be derived from.

    A derived class makes its topics on ``node`` when it is made; messages come once it is entered.
    """

    def __init__(self, name: str) -> None:
        """Make the ROS node of that name."""
        self._context = Context()
        rclpy.init(args=[], context=self._context)
        self.node = Node(name, context=self._context, enable_rosout=False, start_parameter_services=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, name=name)

    def __enter__(self: _Companion) -> _Companion:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        self._thread.join()
        self.node.destroy_node()
        self._context.try_shutdown()
