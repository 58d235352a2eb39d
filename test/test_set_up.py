"""The set-up: what the locks name, whatever is published since, and one clear line where it cannot be done."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
LOCKS = PROJECT / "requirements"
PYTHON = Path(sys.base_prefix, "bin/python3")  # not that of the environment the tests run in

# Builds the project of the tests, as setuptools would, without a library.
BACKEND = """
import zipfile
def build_editable(folder, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(f"{folder}/project-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in {"METADATA": "Metadata-Version: 2.1\\nName: project\\nVersion: 1.0\\n", "RECORD": "",
                           "WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"}.items():
            wheel.writestr(f"project-1.0.dist-info/{name}", text)
    return "project-1.0-py3-none-any.whl"
build_wheel = build_editable
"""
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def write_wheel(index: Path, name: str, version: str, *, needs: str = "", size: int = 0) -> str:
    """Publish a wheel in an index and return its line of a lock."""
    folder = index / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nProvides-Extra: more\n"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", f"version = {version!r}\n")
        wheel.writestr(f"{name}.bin", b"\0" * size)
        info = f"{name}-{version}.dist-info"
        wheel.writestr(f"{info}/METADATA", metadata + (f"Requires-Dist: {needs}\n" if needs else ""))
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    links = "".join(f'<a href="{each.name}">{each.name}</a>\n' for each in sorted(folder.glob("*.whl")))
    (folder / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")
    return f"{name}=={version} --hash=sha256:{sha256(path.read_bytes()).hexdigest()}\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with this one's set-up, whose lock names two libraries of an index in a folder."""
    folder = tmp_path / "project"
    (folder / "requirements").mkdir(parents=True)
    for name in ("Makefile", "requirements/set_up.py"):
        shutil.copy(PROJECT / name, folder / name)
    for name, text in {"backend.py": BACKEND, "pyproject.toml": PYPROJECT, "setup.py": "", "setup.cfg": ""}.items():
        (folder / name).write_text(text)
    index = tmp_path / "index"
    lock = write_wheel(index, "part", "1.0") + write_wheel(index, "whole", "1.0", needs="part[more]>=1.0")
    (folder / "requirements/kilted.txt").write_text(lock)
    return folder


def environment(project: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON", "ROS_"))}
    # A Python that finds no ROS 2, so that the lock of its wheels is taken.
    index = (project.parent / "index").as_uri()
    return {**kept, "PIP_INDEX_URL": index, "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "1", **more}


def set_up(project: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", f"PYTHON={PYTHON}", *arguments, ".venv"]
    surroundings = environment(project, **more)
    return subprocess.run(command, cwd=project, env=surroundings, capture_output=True, text=True, check=False)


def told(ran: subprocess.CompletedProcess[str]) -> str:
    """The one line that says what was wrong, without make's own closing line."""
    assert ran.returncode
    lines = [line for line in ran.stderr.splitlines() if not re.match(r"make(\[\d+\])?: \*\*\* ", line)]
    assert len(lines) == 1, ran.stderr
    return lines[0]


def installed(project: Path) -> dict[str, str]:
    program = "import part, whole; print(part.version, whole.version)"
    ran = subprocess.run([project / ".venv/bin/python", "-c", program], capture_output=True, text=True, check=True)
    return dict(zip(("part", "whole"), ran.stdout.split(), strict=True))


def test_a_newer_release_that_is_asked_for_with_an_extra_changes_nothing(project: Path) -> None:
    write_wheel(project.parent / "index", "part", "2.0")
    ran = set_up(project)
    assert ran.returncode == 0, ran.stderr
    assert installed(project) == {"part": "1.0", "whole": "1.0"}
    assert "Setting up" not in set_up(project).stdout


def test_a_file_that_is_not_the_one_in_the_lock_is_refused(project: Path) -> None:
    write_wheel(project.parent / "index", "part", "1.0", size=1)
    assert "a downloaded file is not the one that the lock names" in told(set_up(project))


def test_a_release_that_is_gone_is_named(project: Path) -> None:
    shutil.rmtree(project.parent / "index/part")
    (project.parent / "index/part").mkdir()
    (project.parent / "index/part/index.html").write_text("<html></html>")
    assert "the index has no part==1.0 for this Python and machine" in told(set_up(project))


def test_without_a_network_that_is_said(project: Path) -> None:
    assert "no package index answers" in told(set_up(project, PIP_INDEX_URL="http://127.0.0.1:1/simple"))


def test_an_unknown_ros_is_said(project: Path) -> None:
    assert "ROS_DISTRO is 'foxy'" in told(set_up(project, "ROS_DISTRO=foxy"))


@pytest.mark.parametrize("version", [(2, 7), (3, 9), (3, 15)], ids=lambda version: ".".join(map(str, version)))
def test_another_python_is_refused(project: Path, version: tuple[int, int]) -> None:
    (project / "sitecustomize.py").write_text(f"import sys\nsys.version_info = (*{version}, 0, 'final', 0)\n")
    assert "expected Python 3.10 to 3.13" in told(set_up(project, PYTHONPATH=str(project)))


def test_a_python_that_is_not_there_is_named(project: Path) -> None:
    assert "there is no 'python3.1'" in told(set_up(project, "PYTHON=python3.1"))


def test_a_python_without_venv_is_refused(project: Path) -> None:
    """As Debian's is without its package python3-venv."""
    (project / "ensurepip.py").write_text("raise ImportError\n")
    assert "apt install python3-venv" in told(set_up(project, PYTHONPATH=str(project)))


@pytest.fixture
def small_disk(project: Path) -> Iterator[Path]:
    disk = project / ".venv"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_full_disk_is_said(project: Path, small_disk: Path) -> None:
    lock = write_wheel(project.parent / "index", "large", "1.0", size=2**25)
    (project / "requirements/kilted.txt").write_text(lock)
    assert "the disk is full" in told(set_up(project))
    assert shutil.disk_usage(small_disk).total == 24 * 2**20


def test_what_was_interrupted_is_mended_by_the_next_run(project: Path) -> None:
    command = ["make", f"PYTHON={PYTHON}", ".venv"]
    process = subprocess.Popen(
        command, cwd=project, env=environment(project), stdout=subprocess.DEVNULL, start_new_session=True
    )
    while process.poll() is None and not (project / ".venv/set-up.log").exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (project / ".venv/bin/python").unlink(missing_ok=True)
    ran = set_up(project)
    assert ran.returncode == 0, ran.stderr
    assert installed(project) == {"part": "1.0", "whole": "1.0"}


def test_this_environment_lacks_nothing() -> None:
    """The locks are complete: whatever a library asks for is there, in a version that it takes."""
    ran = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    missing = [line for line in ran.stdout.splitlines() if not line.startswith("cityscapesscripts ")]
    assert missing in ([], ["No broken requirements found."])


def entries(lock: Path) -> set[str]:
    """Names and versions in a lock."""
    return set(re.findall(r"^[\w.-]+==[\w.]+", lock.read_text(), re.MULTILINE))


@pytest.mark.parametrize("ros", ["jazzy", "kilted", "system"])
def test_what_runs_is_part_of_what_is_tested(ros: str) -> None:
    assert entries(LOCKS / f"{ros}.txt")
    assert entries(LOCKS / f"{ros}.txt") <= entries(LOCKS / f"{ros}-dev.txt")


@pytest.mark.parametrize("lock", sorted(LOCKS.glob("*.txt")), ids=lambda path: path.stem)
def test_locks_hold_a_version_and_hashes_for_each_library(lock: Path) -> None:
    if lock.stem == "torch":
        pytest.skip("published in builds of one version for many accelerators")
    entry = re.compile(r"^[\w.-]+==[\w.]+( ; [^\\\n]+)? \\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+", re.MULTILINE)
    rest = entry.sub("", lock.read_text() + "\n")
    assert [line for line in rest.splitlines() if line and not line.startswith("#")] == []


def test_what_is_published_is_asked_for_nowhere_but_by_name() -> None:
    """No recipe installs what no lock names."""
    recipes = (PROJECT / "Makefile").read_text() + (PROJECT / ".ci/run").read_text()
    assert "pip install" not in recipes
