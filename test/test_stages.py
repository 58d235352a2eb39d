"""Stages: one frame each, none overtaking another, whatever happens to it."""

from __future__ import annotations

import random
import threading
import time

import pytest
from support.programs import PATIENCE

from classaug_ros.node.stages import Laps, Passage, Stage, Stages

STAGES: tuple[Stage, ...] = ("prepare", "infer", "finish")


def test_no_frame_overtakes_another_and_no_stage_has_two() -> None:
    stages, waiting = Stages(), iter(range(60))
    inside: dict[str, int] = dict.fromkeys(STAGES, 0)
    seen: dict[str, list[int]] = {stage: [] for stage in STAGES}
    problems: list[str] = []

    def be_in(stage: str, frame: int) -> None:
        inside[stage] += 1
        if inside[stage] > 1:
            problems.append(f"{inside[stage]} frames in {stage}")
        seen[stage].append(frame)
        time.sleep(random.Random(f"{stage} {frame}").random() / 500)
        inside[stage] -= 1

    def work() -> None:
        while True:
            with stages.passage() as passage:
                passage.enter("prepare")
                frame = next(waiting, None)
                if frame is None:
                    return
                be_in("prepare", frame)
                passage.enter("infer")
                if frame % 3:
                    passage.leave("prepare")
                be_in("infer", frame)
                if frame % 5 == 0:
                    continue  # failed in the models
                passage.enter("finish")
                passage.leave("infer")
                be_in("finish", frame)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert problems == []
    assert seen["prepare"] == seen["infer"] == list(range(60))
    assert seen["finish"] == [frame for frame in range(60) if frame % 5]


def test_a_frame_that_fails_leaves_every_stage() -> None:
    stages = Stages()

    def fail(passage: Passage) -> None:
        for stage in STAGES:
            passage.enter(stage)
        raise RuntimeError

    for _ in range(2):
        with pytest.raises(RuntimeError), stages.passage() as passage:
            fail(passage)
    with stages.passage() as passage:
        passage.enter("finish")


def test_leaving_twice_makes_room_for_one() -> None:
    stages = Stages()
    entered = threading.Event()

    def third() -> None:
        with stages.passage() as passage:
            passage.enter("prepare")
            entered.set()

    with stages.passage() as first, stages.passage() as second:
        first.enter("prepare")
        first.leave("prepare")
        second.enter("prepare")
        first.leave("prepare")
        thread = threading.Thread(target=third)
        thread.start()
        assert not entered.wait(0.1)
        second.leave("prepare")
        assert entered.wait(PATIENCE)
        thread.join()


def test_laps_add_up_to_the_whole() -> None:
    start = time.monotonic()
    laps = Laps(start - 1)
    for step in ("wait", "prepare", "wait"):
        time.sleep(0.01)
        laps.lap(step)
    assert laps.seconds["wait"] > 1.02
    assert laps.seconds["prepare"] > 0.01
    assert sum(laps.seconds.values()) == pytest.approx(laps.time - start + 1)
