"""The worker: every frame answered in order, the steps of frames that follow each other at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import programs
from support.tinymodels import MAIN_CLASSES, SOON, SUB_CLASSES, Trap, World, random_rules, tiny_model
from support.working import listener, settled, started, until
from test_pipeline import SIZE

from classaug_ros.imaging.images import Frame
from classaug_ros.models.card import load_model
from classaug_ros.node.cameras import Counts
from classaug_ros.node.framelog import LOG_PERIOD, ThrottledLog
from classaug_ros.node.watchdog import IN_A_ROW
from classaug_ros.node.worker import PATIENCE, Worker
from classaug_ros.pipeline.cpu import Augmented, Inferred, Pipeline, Prepared
from classaug_ros.pipeline.frame_path import CpuPath, FusionConfig
from classaug_ros.rules import Kind, RuleSet
from classaug_ros.rules.decision import Decision


def config_for(pipeline: Pipeline, task: Path, kind: Kind = "table") -> FusionConfig:
    return FusionConfig(RuleSet([random_rules(pipeline.main, pipeline.subs[0], task, kind=kind)]), Decision(), 0.5)


@contextmanager
def working(
    world: World, *cameras: str, log: Callable[[str], None] = print, kind: Kind = "table"
) -> Iterator[tuple[Worker, Pipeline, FusionConfig]]:
    with Pipeline(load_model(world.main), load_model(world.sub)) as pipeline:
        config = config_for(pipeline, world.task, kind)
        outcome(pipeline, pixels(0), config)  # compiles, on a machine where nothing has; frames would wait for that
        with started(CpuPath(pipeline), config, cameras, log) as worker:
            yield worker, pipeline, config


def pixels(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(1, 255, (*SIZE, 3), np.uint8)


def test_results_are_the_pipelines_and_come_in_order(world: World) -> None:
    cameras = ("front", "left", "rear")
    messages = {camera: [pixels(100 * k + n) for n in range(30)] for k, camera in enumerate(cameras)}
    with working(world, *cameras) as (worker, pipeline, config):
        for n in range(30):
            for camera in cameras:
                worker.intake(camera).receive(messages[camera][n])
            time.sleep(0.001)
        counts = {camera: settled(worker, camera) for camera in cameras}
        results = {camera: listener(worker, camera).results for camera in cameras}
    with Pipeline(*pipeline.models) as alone:
        for camera in cameras:
            assert counts[camera] == Counts(30, len(results[camera]), 30 - len(results[camera]))
            order = [index_of(message, messages[camera]) for message, _ in results[camera]]
            assert order == sorted(set(order))
            assert order[-1] == 29
            for message, augmented in results[camera]:
                assert whole(augmented) == outcome(alone, message, config)


def index_of(message: Any, messages: list[NDArray[np.uint8]]) -> int:
    return next(number for number, each in enumerate(messages) if each is message)


def test_the_next_frame_is_decoded_and_run_while_one_is_published(world: World) -> None:
    """Publishing the first waits for the second to be decoded: were it later, neither could go on."""
    decoded, first = threading.Semaphore(0), threading.Event()
    met: list[bool] = []

    def decoding() -> None:
        first.set()
        decoded.release()

    with working(world, "front") as (worker, _, _):
        camera = listener(worker, "front")
        camera.decoding = decoding
        camera.publishing = lambda: met.append(all(decoded.acquire(timeout=programs.PATIENCE) for _ in range(2)))
        intake = worker.intake("front")
        intake.receive(pixels(1))
        assert first.wait(programs.PATIENCE)  # else the second would take its place
        intake.receive(pixels(2))
        until(lambda: bool(met))
        decoded.release(2)
        assert settled(worker, "front").published == 2
    assert met[0]


def test_three_frames_are_worked_on_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is being published and the second is with the models when the third is decoded."""
    together = threading.Barrier(3, timeout=programs.PATIENCE)
    met: list[int] = []

    def meet() -> None:
        with suppress(threading.BrokenBarrierError):
            met.append(together.wait())

    with working(world, "front") as (worker, pipeline, _):
        camera, intake, infer = listener(worker, "front"), worker.intake("front"), pipeline.infer
        numbers = iter(range(100))

        def inferring(prepared: Prepared, on_free: Callable[[], None]) -> Inferred:
            on_free()
            if next(numbers) == 1:
                meet()
            return infer(prepared)

        monkeypatch.setattr(pipeline, "infer", inferring)
        camera.publishing = lambda: None if camera.results else meet()
        decoded = iter(range(100))
        camera.decoding = lambda: meet() if next(decoded) == 2 else None
        for number in range(3):
            intake.receive(pixels(number))
            until(lambda: worker.frames.counts("front").dropped > 0 or worker.frames._slots["front"].arrival is None)
        assert settled(worker, "front").published == 3
    assert sorted(met) == [0, 1, 2]


