"""Writing files whole or not at all, so that a crash or a full disk never leaves half of one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from classaug_ros.errors import ConfigError


def write_whole(path: Path, data: bytes) -> None:
    """Write a file; see ``write_all``."""
    write_all({path: data})


def write_all(files: Mapping[Path, bytes]) -> None:
    """Write files under temporary names beside them, then rename them over the old ones; folders are made.

    Raises:
        ConfigError: one cannot be written, for want of space say; all that were there are as they were.
    """
    temporary = {path: path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in files}
    path = next(iter(files))
    try:
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary[path].write_bytes(data)
        for path in files:
            temporary[path].replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        for left in temporary.values():
            with suppress(OSError):
                left.unlink()


def writable(path: Path) -> None:
    """Refuse a file that cannot be written, before the work it is to hold; its folder is made.

    Raises:
        ConfigError: it is a folder, or the folder it lies in cannot be made or written.
    """
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; name a file")
    probe = path.with_name(f".{path.name}.{os.getpid()}.probe")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except FileExistsError:
        raise ConfigError(f"{path}: cannot be written: a part of its path is a file, expected a folder") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
