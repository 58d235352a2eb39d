"""Real ROS for tests: domains of their own, programs as processes, and a peer that talks to them over DDS."""

from __future__ import annotations

import fcntl
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

import pytest
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.qos import QoSProfile

from classaug_ros.running.companion import Companion
from classaug_ros.running.fastdds import profiles_variable
from support import programs
from support.programs import PATIENCE, PROJECT, program

DOMAINS = range(1, 102)  # those whose ports lie below the ones Linux hands out
END_PATIENCE = 10.0  # s that a program may take to end once its test is over

_locks: dict[int, IO[str]] = {}


@contextmanager
def own_domain() -> Iterator[int]:
    """Hold a ROS domain that no other test on this machine uses, kept on the loopback interface."""
    for domain in DOMAINS:
        path = Path(tempfile.gettempdir()) / f"classaug-domain-{domain}.lock"
        with path.open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
                # Shared memory that holds whole images; without it a large one comes in pieces and gets lost.
                patch.setenv(profiles_variable(), str(PROJECT / "config/fastdds.xml"))
                _locks[domain] = lock
                yield domain
            del _locks[domain]
            return
    raise RuntimeError("every ROS domain is in use")


def environment(domain: int) -> dict[str, str]:
    """Return the environment of a program in a domain held by ``own_domain``."""
    return {**programs.environment(), "ROS_DOMAIN_ID": str(domain), "RCUTILS_COLORIZED_OUTPUT": "0"}


def standard_input(domain: int) -> IO[str]:
    """Return an empty input for programs in that domain: who inherits it holds the domain, also when left behind."""
    return _locks[domain]


_Item = TypeVar("_Item")


class Gathered(Generic[_Item]):
    """Things another thread adds, to wait for."""

    def __init__(self) -> None:
        self._items: list[_Item] = []
        self._added = threading.Condition()

    def add(self, item: _Item) -> None:
        with self._added:
            self._items.append(item)
            self._added.notify_all()

    def items(self) -> list[_Item]:
        with self._added:
            return list(self._items)

    def wait(
        self, wanted: Callable[[_Item], bool], timeout: float = PATIENCE, what: str = "it", since: int = 0
    ) -> _Item:
        """Wait for one that is wanted, among those already here too but for the first ``since``, and return it."""
        deadline = time.monotonic() + timeout
        seen = since
        with self._added:
            while True:
                for item in self._items[seen:]:
                    if wanted(item):
                        return item
                seen = len(self._items)
                left = deadline - time.monotonic()
                assert left > 0, f"waited {timeout} s in vain for {what} among {seen}: {self._items[-5:]!r:.3000}"
                self._added.wait(left)

    def wait_for(self, count: int, timeout: float = PATIENCE) -> list[_Item]:
        """Wait for a number of them and return all."""
        with self._added:
            enough = self._added.wait_for(lambda: len(self._items) >= count, timeout)
            assert enough, f"waited {timeout} s in vain for {count}, got {len(self._items)}"
            return list(self._items)


class Process:
    """A Python module running as a process of its own, its output gathered line by line."""

    def __init__(self, module: str, *arguments: str, domain: int, cwd: Path | None = None) -> None:
        self.domain = domain
        self._stack = ExitStack()
        self._popen = self._stack.enter_context(
            program(
                [sys.executable, "-m", module, *arguments],
                env=environment(domain),
                cwd=cwd,
                stdin=standard_input(domain),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        self._gathered = Gathered[str]()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    @property
    def output(self) -> str:
        return "".join(self._gathered.items())

    def wait_for_line(self, pattern: str, timeout: float = PATIENCE) -> str:
        """Wait for a line of output in which a pattern is found."""
        return self._gathered.wait(lambda line: re.search(pattern, line) is not None, timeout, pattern)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait for the process to end by itself; return its exit code."""
        code: int = self._popen.wait(timeout)
        self._reader.join()
        return code

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._popen.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGINT, timeout: float = PATIENCE) -> tuple[int, float]:
        """Send a signal; return the exit code and the seconds it took. Killed when it does not end."""
        start = time.monotonic()
        if self.running:
            self.send(number)
        try:
            code = self.wait(timeout)
        except subprocess.TimeoutExpired:
            self._stack.close()
            code = self.wait()
        return code, time.monotonic() - start

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(timeout=END_PATIENCE)
        self._stack.close()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self._gathered.add(line)
        self._popen.stdout.close()


class Peer(Companion):
    """A ROS node in the test's own process that listens in a thread of its own.

    It goes without rclpy's default QoS callbacks: they warn of their own deprecation, an error under pytest.
    """

    def __init__(self, domain: int, name: str = "peer") -> None:
        super().__init__(name, domain)

    def subscribe(self, kind: type, topic: str, qos: QoSProfile | int = 10, *, publishers: int = 0) -> Gathered[Any]:
        """Gather every message of a topic; return once it has its publishers."""
        gathered = Gathered[Any]()
        events = SubscriptionEventCallbacks(use_default_callbacks=False)
        subscription = self.node.create_subscription(kind, topic, gathered.add, qos, event_callbacks=events)
        eventually(lambda: subscription.get_publisher_count() >= publishers, f"a publisher of {topic}")
        return gathered

    def publisher(self, kind: type, topic: str, qos: QoSProfile | int = 10, *, subscribers: int = 1) -> Any:
        """Return a publisher that already has its subscribers."""
        events = PublisherEventCallbacks(use_default_callbacks=False)
        publisher = self.node.create_publisher(kind, topic, qos, event_callbacks=events)
        eventually(lambda: publisher.get_subscription_count() >= subscribers, f"a subscriber of {topic}")
        return publisher

    def call(self, kind: Any, service: str, request: Any, timeout: float = PATIENCE) -> Any:
        """Call a service and return its response."""
        client = self.node.create_client(kind, service)
        assert client.wait_for_service(timeout), f"no service {service} in {timeout} s"
        future = client.call_async(request)
        eventually(future.done, f"the response of {service}", timeout)
        self.node.destroy_client(client)
        return future.result()


def eventually(condition: Callable[[], bool], what: str, timeout: float = PATIENCE) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s in vain for {what}"
        time.sleep(0.01)
