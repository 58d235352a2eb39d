"""A ROS node beside another one."""

from __future__ import annotations

import threading
from typing import TypeVar

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future

_Companion = TypeVar("_Companion", bound="Companion")


class Companion:
    """Listens and talks to a node from a thread and a ROS context of its own; a context manager, to be derived from.

    A derived class makes its topics on ``node`` when it is made; messages come once it is entered.
    """

    def __init__(self, name: str, domain: int | None = None) -> None:
        """Make the ROS node of that name.

        Args:
            name: the node's.
            domain: its ROS domain; that of ROS_DOMAIN_ID when left out.
        """
        self._context = Context()
        rclpy.init(args=[], context=self._context, domain_id=domain)
        self.node = Node(name, context=self._context, enable_rosout=False, start_parameter_services=False)
        self.executor = SingleThreadedExecutor(context=self._context)
        self.executor.add_node(self.node)
        self._left: Future[None] = Future()
        self._thread = threading.Thread(target=self.executor.spin_until_future_complete, args=(self._left,), name=name)

    def __enter__(self: _Companion) -> _Companion:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Not by shutdown from here: rclpy then may take from the thread what would wake it, and it waits for ever.
        self._left.set_result(None)
        self._thread.join()
        self.executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()
