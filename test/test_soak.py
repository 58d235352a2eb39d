"""A short form of the soak; the long one is `make soak`."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy")

from soak import WARM, Summary, soak
from support.ros import own_domain
from support.tinymodels import write_world

from classaug_ros.benchmark.cameras import Load
from classaug_ros.running.nodeprocess import Footprint

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    world = write_world(tmp_path_factory.mktemp("world"), images=1, size=(24, 32))
    with own_domain() as domain, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(domain))
        return soak(1.5 * WARM, Load(6, 60), (world.main, world.sub), world.task)


@pytest.mark.slow
def test_every_frame_is_answered_or_counted(summary: Summary) -> None:
    assert [fault for fault in summary.judge() if "grew" not in fault] == []
    assert min(summary.counts["refused"], summary.labels) > 0
    assert min(summary.reloads, summary.refusals, summary.subscribers) > 0


@pytest.mark.slow
def test_memory_files_and_threads_stay_as_they_are(summary: Summary) -> None:
    assert [fault for fault in summary.judge() if "grew" in fault] == []


@pytest.mark.parametrize(
    ("what", "leak", "seconds"),
    [("memory", 180 * 10_000, 30), ("memory", 180 * 100, 1800), ("handles", 1, 30), ("threads", 1, 30)],
)
def test_a_leak_is_told(what: str, leak: int, seconds: int) -> None:
    """One of 10 KB a frame, of 100 bytes in half an hour, or of a file or a thread a second."""
    samples = []
    for second in range(seconds):
        held = {"memory": 300_000_000, "handles": 30, "threads": 30}
        held[what] += leak * second
        samples.append((float(second), 180 * second, Footprint(**held)))
    counts = dict.fromkeys(("in", "out"), 100) | dict.fromkeys(("dropped", "failed", "waiting", "lost"), 0)
    (fault,) = Summary(100, 100, counts, samples).judge()
    assert fault.startswith(f"{what} grew from ")


@pytest.mark.parametrize(
    ("counts", "fault"),
    [
        ({"in": 90, "out": 80, "dropped": 10}, "100 frames sent, but 90 received and 0 lost on the way"),
        ({"in": 100, "out": 80, "dropped": 10}, "100 frames received, but 90 accounted for"),
        ({"in": 100, "out": 79, "dropped": 21}, "79 labels published, but 80 came"),
        ({"in": 100, "out": 90, "dropped": 10}, "90 labels published, but 80 came"),
        ({"in": 100, "out": 80, "dropped": 18, "failed": 1, "waiting": 1}, "1 frames failed, 1 still wait"),
    ],
    ids=["received", "accounted", "too many", "too few", "failed"],
)
def test_frames_that_are_not_accounted_for_are_told(counts: dict[str, int], fault: str) -> None:
    none = dict.fromkeys(("failed", "waiting", "lost"), 0)
    held = Footprint(0, 0, 0)
    assert Summary(100, 80, none | counts, [(20.0, 100, held)]).judge() == [fault]