def test_frames_that_cannot_be_used_or_that_nobody_wants_hold_nothing_up(world: World) -> None:
    lines: list[str] = []
    with working(world, "front", log=lines.append) as (worker, _, _):
        intake, camera = worker.intake("front"), listener(worker, "front")
        for number in range(9):
            camera.listening = number % 3 != 2
            intake.receive(pixels(number) if number % 3 else "nothing")
            counts = settled(worker, "front")
        assert counts == Counts(received=9, published=3, refused=3, skipped=3)
        steps = worker.recent["front"].summary(time.monotonic()).steps
    assert set(steps) == {"transport in", "wait", "prepare", "engines", "fusion", "publish"}
    assert lines == ["camera front: frame refused: message is 'nothing'"]


def test_a_model_that_fails_holds_nothing_up(tmp_path: Path, world: World) -> None:
    lines: list[str] = []
    main = tiny_model(tmp_path / "main", MAIN_CLASSES, SIZE, seed=1)
    sub = tiny_model(tmp_path / "sub", SUB_CLASSES, SIZE, trap="fails on white", seed=2)
    with (
        Pipeline(main, sub) as pipeline,
        started(CpuPath(pipeline), config_for(pipeline, world.task), ["front"], lines.append) as worker,
    ):
        for number in range(6):
            worker.intake("front").receive(np.full((*SIZE, 3), 255, np.uint8) if number % 2 else pixels(number))
            counts = settled(worker, "front")
    assert counts == Counts(received=6, published=3, failed=3)
    assert "sub/model.onnx" in lines[0]


def test_confidence_is_worked_out_for_those_who_ask_for_it(world: World) -> None:
    with working(world, "front") as (worker, _, _):
        camera = listener(worker, "front")
        for camera.asking in (False, True):
            worker.intake("front").receive(pixels(1))
            settled(worker, "front")
        assert [augmented.confidence is None for _, augmented in camera.results] == [True, False]


def test_terms_replaced_while_frames_come_hold_for_whole_frames(world: World) -> None:
    """Rules of another kind, with what the old ones could not do: a frame of both would fail."""
    with working(world, "front", kind="probability") as (worker, pipeline, probable):
        followed = replace(probable, decision=Decision(contours=True, min_confidence=0.5), alpha=0.25)
        tabled = config_for(pipeline, world.task)
        frame, intake = pixels(3), worker.intake("front")
        possible = {outcome(pipeline, frame, each) for each in (tabled, followed)}
        assert len(possible) == 2
        for number in range(150):
            worker.config = (tabled, followed)[number % 2]
            intake.receive(frame)
            time.sleep(0.001)
        counts = settled(worker, "front")
        results = listener(worker, "front").results
        assert counts.failed == 0
        assert counts.published == len(results) > 20
        assert {whole(augmented) for _, augmented in results} == possible


def outcome(pipeline: Pipeline, frame: NDArray[np.uint8], config: FusionConfig) -> tuple[bytes, ...]:
    wanted: dict[str, Any] = {"confidence": True, "color": True, "overlay": True, "alpha": config.alpha}
    return whole(pipeline.augment(Frame(frame, "rgb"), config.rules, config.decision, **wanted))


