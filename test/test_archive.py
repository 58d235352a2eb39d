"""NumPy archives: nothing in them is unpickled, and they take no more memory than their file can fill."""

from __future__ import annotations

import io
import os
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from classaug_ros.errors import ConfigError
from classaug_ros.io.archive import DEFLATED, Archive, BrokenArchiveError
from classaug_ros.learning.counts import Counts
from classaug_ros.rules import Evidence


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mknod, (str(self._path),)


def npz(method: int = zipfile.ZIP_STORED, **members: bytes | NDArray[Any]) -> bytes:
    """An archive of arrays, or of what is given as bytes in their place."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, value in members.items():
            stream = io.BytesIO()
            if not isinstance(value, bytes):
                np.save(stream, value, allow_pickle=True)
            archive.writestr(f"{name}.npy", value if isinstance(value, bytes) else stream.getvalue())
    return file.getvalue()


def header(shape: str, dtype: str = "<f8") -> bytes:
    """The start of an array file."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def test_arrays_are_those_that_were_saved() -> None:
    values = {"a": np.arange(6.0).reshape(2, 3), "b": np.array(["x", "yz"]), "c": np.array(5), "d": np.zeros((0, 3))}
    file = io.BytesIO()
    np.savez_compressed(file, **values)  # type: ignore[arg-type]
    archive = Archive(file.getvalue(), DEFLATED)
    assert set(archive) == set(values)
    for name, expected in values.items():
        np.testing.assert_array_equal(archive[name], expected, strict=True)
    with pytest.raises(KeyError):
        archive["e"]


@pytest.mark.parametrize("reader", ["archive", "counts", "evidence"])
def test_nothing_is_ever_unpickled(reader: str, tmp_path: Path) -> None:
    made, file = tmp_path / "made", tmp_path / "counts.npz"
    objects = np.array([Touch(made)], object)
    names = (*Counts.__dataclass_fields__, *Evidence.__dataclass_fields__)
    members: dict[str, Any] = {**dict.fromkeys(names, objects), "format": np.array(2)}
    data = npz(**members)
    file.write_bytes(data)
    if reader == "archive":
        with pytest.raises(BrokenArchiveError):
            Archive(data)["main"]
    else:
        with pytest.raises(ConfigError, match=r"is not an? (counts|arrays) file of `classaug learn`, or broken"):
            _ = Counts.load(file) if reader == "counts" else Evidence.from_bytes(data)
    assert not made.exists()
    np.load(io.BytesIO(data), allow_pickle=True)["main"]  # such a file is what it seems to be
    assert made.exists()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_an_archive_built_to_fill_the_memory_is_refused(method: int) -> None:
    zeros = np.zeros(1 << 23)  # 64 MiB, of some KB in the file
    data = npz(method, main=zeros)
    del zeros
    assert len(data) < 70_000
    tracemalloc.start()
    try:
        with pytest.raises(BrokenArchiveError):
            Archive(data, 1 if method == zipfile.ZIP_DEFLATED else DEFLATED)["main"]
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(header("(1000000,)"), id="larger than its values"),
        pytest.param(header("(-1, -1)") + bytes(8), id="negative"),
        pytest.param(header("(" * 3000), id="nested"),
        pytest.param(header("(1, '''"), id="no Python"),
        pytest.param(header("(1,)", "|O") + bytes(8), id="objects"),
        pytest.param(header(f"({10**30}, 0)"), id="huge and empty"),
        pytest.param(b"\x93NUMPY\x09\x00" + bytes(20), id="another version"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_headers_that_lie_are_refused(content: bytes) -> None:
    with pytest.raises(BrokenArchiveError):
        Archive(npz(a=content))["a"]
