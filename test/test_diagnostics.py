from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classaug_ros.node.cameras import Counts, Outcome
from classaug_ros.node.diagnostics import WINDOW, Finished, Level, Recent, camera_status, percentiles

STALE = 2.0
LATE = 20.0


def published(time: float, since_stamp: float = 0.2, since_arrival: float = 0.1) -> Finished:
    return Finished(time, Outcome.PUBLISHED, since_stamp, since_arrival)


def refused(time: float, cause: str = "step 3") -> Finished:
    return Finished(time, Outcome.REFUSED, cause=cause)


@given(st.lists(st.floats(-10, 1e6), min_size=1, max_size=50))
def test_percentiles_are_numpys(samples: list[float]) -> None:
    assert percentiles(samples) == pytest.approx(np.percentile(samples, [50, 95, 99]))


def test_percentiles_leave_out_nan() -> None:
    assert percentiles([math.nan, 3.0, math.nan]) == (3.0, 3.0, 3.0)
    assert all(math.isnan(value) for value in percentiles([math.nan]))


def test_rates_and_latencies_are_those_of_the_window() -> None:
    recent = Recent(0.0)
    for tenth in range(400):
        recent.arrived(tenth / 10)
        if tenth % 2:
            # Old frames were slow: none of them may show.
            recent.finished(published(tenth / 10, 9.0 if tenth < 250 else 0.2, 8.0 if tenth < 250 else 0.1))
    summary = recent.summary(39.9)
    assert summary.rate_in == pytest.approx(10, rel=0.02)
    assert summary.rate_out == pytest.approx(5, rel=0.02)
    assert summary.since_stamp == (0.2, 0.2, 0.2)
    assert summary.since_arrival == (0.1, 0.1, 0.1)
    later = recent.summary(39.9 + WINDOW)
    assert (later.rate_in, later.published) == (0, 0)
    assert later.silent == pytest.approx(WINDOW)


def test_rates_are_right_from_the_beginning() -> None:
    recent = Recent(100.0)
    for tenth in range(20):
        recent.arrived(100 + tenth / 10)
    assert recent.summary(102.0).rate_in == pytest.approx(10)


def judged(recent: Recent, now: float, received: int = 1, *, read: bool = True) -> tuple[Level, str]:
    status = camera_status(Counts(received=received), recent.summary(now), STALE, LATE, read=read)
    return status.level, status.message


def test_a_camera_that_publishes_is_well() -> None:
    recent = Recent(0.0)
    recent.arrived(1.0)
    recent.finished(published(1.1))
    assert judged(recent, 2.0) == (Level.OK, "0.5 Hz in, 0.5 Hz out")


@pytest.mark.parametrize(("received", "message"), [(0, "no frame yet, for 3.0 s"), (5, "no frame for 3.0 s")])
def test_silence_warns(received: int, message: str) -> None:
    assert judged(Recent(0.0), 3.0, received) == (Level.WARN, message)
    assert judged(Recent(0.0), 1.9, received)[0] == Level.OK


def test_some_refused_frames_warn_with_the_newest_cause() -> None:
    recent = Recent(0.0)
    recent.arrived(1.0)
    for frame in (refused(1.0, "old"), refused(1.2, "new"), published(1.3)):
        recent.finished(frame)
    assert judged(recent, 1.4) == (Level.WARN, "2 frames refused in the last 10 s: new")


def test_nothing_but_refused_frames_is_an_error_until_they_are_past() -> None:
    recent = Recent(0.0)
    recent.arrived(1.0)
    recent.finished(refused(1.0))
    assert judged(recent, 1.4) == (Level.ERROR, "every frame in the last 10 s was refused: step 3")
    recent.arrived(12.0)
    assert judged(recent, 12.0)[0] == Level.OK