def whole(augmented: Augmented) -> tuple[bytes, ...]:
    return tuple(getattr(augmented, output).tobytes() for output in ("label", "overlay", "color", "confidence"))


def test_stopping_finishes_what_is_being_worked_on(world: World) -> None:
    with working(world, "front") as (worker, _, _):
        listener(worker, "front").publishing = lambda: time.sleep(0.05)
        for number in range(20):
            worker.intake("front").receive(pixels(number))
            time.sleep(0.003)
        worker.stop()
        counts = worker.frames.counts("front")
        assert counts.waiting == 0
        assert counts.published == len(listener(worker, "front").results) >= 1


def test_a_period_has_one_line_and_the_next_one_tells_of_the_others() -> None:
    lines: list[str] = []
    log = ThrottledLog("front", lines.append)
    for number in range(3):
        log.add(10 + number, f"frame refused: {number}")
    log.add(10 + LOG_PERIOD, "frame refused: late")
    log.add(10 + 2 * LOG_PERIOD, "frame refused: last")
    assert lines == [
        "camera front: frame refused: 0",
        "camera front: frame refused: late (2 more since the last line)",
        "camera front: frame refused: last",
    ]


WHITE = np.full((*SIZE, 3), 255, np.uint8)


@contextmanager
def trapped(
    folder: Path, world: World, trap: Trap, timeout: float = 0.3, reloads: int = 3
) -> Iterator[tuple[Worker, list[str], threading.Event]]:
    """A worker whose sub model is caught by white images; the lines it logs, and whether it has ended."""
    main = tiny_model(folder / "main", MAIN_CLASSES, SIZE, seed=1)
    sub = tiny_model(folder / "sub", SUB_CLASSES, SIZE, trap=trap, seed=2)
    lines: list[str] = []
    ended = threading.Event()
    with Pipeline(main, sub, timeout=timeout) as pipeline:
        config = config_for(pipeline, world.task)
        outcome(pipeline, pixels(0), config)
        with started(CpuPath(pipeline), config, ["front", "rear"], lines.append, reloads, ended.set) as worker:
            yield worker, lines, ended


HANGS: tuple[Trap, ...] = ("loops on white", "sticks on white")


@pytest.mark.parametrize("trap", HANGS)
def test_models_that_hang_are_loaded_anew_and_the_newest_frames_are_served(
    tmp_path: Path, world: World, trap: Trap
) -> None:
    with trapped(tmp_path, world, trap) as (worker, lines, ended):
        front, rear = worker.intake("front"), worker.intake("rear")
        front.receive(WHITE)
        sent = 0
        while worker.watchdog.count == 0 and sent < 1000:
            rear.receive(pixels(sent))
            sent += 1
            time.sleep(0.005)
            counts = worker.frames.counts("rear")
            assert counts.received == sent == counts.dropped + counts.waiting + counts.published
        last = pixels(sent)
        rear.receive(last)
        assert settled(worker, "front") == Counts(received=1, failed=1)
        counts = settled(worker, "rear")
        assert listener(worker, "rear").results[-1][0] is last
        assert counts == Counts(sent + 1, published=counts.published, dropped=sent + 1 - counts.published)
        assert 1 <= counts.published <= 4
        assert "sub/model.onnx did not answer within 0.3 s" in lines[0]
        assert lines[1].startswith("loading the models anew (1 of 3): ")
        assert worker.watchdog.trouble.startswith("the models were loaded anew: ")
        for number in range(IN_A_ROW):
            front.receive(pixels(number))
            settled(worker, "front")
        assert worker.watchdog.trouble == ""
        assert not ended.is_set()


