"""Fixtures that several test modules share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from ros import Peer, Process

# How long an example takes says more about the machine than about the code.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture
def domain() -> Iterator[int]:
    """A ROS domain of the test's own, kept on the loopback interface."""
    pytest.importorskip("rclpy")
    from ros import own_domain

    with own_domain() as number:
        yield number


@pytest.fixture
def peer(domain: int) -> Iterator[Peer]:
    """A ROS node in the test's own process."""
    from ros import Peer

    with Peer(domain) as node:
        yield node


@pytest.fixture
def start(domain: int) -> Iterator[Callable[..., Process]]:
    """Start Python modules as processes in the test's ROS domain; they are ended after the test."""
    from ros import Process

    with ExitStack() as stack:

        def start_process(module: str, *arguments: Any, cwd: Path | None = None) -> Process:
            return stack.enter_context(Process(module, *map(str, arguments), domain=domain, cwd=cwd))

        yield start_process
