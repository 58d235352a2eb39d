"""Functions compiled to machine code, which release the GIL."""

from __future__ import annotations

from typing import Any

import numba


def compiled(function: Any) -> Any:
    """Compile a function by Numba when it is first called; the machine code is kept for the next process."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no place to keep it, as in a read-only container: compiled by every process
        return numba.njit(nogil=True)(function)
