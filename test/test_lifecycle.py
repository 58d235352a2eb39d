"""The running node's transitions: asked for in any order, at any moment, by signals, and by the node itself."""

from __future__ import annotations

import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import Trigger
from support.ros import Process, eventually, own_domain
from support.tinymodels import MAIN_CLASSES, random_rules, write_model
from support.tinynode import NODE, SOON, Rig, at, running, tiny_node

from classaug_ros.imaging.images import Frame
from classaug_ros.models.card import load_model
from classaug_ros.node.watchdog import IN_A_ROW
from classaug_ros.pipeline.cpu import Pipeline
from classaug_ros.rules import RuleSet
from classaug_ros.running.nodeprocess import footprint

pytestmark = pytest.mark.ros

SIZE = (24, 32)
WHITE, GREY = 255, 99
UNCONFIGURED, INACTIVE, ACTIVE = (
    State.PRIMARY_STATE_UNCONFIGURED,
    State.PRIMARY_STATE_INACTIVE,
    State.PRIMARY_STATE_ACTIVE,
)
CONFIGURE, CLEANUP = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CLEANUP
ACTIVATE, DEACTIVATE = Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE
LEADS = {
    (UNCONFIGURED, CONFIGURE): INACTIVE,
    (INACTIVE, ACTIVATE): ACTIVE,
    (ACTIVE, DEACTIVATE): INACTIVE,
    (INACTIVE, CLEANUP): UNCONFIGURED,
}


def send(rig: Rig, value: int, size: tuple[int, int] = SIZE) -> Image:
    """Publish an image of one colour."""
    message = Image(height=size[0], width=size[1], step=size[1] * 3, encoding="rgb8")
    message.data = bytes([value]) * (size[0] * message.step)
    message.header.stamp = at(time.time())
    rig.publisher.publish(message)
    return message


def served(rig: Rig) -> None:
    """Send frames until one is answered."""
    sent: list[Any] = []

    def answered() -> bool:
        sent.append(send(rig, GREY).header)
        time.sleep(0.02)
        return any(label.header in sent for label in rig.labels.items()[-3:])

    eventually(answered, "a label")


def change(rig: Rig, transition: int) -> bool:
    request = ChangeState.Request(transition=Transition(id=transition))
    return bool(rig.peer.call(ChangeState, "/classaug_node/change_state", request).success)


def state(rig: Rig) -> int:
    return int(rig.peer.call(GetState, "/classaug_node/get_state", GetState.Request()).current_state.id)


def node_status(rig: Rig, word: str) -> Any:
    """Wait for a status of the node that has a word in it."""

    def find(message: Any) -> Any:
        return next((each for each in message.status if each.name.endswith(": node") and word in each.message), None)

    since = len(rig.diagnostics.items())
    return find(rig.diagnostics.wait(lambda message: find(message) is not None, what=word, since=since))


def test_a_hang_is_an_error_and_everything_else_goes_on(tmp_path: Path) -> None:
    with running(tmp_path, trap="sticks on white", engine_timeout=2.0) as rig:
        served(rig)
        send(rig, WHITE)
        rig.node.wait_for_line("frame failed: .*sub/model.onnx did not answer within 2 s")
        rig.node.wait_for_line(r"loading the models anew \(1 of 3\)")
        start = time.monotonic()
        assert state(rig) == ACTIVE
        assert time.monotonic() - start < SOON
        for _ in range(20):
            send(rig, GREY)
        told = rig.told()
        assert told.level == 2
        assert told.counts["failed"] == 1
        served(rig)
        assert node_status(rig, "the models were loaded anew: ").level == b"\x02"
        for _ in range(IN_A_ROW):
            served(rig)
        rig.node.wait_for_line("the models are well again")
        assert node_status(rig, "active").level == b"\x00"
        counts = rig.told().counts
        assert counts["failed"] == 1
        assert counts["out"] + counts["dropped"] + counts["waiting"] == counts["in"] - 1
        code, seconds = rig.node.stop()
        assert (code, "Traceback" in rig.node.output) == (0, False)
        assert seconds < SOON


