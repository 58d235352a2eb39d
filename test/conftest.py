"""Fixtures that several test modules share."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from support.ros import Peer, Process
    from support.tinymodels import World

# Kernels run in Triton's interpreter, on the CPU. It has to know before it is imported.
os.environ["TRITON_INTERPRET"] = "1"
# Nor do libraries look later. Arrays here are small, and threads that wait for each other would keep the tests' cores.
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))

# How long an example takes says more about the machine than about the code.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session", autouse=True)
def no_shared_memory_left() -> Iterator[None]:
    """Take away the shared memory of nodes that tests killed, 70 MB each: Fast DDS leaves it until the next boot."""
    before = set(SHARED_MEMORY.glob("fast*_el"))
    yield
    for path in set(SHARED_MEMORY.glob("fast*_el")) - before:  # its owner holds this lock for as long as it lives
        with suppress(OSError), path.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.with_name(path.name.removesuffix("_el")).unlink()
            path.unlink()


@pytest.fixture(scope="session", autouse=True)
def no_thread_left_in_a_model() -> Iterator[None]:
    """Wait for models that tests gave up: a thread that comes back from one as Python ends aborts the process."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("classaug-model-"):
            thread.join(60)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A world of five images, of the test's own."""
    from support.tinymodels import write_world

    return write_world(tmp_path / "world", images=5)


@pytest.fixture
def domain() -> Iterator[int]:
    """A ROS domain of the test's own, kept on the loopback interface."""
    pytest.importorskip("rclpy")
    from support.ros import own_domain

    with own_domain() as number:
        yield number


@pytest.fixture
def peer(domain: int) -> Iterator[Peer]:
    """A ROS node in the test's own process."""
    from support.ros import Peer

    with Peer(domain) as node:
        yield node


@pytest.fixture
def start(domain: int) -> Iterator[Callable[..., Process]]:
    """Start Python modules as processes in the test's ROS domain; they are ended after the test."""
    from support.ros import Process

    with ExitStack() as stack:

        def start_process(module: str, *arguments: Any, cwd: Path | None = None) -> Process:
            return stack.enter_context(Process(module, *map(str, arguments), domain=domain, cwd=cwd))

        yield start_process