def test_a_failed_frame_is_an_error_even_among_good_ones() -> None:
    recent = Recent(0.0)
    recent.arrived(1.0)
    recent.finished(published(1.0))
    recent.finished(Finished(1.1, Outcome.FAILED, cause="out of memory"))
    assert judged(recent, 1.4) == (Level.ERROR, "1 frames failed in the last 10 s: out of memory")


def test_work_that_comes_to_no_end_is_an_error_until_a_frame_is_done() -> None:
    recent = Recent(0.0)
    recent.taken(1.0)
    recent.taken(2.0)
    recent.finished(published(3.0))
    recent.arrived(22.0)
    assert judged(recent, 22.9)[0] == Level.OK
    recent.arrived(23.0)
    assert judged(recent, 23.5) == (Level.ERROR, "frames are worked on, but none was done for 20 s")
    recent.finished(published(23.6))
    assert judged(recent, 24.0)[0] == Level.OK
    recent.arrived(99.0)
    assert judged(recent, 99.5)[0] == Level.OK  # nothing is worked on


def test_images_lost_on_the_way_warn_and_are_counted() -> None:
    recent = Recent(0.0)
    recent.lost(0.5, 2)
    recent.lost(12.0, 3)
    recent.arrived(12.0)
    level, message = judged(recent, 12.5)
    assert level == Level.WARN
    assert "3 images lost on the way" in message
    assert camera_status(Counts(), recent.summary(30.0), STALE, LATE, read=True).values["lost on the way"] == "5"


def test_a_camera_that_is_not_read_is_well_and_its_silence_does_not_count() -> None:
    recent = Recent(0.0)
    recent.arrived(1.0)
    level, message = judged(recent, 5.0, read=False)
    assert level == Level.OK
    assert message == "not read: nobody subscribes to this camera's label, overlay, label_color or confidence"
    recent.began(6.0)
    assert judged(recent, 7.0)[0] == Level.OK
    assert judged(recent, 9.0) == (Level.WARN, "no frame for 3.0 s")


def test_rates_count_from_when_the_camera_was_begun_to_be_read() -> None:
    recent = Recent(0.0)
    recent.arrived(99.0)
    recent.finished(published(99.1))
    recent.began(100.0)
    for number in range(60):
        recent.arrived(100 + number / 30)
        recent.finished(published(100.01 + number / 30))
    summary = recent.summary(102.0)
    assert summary.rate_in == summary.rate_out == pytest.approx(30)


def test_trouble_of_a_camera_that_is_no_longer_read_is_still_told() -> None:
    recent = Recent(0.0)
    recent.finished(refused(1.0))
    assert judged(recent, 2.0, read=False)[0] == Level.ERROR


def test_each_step_has_its_percentiles() -> None:
    recent = Recent(0.0)
    for hundredth in range(1, 101):
        steps = {"engines": hundredth / 1000, "publish": 0.002}
        recent.finished(Finished(1.0, Outcome.PUBLISHED, 0.1, 0.1, steps=steps))
    recent.finished(Finished(1.1, Outcome.REFUSED, cause="step 3"))
    values = camera_status(Counts(), recent.summary(1.2), STALE, LATE, read=True).values
    assert values["engines p50 / p95 / p99 (ms)"] == "50.5 / 95.0 / 99.0"
    assert values["publish p50 / p95 / p99 (ms)"] == "2.0 / 2.0 / 2.0"


def test_values_tell_all_counts_rates_and_latencies() -> None:
    recent = Recent(0.0)
    recent.arrived(1.0)
    recent.finished(published(1.0, math.nan, 0.1234))
    counts = Counts(received=21, published=6, dropped=5, refused=4, skipped=3, failed=2, waiting=1)
    values = camera_status(counts, recent.summary(1.0), STALE, LATE, read=True).values
    frames = {key: value for key, value in values.items() if key.startswith("frames ")}
    assert list(frames.values()) == ["21", "6", "5", "4", "3", "2", "1"]
    assert values["latency from stamp p50 (ms)"] == "nan"
    assert values["latency from arrival p99 (ms)"] == "123.4"
