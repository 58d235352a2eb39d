from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.programs import PATIENCE

from classaug_ros.node.cameras import Arrival, Counts, NewestFrames, Outcome, Turns

CAMERAS = ("front", "left", "right")


def taken(frames: NewestFrames) -> Arrival:
    (arrival,) = frames.take()
    assert arrival is not None
    return arrival


def test_the_newest_frame_wins_and_the_older_one_is_counted() -> None:
    frames = NewestFrames({"front": Turns()})
    for message in range(3):
        frames.put("front", message)
    assert taken(frames).message == 2
    assert frames.counts("front") == Counts(received=3, dropped=2, waiting=1)
    frames.finish("front", Outcome.PUBLISHED)
    assert frames.counts("front") == Counts(received=3, dropped=2, published=1)


def test_a_busy_camera_does_not_keep_others_waiting() -> None:
    frames = NewestFrames(dict.fromkeys(CAMERAS, Turns()))
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
    frames = NewestFrames(dict.fromkeys(CAMERAS, Turns()))
    order = []
    for turn in range(30):
        for camera in CAMERAS:
            frames.put(camera, turn)
        arrival = taken(frames)
        frames.finish(arrival.camera, Outcome.PUBLISHED)
        order.append(arrival.camera)
    assert order == list(CAMERAS) * 10


@pytest.mark.parametrize("priorities", [(2, 1, 1), (1, 3, 2), (5, 1, 100)], ids=str)
def test_turns_follow_the_priorities_when_all_cameras_always_have_a_frame(priorities: tuple[int, ...]) -> None:
    frames = NewestFrames({camera: Turns(priority) for camera, priority in zip(CAMERAS, priorities, strict=True)})
    had = dict.fromkeys(CAMERAS, 0)
    rounds = 7
    for turn in range(rounds * sum(priorities)):
        for camera in CAMERAS:
            frames.put(camera, turn)
        had[taken(frames).camera] += 1
    for camera, priority in zip(CAMERAS, priorities, strict=True):
        assert abs(had[camera] - rounds * priority) <= 1


def test_a_camera_that_was_silent_has_saved_up_no_turns() -> None:
    frames = NewestFrames(dict.fromkeys(CAMERAS, Turns()))
    for turn in range(100):
        frames.put("front", turn)
        taken(frames)
    order = []
    for turn in range(8):
        for camera in ("front", "left"):
            frames.put(camera, turn)
        order.append(taken(frames).camera)
    assert sorted(order[:2]) == sorted(order[2:4]) == sorted(order[4:6]) == ["front", "left"]


def test_a_camera_held_back_by_its_rate_gives_no_other_one_an_advantage() -> None:
    """While the slow one waits for its time others have many turns; who joins after it must not start from before."""
    frames = NewestFrames({"slow": Turns(max_rate=5.0), "busy": Turns(), "late": Turns()})
    for _ in range(2):
        frames.put("slow", None)
        for turn in range(50):
            frames.put("busy", turn)
            taken(frames)
    time.sleep(0.25)
    assert taken(frames).camera == "slow"
    order = []
    for turn in range(10):
        for camera in ("busy", "late"):
            frames.put(camera, turn)
        order.append(taken(frames).camera)
    assert order.count("late") == order.count("busy") == 5


def test_max_rate_holds_on_average_and_the_newest_frame_is_taken() -> None:
    """For half a second a frame every 2 ms, at 40 Hz at most."""
    frames = NewestFrames({"front": Turns(max_rate=40.0), "left": Turns()})
    seen: list[tuple[float, int]] = []

    def work() -> None:
        while frames_taken := frames.take():
            (arrival,) = frames_taken
            seen.append((time.monotonic(), arrival.message))
            frames.finish(arrival.camera, Outcome.PUBLISHED)

    worker = threading.Thread(target=work)
    worker.start()
    start, newest = time.monotonic(), 0
    while time.monotonic() - start < 0.5:
        frames.put("front", newest := newest + 1)
        time.sleep(0.002)
    spent = time.monotonic() - start
    frames.close()
    worker.join()
    assert 0.5 * 40 * spent < len(seen) <= 40 * spent + 2
    assert [message for _, message in seen] == sorted({message for _, message in seen})
    counts = frames.counts("front")
    assert counts.received == newest == counts.published + counts.dropped


def test_a_frame_held_back_by_its_rate_keeps_no_other_camera_waiting() -> None:
    frames = NewestFrames({"front": Turns(max_rate=0.01), "left": Turns()})
    for camera in ("front", "left", "front", "left"):
        frames.put(camera, None)
    assert [taken(frames).camera for _ in range(2)] == ["front", "left"]
    frames.put("front", None)
    frames.put("left", None)
    assert taken(frames).camera == "left"


@given(st.lists(st.one_of(st.sampled_from(CAMERAS), st.sampled_from(Outcome), st.just("take")), max_size=60))
def test_every_frame_is_accounted_for(steps: list[object]) -> None:
    frames = NewestFrames(dict.fromkeys(CAMERAS, Turns()))
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
    frames = NewestFrames(dict.fromkeys(CAMERAS, Turns()))
    ends: list[list[Arrival]] = []
    taker = threading.Thread(target=lambda: ends.append(frames.take()))
    taker.start()
    time.sleep(0.05)
    frames.close()
    taker.join(PATIENCE)
    assert ends == [[]]
    frames.put("front", "late")
    assert frames.counts("front") == Counts(received=1, dropped=1)
    assert frames.take() == []


def test_a_waiting_frame_is_dropped_by_closing() -> None:
    frames = NewestFrames({"front": Turns()})
    frames.put("front", "waiting")
    frames.close()
    assert frames.counts("front") == Counts(received=1, dropped=1)


@pytest.mark.parametrize("outcome", Outcome)
def test_each_outcome_has_its_count(outcome: Outcome) -> None:
    frames = NewestFrames({"front": Turns()})
    frames.put("front", None)
    frames.finish(taken(frames).camera, outcome)
    field = {"out": "published"}.get(outcome.value, outcome.value)
    assert frames.counts("front") == Counts(**{"received": 1, field: 1})


def test_frames_come_through_under_load_in_order() -> None:
    """A receiving and a working thread at full speed: none lost, none twice, the last one arrives."""
    frames = NewestFrames({"front": Turns()})
    seen: list[int] = []

    def work() -> None:
        while frames_taken := frames.take():
            (arrival,) = frames_taken
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
