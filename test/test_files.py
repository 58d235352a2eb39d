"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest

from classaug_ros.errors import ConfigError
from classaug_ros.io.files import writable, write_all, write_whole


def test_a_file_and_its_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deeper" / "file.bin"
    write_whole(path, b"\x00\xff\n")
    assert path.read_bytes() == b"\x00\xff\n"
    assert [file.name for file in path.parent.iterdir()] == ["file.bin"]


def test_an_old_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"something longer than the new contents")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full_disk(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(ConfigError, match=r"file: cannot be written: No space left on device"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_on_the_disk_before_it_is_renamed_and_its_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as the calls go: no test can cut the power."""
    calls = []
    sync, replace = os.fsync, Path.replace

    def synced(opened: int) -> None:
        sync(opened)
        calls.append(("sync", Path(f"/proc/self/fd/{opened}").readlink()))

    def replaced(self: Path, target: Path) -> Path:
        calls.append(("replace", self))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    one, two = tmp_path / "new" / "one", tmp_path / "new" / "two"
    write_all({one: b"1", two: b"2"})
    written = [path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in (one, two)]
    assert calls[:4] == [(call, path) for call in ("sync", "replace") for path in written]
    assert sorted(calls[4:]) == [("sync", tmp_path), ("sync", tmp_path / "new")]


@pytest.mark.parametrize(
    ("number", "kept"), [(errno.EINVAL, b"new"), (errno.EIO, b"old")], ids=["no such thing here", "disk broken"]
)
def test_only_a_file_system_that_cannot_sync_may_do_without(
    number: int, kept: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fail)
    with suppress(ConfigError):
        write_whole(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == kept
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match=rf"^{tmp_path}/file/below: cannot be written: (Not a directory|File exists)"):
        write_whole(tmp_path / "file" / "below", b"")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="cannot be written: Permission denied"):
        write_whole(tmp_path / "file", b"")


def test_a_pipe_or_a_device_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="pipe: is a pipe or a device; name a file"):
        write_whole(tmp_path / "pipe", b"new")
    assert (tmp_path / "pipe").is_fifo()
    assert list(tmp_path.iterdir()) == [tmp_path / "pipe"]


def test_what_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    writable(tmp_path / "new" / "rules.yaml")
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(ConfigError, match="is a folder; name a file"):
        writable(tmp_path / "new")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ConfigError, match="cannot be written"):
        writable(tmp_path / "file" / "rules.yaml")
