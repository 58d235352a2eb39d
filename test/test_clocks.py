"""Time that goes wrong while the node runs: stamps, the system's clock, simulated time, silence."""

from __future__ import annotations

import math
import mmap
import re
import shutil
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from builtin_interfaces.msg import Time
from rosgraph_msgs.msg import Clock
from support.programs import PROJECT
from support.ros import Process, eventually
from support.tinynode import CameraStatus, Rig, at, running

from classaug_ros.data.bags import make_bag

pytestmark = pytest.mark.ros

OK, WARN = 0, 1
MINUTE, HOUR = 60, 3600


def latency(status: CameraStatus, percent: int = 99) -> float:
    """Return the latency from the stamp in s."""
    return float(status.values[f"latency from stamp p{percent} (ms)"]) / 1e3


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with running(tmp_path_factory.mktemp("rig"), stale_after=0.5) as made:
        yield made


def test_a_frame_without_a_stamp_has_no_latency(rig: Rig) -> None:
    rig.exchange(Time())
    assert math.isnan(latency(rig.told()))
    assert "stamps are" not in rig.node.output


def test_stamps_that_go_back_are_served(rig: Rig) -> None:
    now = time.time()
    for number in range(5):
        rig.exchange(at(now - number / 10))
    assert 0 < latency(rig.told(), 50) < MINUTE


def test_a_stamp_hours_ahead_is_told_and_no_latency(rig: Rig) -> None:
    rig.exchange(at(time.time() + 3 * HOUR))
    rig.node.wait_for_line(r"camera camera: stamps are 10[78]\d\d s ahead of the node's clock, no latency is told")
    rig.exchange(at(time.time()))
    assert 0 < latency(rig.told(), 50) < MINUTE


@pytest.mark.parametrize("stamp", [Time(sec=-(2**31)), Time(sec=5, nanosec=2**32 - 1)], ids=["negative", "2**32 ns"])
def test_stamps_that_are_no_time_are_served(rig: Rig, stamp: Time) -> None:
    rig.exchange(stamp)
    status = rig.told()
    assert status.counts["failed"] == 0
    assert not latency(status) > MINUTE


def test_frames_after_a_silence_end_the_warning(rig: Rig) -> None:
    rig.exchange(at(time.time()))
    eventually(lambda: rig.told().level == WARN, "the warning")
    assert re.fullmatch(r"no frame for \d+\.\d s", rig.told().message)
    with rig.streaming():
        eventually(lambda: rig.told().level == OK, "its end")


@pytest.fixture(scope="module")
def stepped_clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library to preload, by which the wall clock that a process sees can be stepped."""
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler is here")
    library = tmp_path_factory.mktemp("clock") / "steppedclock.so"
    source = PROJECT / "test/support/steppedclock.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.mark.parametrize("step", [2 * HOUR, -HOUR], ids=["ahead", "back"])
def test_the_system_clock_steps_while_frames_come(
    tmp_path: Path, stepped_clock: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    file = tmp_path / "step"
    file.write_bytes(bytes(8))
    monkeypatch.setenv("CLOCK_STEP", str(file))
    monkeypatch.setenv("LD_PRELOAD", str(stepped_clock))
    with (
        running(tmp_path, stale_after=60.0) as rig,
        file.open("r+b") as opened,
        mmap.mmap(opened.fileno(), 8) as shared,
    ):
        rig.exchange(at(time.time()))
        shared[:] = struct.pack("q", step)
        before = len(rig.labels.items())

        def answered() -> bool:
            rig.publish(at(time.time() + step))
            time.sleep(0.05)
            return len(rig.labels.items()) >= before + 20

        eventually(answered, "20 labels")
        status = rig.told()
        assert rig.diagnostics.items()[-1].header.stamp.sec == pytest.approx(time.time() + step, abs=MINUTE)
        # Some are lost on the way here where the clock goes back.
        assert status.level == OK or "lost on the way" in status.message
        assert (status.counts["refused"], status.counts["failed"]) == (0, 0)
        assert 0 < latency(status, 50) < MINUTE
        assert 0 < float(status.values["latency from arrival p99 (ms)"]) < 1000 * MINUTE


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with running(tmp_path_factory.mktemp("simulated"), use_sim_time=True) as made:
        yield made


def test_without_a_clock_frames_are_served_and_their_stamps_told(simulated: Rig) -> None:
    simulated.exchange(at(1000))
    simulated.node.wait_for_line("stamps are 1000 s ahead of the node's clock, no latency is told")


@pytest.mark.parametrize("times", [(1000,), (1001, 10)], ids=["paused", "goes back"])
def test_simulated_time_that_stands_still_or_goes_back_stops_nothing(simulated: Rig, times: tuple[int, ...]) -> None:
    clock = simulated.peer.publisher(Clock, "/clock")
    for now in times:
        clock.publish(Clock(clock=at(now)))
        with simulated.streaming(stamp=at(now - 0.25)):
            simulated.labels.wait_for(len(simulated.labels.items()) + 5)
            status = simulated.told()  # more than a second, while the clock stands still
        assert (status.counts["refused"], status.counts["failed"]) == (0, 0)
        assert 0 < float(status.values["latency from arrival p99 (ms)"]) < 1000 * MINUTE
    simulated.peer.node.destroy_publisher(clock)


def test_a_bag_looped_with_its_clock_is_served_in_every_round(tmp_path: Path, simulated: Rig) -> None:
    (tmp_path / "images").mkdir()
    for number in range(5):
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), np.full((24, 32, 3), 40 * number, np.uint8))
    make_bag(tmp_path / "images", tmp_path / "bag", topic="/camera/image_raw", rate=10)
    before = len(simulated.labels.items())
    play = ["play", str(tmp_path / "bag"), "--loop", "--clock"]

    def rounds() -> int:
        """Return how often the stamp that was labelled least often was labelled."""
        labels = simulated.labels.items()[before:]
        times = Counter((label.header.stamp.sec, label.header.stamp.nanosec) for label in labels)
        return min(times.values()) if len(times) == 5 else 0

    # In more rounds than two where the machine is so busy that frames are dropped.
    with Process("classaug_ros.cli", *play, domain=simulated.node.domain):
        eventually(lambda: rounds() >= 2, "every frame twice")
