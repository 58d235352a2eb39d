"""Writing files whole or not at all, so that a crash or a full disk never leaves half of one."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from classaug_ros.errors import ConfigError


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under a temporary name beside it, then rename it over the old one; folders are made.

    Raises:
        ConfigError: it cannot be written; a file that was there is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