def test_models_that_go_on_hanging_deactivate_the_node_until_it_is_activated_again(tmp_path: Path) -> None:
    with running(tmp_path, trap="loops on white", engine_timeout=1.0, engine_reloads=1) as rig:
        served(rig)

        def hang() -> bool:
            send(rig, WHITE)
            time.sleep(0.05)
            return "deactivated: " in rig.node.output

        eventually(hang, "the end")
        eventually(lambda: state(rig) == INACTIVE, "the node to deactivate itself")
        entry = node_status(rig, "the models do not work, though loaded anew 1 times: ")
        assert entry.level == b"\x02"
        assert "did not answer within 1 s" in entry.message
        assert rig.node.output.count("[ERROR]") == 1
        assert change(rig, ACTIVATE)
        served(rig)
        assert "Traceback" not in rig.node.output


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / "model.onnx").unlink(), "expected one model file"),
        (lambda folder: write_model(folder, MAIN_CLASSES, SIZE, seed=77), "was changed since the node was configured"),
    ],
    ids=["gone", "changed"],
)
def test_models_that_cannot_be_loaded_anew_deactivate_the_node(
    tmp_path: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    with running(tmp_path, trap="loops on white", engine_timeout=1.0) as rig:
        served(rig)
        spoil(tmp_path / "world" / "main")
        send(rig, WHITE)
        line = rig.node.wait_for_line("deactivated: the models cannot be loaded anew: ")
        assert reason in line
        eventually(lambda: state(rig) == INACTIVE, "the node to deactivate itself")
        assert "Traceback" not in rig.node.output


def test_a_first_run_that_hangs_fails_the_configuration_with_one_line(tmp_path: Path) -> None:
    with own_domain() as domain:
        arguments = tiny_node(tmp_path, trap="loops on black", engine_timeout=0.5)
        with Process(NODE, *arguments, domain=domain) as node:
            line = node.wait_for_line("ERROR")
            assert "sub/model.onnx did not answer within 0.5 s" in line
            code, seconds = node.stop()
            assert (code, len(node.output.splitlines())) == (0, 1)
            assert seconds < SOON


def test_transitions_during_a_hang_and_a_reload(tmp_path: Path) -> None:
    """Each is done at once, whatever the models do, and afterwards the node works as ever."""
    with running(tmp_path, trap="sticks on white", engine_timeout=2.0) as rig:
        for moment, transitions in (
            ("hang", (DEACTIVATE, ACTIVATE)),
            ("reload", (DEACTIVATE, ACTIVATE, DEACTIVATE)),
            ("reload", (DEACTIVATE, CLEANUP)),
        ):
            lead(rig, ACTIVE)
            served(rig)
            reloads = rig.node.output.count("loading the models anew (")
            send(rig, WHITE)
            if moment == "reload":
                eventually(lambda n=reloads: rig.node.output.count("loading the models anew (") > n, "a reload")  # type: ignore[misc]
            else:
                time.sleep(0.3)
            for transition in transitions:
                start = time.monotonic()
                assert change(rig, transition)
                assert time.monotonic() - start < SOON
        lead(rig, ACTIVE)
        served(rig)
        assert "Traceback" not in rig.node.output
        assert "[ERROR]" not in rig.node.output


def lead(rig: Rig, wanted: int) -> None:
    """Lead the node to a state by the shortest way."""
    ways = {UNCONFIGURED: (CONFIGURE, ACTIVATE), INACTIVE: (ACTIVATE,), ACTIVE: ()}
    assert wanted == ACTIVE
    for transition in ways[state(rig)]:
        assert change(rig, transition)


def test_transitions_in_every_order_while_frames_come(tmp_path: Path) -> None:
    """Those the state allows are done, the others refused, and whenever it is active frames are answered."""
    choose = random.Random(1)
    with running(tmp_path) as rig, streaming(rig):
        now = ACTIVE
        for _ in range(60):
            # Those that lead on are likelier, lest it stay where it is.
            allowed = [transition for (origin, transition) in LEADS if origin == now]
            transition = choose.choice([CONFIGURE, CLEANUP, ACTIVATE, DEACTIVATE, *allowed * 4])
            after = LEADS.get((now, transition))
            assert change(rig, transition) == (after is not None)
            now = after or now
            assert state(rig) == now
            if now == ACTIVE and choose.random() < 0.5:
                since = len(rig.labels.items())
                rig.labels.wait_for(since + 2)
        assert rig.node.stop()[0] == 0
        assert "Traceback" not in rig.node.output


@contextmanager
def streaming(rig: Rig) -> Iterator[None]:
    """Send a frame every 10 ms, whatever becomes of it."""
    timer = rig.peer.node.create_timer(0.01, lambda: send(rig, GREY))
    try:
        yield
    finally:
        rig.peer.node.destroy_timer(timer)


def packed(size: tuple[int, int]) -> CompressedImage:
    data = cv2.imencode(".png", np.full((*size, 3), GREY, np.uint8))[1].tobytes()
    return CompressedImage(format="rgb8; png compressed bgr8", data=data)


def test_a_frame_too_large_for_the_memory_fails_and_the_others_are_served(tmp_path: Path) -> None:
    """Wherever memory ends: when it is decoded, with the models or when labels are made."""
    with running(tmp_path, cameras="[camera, large]", **{"large.image_transport": "compressed"}) as rig:
        served(rig)
        rig.peer.subscribe(Image, "/classaug_node/large/label", publishers=1)
        publisher = rig.peer.publisher(CompressedImage, "/large/image_raw/compressed")
        large = packed((5000, 5000))
        used = int(Path(f"/proc/{rig.node.pid}/statm").read_text().split()[0]) * resource.getpagesize()
        for room in (30, 120):
            resource.prlimit(rig.node.pid, resource.RLIMIT_AS, (used + room * 2**20, resource.RLIM_INFINITY))
            publisher.publish(large)
            time.sleep(0.7)
            served(rig)
        rig.node.wait_for_line("camera large: frame failed: out of memory")
        assert rig.node.stop()[0] == 0


def test_every_frame_is_wholly_of_old_or_new_rules_and_bad_files_change_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as rig, streaming(rig):
        file, world = tmp_path / "rules.yaml", tmp_path / "world"
        main, sub = load_model(world / "main"), load_model(world / "sub")
        both = [random_rules(main, sub, world / "task.yaml", seed) for seed in (0, 5)]
        frame = Frame(np.full((*SIZE, 3), GREY, np.uint8), "rgb")
        with Pipeline(main, sub) as pipeline:
            whole = [pipeline.augment(frame, RuleSet([rules])).label.tobytes() for rules in both]
        assert whole[0] != whole[1]
        for number in range(4):
            both[number % 2].save(file)
            assert reload_rules(rig).success
            since = len(rig.labels.items())
            assert rig.labels.wait_for(since + 3)[-1].data.tobytes() == whole[number % 2]
            text = file.read_text()
            for spoiled in (text[: len(text) // 2], "", "x: [", text.replace(main.fingerprint, "f" * 64)):
                file.write_text(spoiled)
                response = reload_rules(rig)
                assert not response.success
                assert response.message.startswith("the old rules stay in use: ")
            file.unlink()
            assert "the old rules stay in use: " in reload_rules(rig).message
        assert {label.data.tobytes() for label in rig.labels.items()} <= set(whole)
        counts = rig.told().counts
        assert (counts["failed"], counts["refused"]) == (0, 0)
        assert "Traceback" not in rig.node.output


def reload_rules(rig: Rig) -> Trigger.Response:
    return rig.peer.call(Trigger, "/classaug_node/reload_rules", Trigger.Request())


def test_rounds_of_all_transitions_leave_nothing_behind(tmp_path: Path) -> None:
    with running(tmp_path) as rig:
        used = []
        for count in (5, 10, 10):
            for _ in range(count):
                served(rig)
                for transition in (DEACTIVATE, CLEANUP, CONFIGURE, ACTIVATE):
                    assert change(rig, transition)
            used.append(footprint(rig.node.pid))
        first, warm, last = used
        assert last.memory - warm.memory < 3 * 2**20
        assert (last.handles, last.threads) == (first.handles, first.threads)


MOMENTS: dict[str, dict[str, Any]] = {
    "work": {},
    "heeding hang": {"trap": "loops on white"},
    "unheeding hang": {"trap": "sticks on white"},
    "reload": {"trap": "sticks on white", "engine_timeout": 2.0},
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_ends_it_at_any_moment(tmp_path: Path, moment: str) -> None:
    number = signal.SIGTERM if moment == "unheeding hang" else signal.SIGINT
    with running(tmp_path, **MOMENTS[moment]) as rig:
        served(rig)
        if moment == "work":
            with streaming(rig):
                ended(rig.node, number)
                return
        send(rig, WHITE)
        if moment == "reload":
            rig.node.wait_for_line("loading the models anew")
        else:
            time.sleep(0.3)
        ended(rig.node, number)
        assert moment != "heeding hang" or "left without waiting" not in rig.node.output


@pytest.mark.parametrize("seconds", [0.0, 0.3, 0.6])
def test_a_signal_ends_it_while_it_starts(tmp_path: Path, seconds: float) -> None:
    number = signal.SIGTERM if seconds in {0.0, 0.6} else signal.SIGINT
    with own_domain() as domain, Process(NODE, *tiny_node(tmp_path), domain=domain) as node:
        eventually(lambda: caught(node) & 1 << (signal.SIGTERM - 1) != 0, "signals to be taken")
        time.sleep(seconds)
        ended(node, number)


def caught(node: Process) -> int:
    """Return the signals that a process catches, as bits."""
    status = Path(f"/proc/{node.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)


def ended(node: Process, number: signal.Signals) -> None:
    code, seconds = node.stop(number)
    assert (code, "Traceback" in node.output) == (0, False)
    assert seconds < SOON
