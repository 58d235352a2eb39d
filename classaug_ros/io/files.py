"""Reading files within bounds, and writing them whole or not at all, be it a crash, a full disk or a power cut."""

from __future__ import annotations

import errno
import glob
import os
import stat
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from classaug_ros.errors import ConfigError, quoted

MAX_BYTES = 2**32
"""Largest file that is read into memory, where its kind sets no smaller bound."""

_LONGEST_PATH = 1024
_NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)  # a file system's that keeps nothing, or cannot tell
_ABANDONED = 3600.0  # seconds since a file that is to be renamed was written to


def kind_of(path: Path) -> Literal["file", "folder", "neither", "nothing"]:
    """Return what there is at ``path``; a pipe or a device, say, is neither file nor folder.

    Raises:
        ConfigError: that cannot be told, for want of permission say.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "nothing"
    except (OSError, ValueError) as error:
        raise ConfigError(f"{quoted_path(path)}: cannot be read: {_reason(error)}") from error
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else "neither"


def read_whole(path: Path, most: int = MAX_BYTES) -> bytes:
    """Return the contents of a file of at most so many bytes.

    Raises:
        ConfigError: it is missing, larger, cannot be read, or is no file: a pipe would be waited for for ever.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
            raise ConfigError(f"{path}: cannot be read: it is a pipe or a device, expected a file")
        if found.st_size > most:
            raise ConfigError(f"{path}: has {found.st_size} bytes, expected at most {most}: is it the right file?")
        return path.read_bytes()
    except (OSError, ValueError, MemoryError) as error:
        raise ConfigError(f"{quoted_path(path)}: cannot be read: {_reason(error)}") from error


def quoted_path(path: Path) -> str:
    """Return a path as one line of bounded length."""
    text = str(path)
    return text if text.isprintable() and len(text) <= _LONGEST_PATH else quoted(text)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file; see ``write_all``."""
    write_all({path: data})


def write_all(files: Mapping[Path, bytes]) -> None:
    """Write files under temporary names beside them, then rename them over the old ones; folders are made.

    They are on the disk before they are renamed, and the new names before this returns, as far as the file system
    keeps what it promises: a power cut leaves each file as it was or whole.

    Raises:
        ConfigError: one cannot be written, for want of space say; all that were there are as they were.
    """
    temporary = {path: path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in files}
    path = next(iter(files))
    folders: set[Path] = set()
    try:
        for path, data in files.items():
            if kind_of(path) == "neither":  # the new file would take its place
                raise ConfigError(f"{path}: is a pipe or a device; name a file")
            folders |= {path.parent, *(each.parent for each in path.parents if not each.exists())}
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(path)
            _write_through(temporary[path], data)
        for path in files:
            temporary[path].replace(path)
        _sync_folders(folders)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{quoted_path(path)}: cannot be written: {_reason(error)}") from error
    finally:
        for left in temporary.values():
            with suppress(OSError):
                left.unlink()


def _write_through(path: Path, data: bytes) -> None:
    """Write a file, and wait until it is on the disk: renamed before, it may be empty after a power cut."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in _NO_SYNC:
                raise


def _sync_folders(folders: Iterable[Path]) -> None:
    """Wait until the names in folders are on the disk, where the file system can do that."""
    for folder in folders:
        with suppress(OSError):
            opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)


def _remove_abandoned(path: Path) -> None:
    """Remove what writers of this file left that were killed; one that is at work has written just now."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with suppress(OSError):
            if left.stat().st_mtime < time.time() - _ABANDONED:
                left.unlink()


def writable(path: Path) -> None:
    """Refuse a file that cannot be written, before the work it is to hold; its folder is made.

    Raises:
        ConfigError: it is a folder, or the folder it lies in cannot be made or written.
    """
    if kind_of(path) == "folder":
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


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
