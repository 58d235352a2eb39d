"""Disks that are full or read-only, and programs ended while they write: the old file or the new one, never half."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from support.programs import program
from support.reports import world_rules
from support.tinymodels import World, write_world

from classaug_ros.rules import Rules

PROJECT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{PROJECT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
KILLS = 12

# A writer without end, of files of 4 MB whose bytes are all the same.
WRITER = """
import sys
from itertools import count
from pathlib import Path
from classaug_ros.io.files import write_whole
for number in count():
    write_whole(Path(sys.argv[1]), bytes([number % 256]) * 2**22)
    if not number:
        print("writing", flush=True)
"""

# A learner without end, whose rules have the number of images for their first bias.
LEARNER = """
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from classaug_ros.rules import Rules
path = Path(sys.argv[1])
rules = Rules.load(path)
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    bias = rules.evidence.bias.copy()
    bias[0] = number
    made = replace(rules.provenance, images=number)
    replace(rules, evidence=replace(rules.evidence, bias=bias), provenance=made).save(path)
    if number == int(sys.argv[2]):
        print("writing", flush=True)
"""


@contextmanager
def started(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run a program that writes, for as long as it takes or until it is killed at the end."""
    with program([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        yield process


def check_rules(path: Path) -> None:
    """Refuse rules whose arrays are of others."""
    rules = Rules.load(path)
    assert rules.evidence is not None
    assert int(rules.evidence.bias[0]) == rules.provenance.images


def first_rules(world: World, path: Path) -> None:
    rules = world_rules(world, "probability")
    assert rules.evidence is not None
    rules.evidence.bias[0] = rules.provenance.images
    rules.save(path)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_world(tmp_path_factory.mktemp("world"), images=2)


def test_whoever_is_killed_while_writing_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    random = np.random.default_rng(0)
    for _ in range(KILLS):
        with started(WRITER, path):
            time.sleep(random.uniform(0, 0.03))
        data = path.read_bytes()
        assert len(data) == 2**22
        assert data.count(data[:1]) == len(data)


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for name in (".file.1.tmp", ".file.2.tmp", ".other.1.tmp"):
        (tmp_path / name).write_bytes(b"half")
    long_ago = time.time() - 2 * 3600
    os.utime(tmp_path / ".file.1.tmp", (long_ago, long_ago))
    os.utime(tmp_path / ".other.1.tmp", (long_ago, long_ago))
    subprocess.run([sys.executable, "-c", WRITER.replace("count()", "range(1)"), path], env=ENVIRONMENT, check=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == [".file.2.tmp", ".other.1.tmp", "file"]


def test_whoever_is_killed_while_saving_rules_leaves_rules_with_their_arrays(world: World, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    first_rules(world, path)
    random = np.random.default_rng(1)
    for kill in range(KILLS):
        with started(LEARNER, path, 1000 * kill, 10**9):
            time.sleep(random.uniform(0, 0.03))
        check_rules(path)


def test_between_the_two_files_of_rules_the_old_ones_are_whole(world: World, tmp_path: Path) -> None:
    """The worst moment to be ended: the new arrays are there, the new parameters are not."""
    path, new = tmp_path / "rules.yaml", tmp_path / "new" / "rules.yaml"
    first_rules(world, path)
    world_rules(world, "probability", 2).save(new)
    (arrays,) = new.parent.glob("*.arrays.npz")
    arrays.replace(path.with_name(arrays.name))
    check_rules(path)


def test_two_learners_may_write_the_same_rules_at_once(world: World, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    first_rules(world, path)
    loaded = 0
    with started(LEARNER, path, 1000, 1060) as one, started(LEARNER, path, 2000, 2060) as other:
        while one.poll() is None or other.poll() is None:
            check_rules(path)
            loaded += 1
    assert (one.returncode, other.returncode) == (0, 0)
    assert loaded > 0
    check_rules(path)


@dataclass(frozen=True)
class Disk:
    """A file system of 96 KB of its own; what it holds is copied to ``after`` once the command has ended."""

    folder: Path
    after: Path

    def run(self, *arguments: object, fill: bool = False, read_only: bool = False) -> subprocess.CompletedProcess[str]:
        """Run ``classaug`` with the disk mounted, an old file of each name on it."""
        script = f"""
            set -e
            mount -t tmpfs -o size=96k tmpfs {self.folder}
            cp -r {self.folder}.old/. {self.folder}/
            {f"head -c 1M /dev/zero > {self.folder}/filler 2> /dev/null || true" if fill else ""}
            {f"mount -o remount,ro {self.folder}" if read_only else ""}
            status=0
            "$@" || status=$?
            rm -f {self.folder}/filler 2> /dev/null || true
            cp -r {self.folder} {self.after}
            exit $status
        """
        command = ["unshare", "-rm", "sh", "-c", script, "sh", sys.executable, "-m", "classaug_ros.cli"]
        return subprocess.run(
            [*command, *map(str, arguments)], capture_output=True, text=True, env=ENVIRONMENT, check=False
        )


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    try:
        probe = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", tmp_path], check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if probe.returncode:
        pytest.skip("no file system may be mounted here, not even in a namespace of its own")
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk.old").mkdir()
    return Disk(tmp_path / "disk", tmp_path / "after")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@dataclass(frozen=True)
class Case:
    """A command, and the old files on the disk it writes to."""

    arguments: Callable[[World, Path, Path], tuple[object, ...]]
    old: tuple[str, ...]


MODELS = ("--main", "main", "--sub", "sub", "--task", "task.yaml")
CASES = {
    "learn": Case(
        lambda world, disk, _: ("learn", *models(world), "--dataset", world.dataset, "--output", disk / "rules.yaml"),
        ("rules.yaml",),
    ),
    "evaluate": Case(
        lambda world, disk, rules: (
            *("evaluate", *models(world), "--rules", rules, "--dataset", world.dataset, "--report", disk / "report"),
        ),
        ("report/report.json", "report/report.md", "report/report.html"),
    ),
    "record": Case(
        lambda world, disk, _: ("make-bag", world.dataset.parent / "images", "--output", disk / "bag", "--topic", "/a"),
        ("other",),
    ),
}


def models(world: World) -> tuple[object, ...]:
    return "--main", world.main, "--sub", world.sub, "--task", world.task


@pytest.mark.parametrize("state", ["full", "read-only"])
@pytest.mark.parametrize("command", CASES)
def test_a_disk_that_takes_nothing_keeps_what_it_has(
    disk: Disk, world: World, tmp_path: Path, command: str, state: str
) -> None:
    case = CASES[command]
    for name in case.old:
        (disk.folder.with_name("disk.old") / name).parent.mkdir(exist_ok=True)
        (disk.folder.with_name("disk.old") / name).write_text(f"an old {name}", encoding="utf-8")
    rules = tmp_path / "rules.yaml"
    world_rules(world).save(rules)
    done = disk.run(*case.arguments(world, disk.folder, rules), fill=state == "full", read_only=state == "read-only")
    assert done.returncode == 2, done.stderr
    last = done.stderr.rstrip().splitlines()[-1]
    assert last.startswith("classaug ")
    assert "cannot be written: " in last
    assert {"full": "No space left on device", "read-only": "Read-only file system"}[state] in last
    assert "Traceback" not in done.stderr
    assert contents(disk.after) == contents(disk.folder.with_name("disk.old"))
