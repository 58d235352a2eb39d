"""Rules read again over the node's service, beside everything else it does."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from std_srvs.srv import Trigger
from support.programs import PATIENCE
from support.ros import eventually
from support.tinynode import Rig, at, running

pytestmark = pytest.mark.ros

LONG = "# a comment that YAML reads letter by letter, and takes its time for\n" * 60_000


@contextmanager
def reading(folder: Path, **parameters: Any) -> Iterator[tuple[Rig, Any]]:
    """A node that has begun to read rules, which takes about a second, and the response that is to come."""
    with running(folder, **parameters) as rig:
        rig.exchange(at(time.time()))
        rules = folder / "rules.yaml"
        rules.write_text(rules.read_text() + LONG)
        client = rig.peer.node.create_client(Trigger, "/classaug_node/reload_rules")
        assert client.wait_for_service(PATIENCE)
        yield rig, client.call_async(Trigger.Request())


def change(rig: Rig, transition: int) -> None:
    request = ChangeState.Request(transition=Transition(id=transition))
    assert rig.peer.call(ChangeState, "/classaug_node/change_state", request).success


def test_frames_are_received_and_answered_while_rules_are_read(tmp_path: Path) -> None:
    with reading(tmp_path, image_depth=1, image_reliability="reliable") as (rig, response):
        answered, sent = len(rig.labels.items()), 0
        while not response.done() and sent < 1000:
            rig.publish(at(time.time()))
            sent += 1
            time.sleep(0.05)
        assert response.result().success, response.result().message
        assert sent > 5  # else it shows nothing
        # Whoever read rules and did nothing else would have taken one of them, the last.
        assert len(rig.labels.items()) - answered > sent / 5
        assert rig.told().counts["in"] > sent / 3


def test_a_node_cleaned_up_while_it_reads_rules_goes_on(tmp_path: Path) -> None:
    with reading(tmp_path) as (rig, response):
        time.sleep(0.1)
        for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
            change(rig, transition)
        eventually(response.done, "the response")
        assert not response.result().success
        assert "the node is unconfigured, and has none; configure it, and it reads them" in response.result().message
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            change(rig, transition)
        rig.exchange(at(time.time()))
        assert "Traceback" not in rig.node.output


def test_a_signal_does_not_wait_for_rules_being_read(tmp_path: Path) -> None:
    with reading(tmp_path) as (rig, _):
        time.sleep(0.2)
        read = rig.node.output.count("rules: ")
        assert rig.node.stop(signal.SIGTERM)[0] == 0
        assert rig.node.output.count("rules: ") == read
        assert "Traceback" not in rig.node.output
