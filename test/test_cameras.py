from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classaug_ros.node.cameras import Arrival, Counts, NewestFrames, Outcome

CAMERAS = ("front", "left", "right")


def taken(frames: NewestFrames) -> Arrival:
    arrival = frames.take()
    assert arrival is not None
    return arrival


def test_the_newest_frame_wins_and_the_older_one_is_counted() -> None:
    frames = NewestFrames(["front"])
    for message in range(3):
        frames.put("front", message)
    assert taken(frames).message == 2
    assert frames.counts("front") == Counts(received=3, dropped=2, waiting=1)
    frames.finish("front", Outcome.PUBLISHED)
    assert frames.counts("front") == Counts(received=3, dropped=2, published=1)


def test_a_busy_camera_does_not_keep_others_waiting() -> None:
    frames = NewestFrames(CAMERAS)
    order = []
    for turn in range(6):
        for camera in CAMERAS if turn == 0 else ("front",):
            frames.put(camera, turn)
        arrival = taken(frames)
        frames.finish(arrival.camera, Outcome.PUBLISHED)
        order.append(arrival.camera)
        if arrival.camera != "front":
            frames.put(arrival.camera, turn)
    assert order == ["front", "left", "right"] * 2


def test_turns_alternate_between_cameras_that_always_have_a_frame() -> None:
    frames = NewestFrames(CAMERAS)
    order = []
    for turn in range(30):
        for camera in CAMERAS:
            frames.put(camera, turn)
        arrival = taken(frames)
        frames.finish(arrival.camera, Outcome.PUBLISHED)
        order.append(arrival.camera)
    assert order == list(CAMERAS) * 10


@given(st.lists(st.one_of(st.sampled_from(CAMERAS), st.sampled_from(Outcome), st.just("take")), max_size=60))
def test_every_frame_is_accounted_for(steps: list[object]) -> None:
    frames = NewestFrames(CAMERAS)
    sent = dict.fromkeys(CAMERAS, 0)
    working: list[str] = []
    for step in steps:
        if isinstance(step, Outcome):
            if working:
                frames.finish(working.pop(), step)
        elif step == "take":
            if any(frames.counts(camera).waiting > working.count(camera) for camera in CAMERAS):
                working.append(taken(frames).camera)
        else:
            sent[str(step)] += 1
            frames.put(str(step), object())
        for camera in CAMERAS:
            counts = frames.counts(camera)
            others = (counts.published, counts.dropped, counts.refused, counts.skipped, counts.failed, counts.waiting)
            assert counts.received == sum(others) == sent[camera]


def test_closing_drops_what_waits_and_ends_the_taker() -> None:
    frames = NewestFrames(CAMERAS)
    ends: list[Arrival | None] = []
    taker = threading.Thread(target=lambda: ends.append(frames.take()))
    taker.start()
    time.sleep(0.05)
    frames.close()
    taker.join(5)
    assert ends == [None]
    frames.put("front", "late")
    assert frames.counts("front") == Counts(received=1, dropped=1)
    assert frames.take() is None


def test_a_waiting_frame_is_dropped_by_closing() -> None:
    frames = NewestFrames(["front"])
    frames.put("front", "waiting")
    frames.close()
    assert frames.counts("front") == Counts(received=1, dropped=1)


@pytest.mark.parametrize("outcome", Outcome)
def test_each_outcome_has_its_count(outcome: Outcome) -> None:
    frames = NewestFrames(["front"])
    frames.put("front", None)
    frames.finish(taken(frames).camera, outcome)
    field = {"out": "published"}.get(outcome.value, outcome.value)
    assert frames.counts("front") == Counts(**{"received": 1, field: 1})


def test_frames_come_through_under_load_in_order() -> None:
    """A receiving and a working thread at full speed: none lost, none twice, the last one arrives."""
    frames = NewestFrames(["front"])
    seen: list[int] = []

    def work() -> None:
        while (arrival := frames.take()) is not None:
            seen.append(arrival.message)
            frames.finish("front", Outcome.PUBLISHED)

    worker = threading.Thread(target=work)
    worker.start()
    for number in range(20_000):
        frames.put("front", number)
    while frames.counts("front").waiting:
        time.sleep(0.001)
    frames.close()
    worker.join()
    counts = frames.counts("front")
    assert seen == sorted(set(seen))
    assert seen[-1] == 19_999
    assert (counts.published, counts.received) == (len(seen), 20_000)
    assert counts.dropped == 20_000 - len(seen)
