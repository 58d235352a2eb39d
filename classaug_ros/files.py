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
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def writable(path: Path) -> None:
    """Refuse a file that cannot be written, before the work it is to hold; its folder is made.

    Raises:
        ConfigError: it is a folder, or the folder it lies in cannot be made or written.
    """
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; name a file")
    probe = path.with_name(f".{path.name}.{os.getpid()}.probe")
    write_whole(probe, b"")
    probe.unlink()
