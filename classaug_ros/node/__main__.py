"""The program classaug_node."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from classaug_ros.node.shutdown import Shutdown

if TYPE_CHECKING:
    from classaug_ros.node.lifecycle import ClassaugNode


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM.

    Args:
        argv: arguments after the program's name; the command line's when left out.

    Returns:
        0 after a clean end, 2 when ROS cannot use the arguments.
    """
    # Before ROS is imported, which takes its time. rclpy's own handlers would end the context before the node could
    # shut itself down.
    shutdown = Shutdown()
    return shutdown.leave(_run(shutdown, sys.argv[1:] if argv is None else argv))


def _run(shutdown: Shutdown, arguments: Sequence[str]) -> int:
    import rclpy
    from rclpy.logging import get_logger
    from rclpy.signals import SignalHandlerOptions

    from classaug_ros.node.lifecycle import NAME, ClassaugNode

    try:
        rclpy.init(args=[NAME, *arguments], signal_handler_options=SignalHandlerOptions.NO)
        node = ClassaugNode()
    except (RuntimeError, ValueError) as error:  # what rcl and rclpy raise for arguments and parameter files
        get_logger(NAME).fatal(_argument_error(error))
        rclpy.try_shutdown()
        return 2
    try:
        _spin(node, shutdown)
    finally:
        rclpy.try_shutdown()
    return 0


def _spin(node: ClassaugNode, shutdown: Shutdown) -> None:
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.task import Future

    if not shutdown.requested.is_set():
        node.start()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    # Not by shutdown from here: rclpy then takes from a callback that is about to begin what it needs.
    requested = Future()
    with ThreadPoolExecutor(1, "classaug-executor") as threads:
        spinning = threads.submit(executor.spin_until_future_complete, requested)
        spinning.add_done_callback(lambda _: shutdown.requested.set())  # a defect in a callback ends the node
        shutdown.requested.wait()
        requested.set_result(None)
    executor.shutdown(0.5)  # seconds for a service being served
    node.stop()
    node.destroy_node()
    spinning.result()


def _argument_error(error: Exception) -> str:
    if "PARAMETER_NOT_SET" in str(error):
        return "a parameter given is an empty list, which ROS parameters cannot be; leave it out or fill it"
    if os.environ.get("ROS_SECURITY_ENABLE") == "true" and not os.environ.get("ROS_SECURITY_KEYSTORE"):
        return "ROS_SECURITY_ENABLE is true, but ROS_SECURITY_KEYSTORE is not set; expected the folder of a keystore"
    told = str(error).partition(", at /")[0]  # the rest is a place in rcl's own source
    return " ".join(told.split())


if __name__ == "__main__":
    sys.exit(main())
