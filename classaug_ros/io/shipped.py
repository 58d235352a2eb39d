"""Where the files of ``config/`` are: beside the package in a checkout, in its share folder once installed."""

from __future__ import annotations

from pathlib import Path

from classaug_ros.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped(name: str) -> Path:
    """Return the path of a file of ``config/``, such as ``classes/cityscapes.csv``.

    pip and colcon both install it as ``share/classaug_ros/config``, under the prefix whose ``lib`` holds the package.

    Raises:
        ConfigError: it is not installed.
    """
    prefixes = (parent / "share" / _PACKAGE.name for parent in _PACKAGE.parents)
    for folder in (_PACKAGE.parent, *prefixes):
        if (path := folder / "config" / name).is_file():
            return path
    raise ConfigError(f"config/{name}: not found beside {_PACKAGE}; install the package with pip or colcon")