def test_models_that_hang_again_and_again_end_the_work(tmp_path: Path, world: World) -> None:
    with trapped(tmp_path, world, "loops on white", reloads=2) as (worker, _, ended):
        intake = worker.intake("front")
        for number in range(3):
            intake.receive(pixels(number))
            settled(worker, "front")
            intake.receive(WHITE)
            settled(worker, "front")
        assert ended.wait(programs.PATIENCE)
        assert worker.watchdog.count == 2
        assert "the models do not work, though loaded anew 2 times: " in worker.watchdog.ended
        intake.receive(pixels(9))
        assert worker.frames.counts("front") == Counts(received=7, published=3, failed=3, dropped=1)


def test_models_that_fail_frame_after_frame_are_loaded_anew(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classaug_ros.node.watchdog.LASTING", 0.0)
    with trapped(tmp_path, world, "fails on white") as (worker, lines, _):
        for number in range(2 * IN_A_ROW):
            camera = ("front", "rear")[number % 2]
            worker.intake(camera).receive(pixels(0) if number == IN_A_ROW - 1 else WHITE)
            settled(worker, camera)
        until(lambda: worker.watchdog.count > 0)
        assert sum("loading the models anew" in line for line in lines) == 1
        worker.intake("front").receive(pixels(1))
        assert settled(worker, "front").published == 1


@pytest.mark.parametrize("trap", HANGS)
def test_stopping_does_not_wait_for_models_that_hang_and_they_are_loaded_anew_the_next_time(
    tmp_path: Path, world: World, trap: Trap
) -> None:
    with trapped(tmp_path, world, trap, timeout=2 * SOON) as (worker, lines, _):
        worker.intake("front").receive(WHITE)
        time.sleep(0.1)
        before = time.monotonic()
        worker.stop()
        assert time.monotonic() - before < SOON
        assert worker.frames.counts("front") == Counts(received=1, failed=1)
        assert "the node stopped before the models answered" in lines[0]
        with started(worker._path, worker.config, ["front"], lines.append, reloads=0) as again:
            again.intake("front").receive(pixels(1))
            until(lambda: again.frames.counts("front").published == 1)
        assert again.frames.counts("front").published == 1
        assert not listener(worker, "front").results


def test_scores_that_are_no_numbers_fail_their_frames_and_no_more(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lens cap, or a tunnel: loaded anew, the models would say the same."""
    monkeypatch.setattr("classaug_ros.node.watchdog.LASTING", 0.0)
    with trapped(tmp_path, world, "nan on black") as (worker, lines, _):
        for _ in range(2 * IN_A_ROW):
            worker.intake("front").receive(np.zeros_like(WHITE))
            settled(worker, "front")
        worker.intake("front").receive(WHITE)
        assert settled(worker, "front") == Counts(received=2 * IN_A_ROW + 1, published=1, failed=2 * IN_A_ROW)
        assert "has NaN or infinity in it" in lines[0]
        assert (worker.watchdog.count, worker.watchdog.trouble) == (0, "")


def test_publishing_that_takes_long_is_no_fault_of_the_models(tmp_path: Path, world: World) -> None:
    with trapped(tmp_path, world, "loops on white") as (worker, _, _):
        listener(worker, "front").publishing = lambda: time.sleep(PATIENCE + 0.8)
        worker.intake("front").receive(pixels(0))
        time.sleep(0.2)
        worker.stop()
        assert worker._path.broken == ""


def test_a_frame_still_decoded_when_work_stops_comes_near_the_models_no_more(world: World) -> None:
    with working(world, "front") as (worker, pipeline, config):
        decoded = threading.Event()
        listener(worker, "front").decoding = lambda: decoded.wait(programs.PATIENCE)
        worker.intake("front").receive(pixels(66))
        time.sleep(0.1)
        worker.stop()
        prepared = pipeline.prepare(Frame(pixels(2), "rgb"))
        decoded.set()
        for thread in worker._threads:
            thread.join(programs.PATIENCE)
        label = pipeline.fuse(pipeline.infer(prepared), config.rules).label
        np.testing.assert_array_equal(label, pipeline.augment(Frame(pixels(2), "rgb"), config.rules).label)
        assert worker.frames.counts("front") == Counts(received=1, dropped=1)
