"""How Fast DDS is told of a profile such as the shipped ``config/fastdds.xml``."""

from __future__ import annotations

from importlib.metadata import version

JAZZY_RCLPY = 7


def profiles_variable() -> str:
    """Return the environment variable that names a profile file to the ROS distribution in use.

    Jazzy's Fast DDS 2.14 knows only the old name; later ones warn of it.

    Raises:
        importlib.metadata.PackageNotFoundError: rclpy is not installed.
    """
    jazzy = int(version("rclpy").partition(".")[0]) <= JAZZY_RCLPY
    return f"{'FASTRTPS' if jazzy else 'FASTDDS'}_DEFAULT_PROFILES_FILE"
