"""Functions compiled to machine code, which release the GIL."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import numba
from numba.core import event

_compiler = partial(numba.njit, nogil=True, error_model="numpy")
_logger = logging.getLogger(__name__)


def compiled(function: Any) -> Any:
    """Compile a function by Numba when it is first called; the machine code is kept for the next process.

    Compiling takes seconds where arrays are assigned to slices or calculated with as a whole, tenths where loops do it.
    Division is NumPy's: by zero it gives infinity, and no error.

    The code is kept beside the module, in the user's own cache folder where that cannot be written, or in the folder
    that the variable NUMBA_CACHE_DIR names, unless others may write there: Numba unpickles and runs what it finds.
    """
    try:
        return _compiler(cache=_private(os.environ.get("NUMBA_CACHE_DIR", "")))(function)
    except RuntimeError:  # no place to keep it, as in a read-only container: compiled by every process
        return _compiler()(function)


@contextmanager
def telling(tell: Callable[[str], object]) -> Iterator[None]:
    """Have a line told, once, when the first function is compiled for which no machine code is kept."""
    listener = _Compiling(tell)
    event.register(listener.KIND, listener)
    try:
        yield
    finally:
        event.unregister(listener.KIND, listener)


class _Compiling(event.Listener):  # type: ignore[misc]  # Numba is untyped
    KIND = "numba:compile"

    def __init__(self, tell: Callable[[str], object]) -> None:
        self._tell = tell
        self._told = False

    def on_start(self, _: event.Event) -> None:
        if not self._told:
            self._told = True
            self._tell("compiling the fusion for this machine, which takes some seconds at the first start")

    def on_end(self, _: event.Event) -> None:
        pass


@cache
def _private(folder: str) -> bool:
    """Tell whether none but this user and root may write to a folder, be it there or still to be made; empty: yes.

    This user's primary group may, which is the user alone on most systems: Ubuntu lets it write to all new folders.
    """
    if not folder:
        return True
    try:
        found = next(each for each in (Path(folder), *Path(folder).absolute().parents) if each.exists()).stat()
    except OSError as error:
        _logger.warning("NUMBA_CACHE_DIR=%s: %s, so that no machine code is kept", folder, error.strerror)
        return False
    others = 0o002 if found.st_gid == os.getegid() else 0o022
    private = found.st_uid in (0, os.geteuid()) and not found.st_mode & others
    if not private:
        _logger.warning("NUMBA_CACHE_DIR=%s: others may write there, so that no machine code is kept", folder)
    return private
