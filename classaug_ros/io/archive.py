"""NumPy archives (.npz): read without unpickling anything, and without taking more memory than the file can fill."""

from __future__ import annotations

import io
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

DEFLATED = 1032
"""Bytes that a byte of deflated data can become."""

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # NumPy's own; others make a megabyte of a byte, all at once

_npy: Any = np.lib.format
_HEADERS = {(1, 0): _npy.read_array_header_1_0, (2, 0): _npy.read_array_header_2_0}

# What NumPy and zipfile raise for files that are no archives, lack an array, or have a byte changed.
_BROKEN = (
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    OSError,
    OverflowError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


class BrokenArchiveError(Exception):
    """Bytes that are no archive, or one that is broken or built to fill the memory."""


class Archive(Mapping[str, NDArray[Any]]):
    """The arrays of an archive by name, each read when it is asked for."""

    def __init__(self, data: bytes, expansion: int = 1) -> None:
        """Open an archive.

        Args:
            data: its bytes.
            expansion: how many times larger than all of them an array may be: ``DEFLATED`` for one that is compressed.

        Raises:
            BrokenArchiveError: the bytes are none.
        """
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except _BROKEN as error:
            raise BrokenArchiveError from error
        self._members = {info.filename.removesuffix(".npy"): info for info in self._zip.infolist()}
        self._most = expansion * len(data)

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return an array.

        Raises:
            KeyError: there is none of that name.
            BrokenArchiveError: it cannot be read, holds Python objects, or says to be larger than its part of the file.
        """
        member = self._members[name]
        try:
            if member.compress_type not in _METHODS:
                raise ValueError("compressed otherwise than NumPy does")
            with self._zip.open(member) as stream:
                shape, _, dtype = _HEADERS[_npy.read_magic(stream)](stream)
                # NumPy would take the memory that the header asks for before it reads the first value.
                size = dtype.itemsize
                for side in shape:
                    size *= side
                if dtype.hasobject or size != member.file_size - stream.tell() or size > self._most:
                    raise ValueError("not the size of its values")
            with self._zip.open(member) as stream:
                array: NDArray[Any] = _npy.read_array(stream, allow_pickle=False)
        except _BROKEN as error:
            # NumPy's own words recommend pickle, which nobody should load from a file at hand.
            raise BrokenArchiveError from error
        return array
