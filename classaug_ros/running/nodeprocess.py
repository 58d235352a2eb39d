"""The node as a process of its own, for those who measure it, and the environment in which it is started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from classaug_ros.errors import ClassaugError
from classaug_ros.io.shipped import shipped
from classaug_ros.running.domain import own_domain
from classaug_ros.running.fastdds import profiles_variable

END_TIMEOUT = 10.0  # seconds a node may take to end
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Footprint:
    """What a process holds of the machine: resident memory in bytes, open files, threads."""

    memory: int
    handles: int
    threads: int


def footprint(process: int) -> Footprint:
    """Return what a process holds now, by its id; OSError when there is none."""
    folder = Path(f"/proc/{process}")
    pages = int((folder / "statm").read_text(encoding="utf-8").split()[1])
    handles, threads = (sum(1 for _ in (folder / name).iterdir()) for name in ("fd", "task"))
    return Footprint(pages * _PAGE, handles, threads)


class NodeProcess:
    """``classaug_node`` running with parameters; a context manager that ends it. Linux only: it reads /proc."""

    def __init__(self, parameters: Mapping[str, object], log: Path, name: str = "classaug_node") -> None:
        """Start it.

        Args:
            parameters: ROS parameters by name, in the form of the command line's ``-p name:=value``.
            log: file that takes its output.
            name: the node's name, which its topics begin with.
        """
        arguments = [word for given, value in parameters.items() for word in ("-p", f"{given}:={value}")]
        command = [sys.executable, "-m", "classaug_ros.node.tethered", "--ros-args", "-r", f"__node:={name}"]
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 (ours)
                [*command, *arguments],
                stdin=subprocess.PIPE,  # which closes also when this process is killed, and the node ends
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def check(self) -> None:
        """Raise ClassaugError, with the last line of its output, when it has ended."""
        if (status := self._process.poll()) is not None:
            raise ClassaugError(f"classaug_node ended with status {status}: {self.last_line()}")

    def last_line(self) -> str:
        """Return the last line of its output."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "no output"

    def cpu_seconds(self) -> float:
        """Return the processor time used so far, of all its threads."""
        fields = self._proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS  # utime and stime of proc(5)

    def footprint(self) -> Footprint:
        """Return what it holds of the machine now."""
        self.check()
        return footprint(self._process.pid)

    def stop(self) -> None:
        """End it; killed when it does not within ``END_TIMEOUT`` seconds."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _proc(self, name: str) -> str:
        self.check()
        return Path(f"/proc/{self._process.pid}/{name}").read_text(encoding="utf-8")


@contextmanager
def ros_environment() -> Iterator[None]:
    """Keep topics on this machine, in a domain of their own unless one is set, with the shipped profile.

    Raises:
        ClassaugError: every domain is in use.
    """
    with ExitStack() as stack:
        domain = os.environ.get("ROS_DOMAIN_ID") or str(stack.enter_context(own_domain()))
        stack.enter_context(_environment(domain))
        yield


@contextmanager
def _environment(domain: str) -> Iterator[None]:
    ours = {
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_DOMAIN_ID": domain,
        # Shared memory large enough for images; Fast DDS' default sends them in pieces over UDP and loses some.
        profiles_variable(): str(shipped("fastdds.xml")),
    }
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
