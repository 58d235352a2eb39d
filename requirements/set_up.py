"""Set up .venv from the locks beside this file and from nothing else: no index is asked which version to take.

    python requirements/set_up.py FOLDER kilted           a new environment with what the package needs to run
    python requirements/set_up.py FOLDER oldest|newest    one with the oldest or newest libraries, and what tests need
    python requirements/set_up.py FOLDER --add LOCK...    more into an environment

A lock, ``requirements/LOCK.txt``, names every library with its version and the SHA-256 of its files; pip takes them as
they are (``--no-deps --require-hashes``). Where ``rclpy`` imports already, "kilted" and "jazzy" give way to the lock
"system". "dev" is the lock of developing that goes with the environment's own.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import threading
import time
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent
PATIENCE = 4.0  # s without a word
BUILT_HERE = ("--no-build-isolation", "--use-pep517")

# What pip says when it fails, and what is told of it. The first that is found counts.
FAILURES = (
    (r"No space left on device|Disk quota exceeded", "the disk is full; make room for 1.5 GB and run it again"),
    (r"DO NOT MATCH THE HASHES", "a downloaded file is not the one that the lock names, so nothing was installed"),
    (
        r"ConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|Failed to establish|unreachable",
        "no package index answers; check the network, and pip's index, proxy and certificates, then run it again",
    ),
    (r"No matching distribution found for ([^\s;]+)", r"the index has no \1 for this Python and machine"),
    (r"ERROR: (.+)", r"\1"),
)


class SetUpError(Exception):
    """Says in one line what went wrong and what to do."""


def main() -> None:
    """Do what the arguments say; end with one line and status 1 where that fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("lock", nargs="?")
    parser.add_argument("--add", nargs="+", metavar="LOCK")
    options = parser.parse_args()
    environment = Environment(options.folder.absolute())
    try:
        if options.add:
            environment.add(options.add)
        else:
            environment.make(options.lock)
    except (SetUpError, OSError) as error:
        sys.exit(f"make: {options.folder}: {_told(str(error))}")


class Environment:
    """A virtual environment in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._python = folder / "bin/python"
        self._log = folder / "set-up.log"
        self._builder = folder / "setuptools.txt"
        self._lock = folder / "lock"  # names the lock that the environment was made from

    def make(self, lock: str) -> None:
        """Make it anew: empty, then filled from a lock, then with the project itself in place.

        Raises:
            SetUpError: there is no such lock, or pip failed.
        """
        if lock != "newest" and not (REQUIREMENTS / f"{lock}.txt").is_file():
            raise SetUpError(f"ROS_DISTRO is {lock!r} and its rclpy does not import; expected jazzy or kilted")
        if lock in {"jazzy", "kilted"} and self._finds_ros():
            lock = "system"
        ros = "ROS 2 of this machine" if lock == "system" else "ROS 2 from wheels"
        print(f"Setting up {self._folder.name}: Python {sys.version.split()[0]}, {lock} libraries, {ros}", flush=True)
        venv.create(self._folder, clear=True, symlinks=True, system_site_packages=lock == "system")
        self._run("pip, as this Python brings it", "-m", "ensurepip", "--default-pip")
        if lock == "newest":
            self._pip("the newest of pip", "--upgrade", "pip")
            asked = [f"-r{REQUIREMENTS}/{name}.in" for name in ("kilted", "dev")]
            self._pip("the newest of all", *asked, "--editable", f"{REQUIREMENTS.parent}[fast]")
        else:
            self._install(lock)
        self._lock.write_text(lock)
        if lock in {"oldest", "newest"}:
            self._install("cityscapesscripts")
        self._pip("classaug_ros", "--no-deps", *BUILT_HERE, "--editable", str(REQUIREMENTS.parent))

    def add(self, locks: list[str]) -> None:
        """Install more locks.

        Raises:
            SetUpError: pip failed.
        """
        for lock in locks:
            self._install(f"{self._lock.read_text()}-dev" if lock == "dev" else lock)

    def _finds_ros(self) -> bool:
        """Tell whether an environment that sees the system's packages would find ROS 2 there."""
        venv.create(self._folder, clear=True, symlinks=True, system_site_packages=True)
        return not subprocess.run([self._python, "-c", "import rclpy"], capture_output=True, check=False).returncode

    def _install(self, lock: str) -> None:
        path = REQUIREMENTS / f"{lock}.txt"
        # torch.txt says why PyTorch is the exception.
        exactly = () if lock == "torch" else ("--no-deps", "--require-hashes")
        # What has no wheel (empy) is built by the setuptools of the lock, not by the newest that pip would look for.
        if builder := re.search(r"^setuptools==.*(\n    .*)*", path.read_text(encoding="utf-8"), re.MULTILINE):
            self._builder.write_text(builder[0], encoding="utf-8")
            self._pip("setuptools", *exactly, "-r", str(self._builder))
        self._pip(f"requirements/{path.name}", *exactly, *BUILT_HERE, "-r", str(path))

    def _pip(self, what: str, *arguments: str) -> None:
        # What is never imported need not be compiled.
        options = ("--no-compile", "--no-input", "--progress-bar=off", "--disable-pip-version-check")
        self._run(what, "-m", "pip", "install", *options, *arguments)

    def _run(self, what: str, *arguments: str) -> None:
        """Run the environment's Python: what it prints goes to the log, and a word of it now and then to the screen."""
        print(f"  {what}", flush=True)
        start, count, word = time.monotonic(), 0, ""
        with self._log.open("a", encoding="utf-8") as log:
            command = [str(self._python), "-u", *arguments]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            ended = threading.Event()

            def tell() -> None:
                while not ended.wait(PATIENCE):
                    print(f"    {time.monotonic() - start:.0f} s, {count} packages: {word[:80]}", flush=True)

            telling = threading.Thread(target=tell)
            telling.start()
            printed = []
            for line in process.stdout or ():
                log.write(line)
                printed.append(line)
                word = line.strip().partition(" (from")[0] if not line.startswith("WARNING") else word
                count += word.startswith(("Collecting", "Requirement already"))
            ended.set()
            telling.join()
        if process.wait():
            raise SetUpError(f"{_told(''.join(printed))} (the whole of it: {self._log})")


def _told(printed: str) -> str:
    for pattern, message in FAILURES:
        if found := re.search(pattern, printed):
            return found.expand(message)
    return printed.strip().rpartition("\n")[2]


if __name__ == "__main__":
    main()
