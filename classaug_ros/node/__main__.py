"""The program classaug_node."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.signals import SignalHandlerOptions

from classaug_ros.node.lifecycle import NAME, ClassaugNode


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM.

    Args:
        argv: arguments after the program's name; the command line's when left out.

    Returns:
        0 after a clean end, 2 when ROS cannot use the arguments.
    """
    # Handlers of our own: rclpy's would end the context before the node could shut itself down.
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    arguments = sys.argv[1:] if argv is None else argv
    try:
        rclpy.init(args=[NAME, *arguments], signal_handler_options=SignalHandlerOptions.NO)
        node = ClassaugNode()
    except (RuntimeError, ValueError) as error:  # what rcl and rclpy raise for arguments and parameter files
        get_logger(NAME).fatal(_argument_error(error))
        rclpy.try_shutdown()
        return 2
    try:
        _run(node, ended)
    finally:
        rclpy.try_shutdown()
        # Python gives signals their default back as it ends; a second Ctrl-C would then make a clean end a death.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    return 0


def _run(node: ClassaugNode, ended: threading.Event) -> None:
    node.start()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    with ThreadPoolExecutor(1, "classaug-executor") as threads:
        spinning = threads.submit(executor.spin)
        spinning.add_done_callback(lambda _: ended.set())  # a defect in a callback ends the node
        ended.wait()
        executor.shutdown()
    node.stop()
    node.destroy_node()
    spinning.result()


def _argument_error(error: Exception) -> str:
    if "PARAMETER_NOT_SET" in str(error):
        return "a parameter given is an empty list, which ROS parameters cannot be; leave it out or fill it"
    return str(error).partition(", at /")[0]  # the rest is a place in rcl's own source


if __name__ == "__main__":
    sys.exit(main())
