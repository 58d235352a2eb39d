"""ROS domains for programs that start nodes of their own, so that two of them at once do not hear each other."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from classaug_ros.errors import ClassaugError

DOMAINS = range(101, 0, -1)  # those whose ports lie below the ones that Linux hands out; people mostly take low ones


@contextmanager
def own_domain() -> Iterator[int]:
    """Hold a ROS domain that no other such program on this machine holds.

    A locked file in the folder for temporary files stands for each; the lock ends with the process, however that ends.

    Raises:
        ClassaugError: every domain is held.
    """
    for domain in DOMAINS:
        lock = _lock(Path(tempfile.gettempdir(), f"classaug-domain-{domain}.lock"))
        if lock is not None:
            try:
                yield domain
            finally:
                os.close(lock)
            return
    raise ClassaugError(f"all ROS domains from {DOMAINS[-1]} to {DOMAINS[0]} are in use; set ROS_DOMAIN_ID")


def _lock(path: Path) -> int | None:
    """Return the handle of a file locked by this program; None where another one holds it, or another user."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
        else:
            return handle
    return None
