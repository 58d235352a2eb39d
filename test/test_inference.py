"""Models run on a frame: given up when they are late, loaded again, and never heard of any more."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from support.programs import PATIENCE
from support.tinymodels import MAIN_CLASSES, SOON, SUB_CLASSES, Trap, tiny_model

from classaug_ros.engines.daemon_executor import DaemonExecutor
from classaug_ros.errors import EngineError
from classaug_ros.imaging.images import Frame
from classaug_ros.models.card import Model
from classaug_ros.pipeline.cpu import Pipeline

SIZE = (12, 10)
HANGS: tuple[Trap, ...] = ("loops on white", "sticks on white")


def models(folder: Path, trap: Trap) -> tuple[Model, Model]:
    return (
        tiny_model(folder / "main", MAIN_CLASSES, SIZE, seed=1),
        tiny_model(folder / "sub", SUB_CLASSES, SIZE, trap=trap, seed=2),
    )


def plain(value: int) -> Frame:
    return Frame(np.full((*SIZE, 3), value, np.uint8), "rgb")


@pytest.mark.parametrize("concurrent", [True, False], ids=["concurrent", "serial"])
@pytest.mark.parametrize("trap", HANGS)
def test_models_that_hang_are_given_up_in_time_and_loaded_again(tmp_path: Path, trap: Trap, concurrent: bool) -> None:
    with Pipeline(*models(tmp_path, trap), concurrent=concurrent, timeout=0.2) as pipeline:
        before = pipeline.predict(plain(7))
        for turn in (1, 2):
            start = time.monotonic()
            with pytest.raises(EngineError, match=r"sub/model\.onnx did not answer within 0\.2 s"):
                pipeline.predict(plain(255))
            assert time.monotonic() - start < SOON
            assert pipeline.inference.given_up == turn
            start = time.monotonic()
            with pytest.raises(EngineError, match="did not answer"):
                pipeline.predict(plain(7))
            assert time.monotonic() - start < SOON  # at once, also where a thread is stuck
            start = time.monotonic()
            pipeline.inference.reload()
            np.testing.assert_array_equal(pipeline.predict(plain(7)), before)
            assert time.monotonic() - start < SOON  # the one that is stuck goes on for longer
    with pytest.raises(RuntimeError, match="closed"):
        pipeline.predict(plain(7))


def test_models_given_up_by_another_thread_are_waited_for_no_longer(tmp_path: Path) -> None:
    with Pipeline(*models(tmp_path, "sticks on white"), timeout=2 * SOON) as pipeline:
        threading.Timer(0.2, pipeline.inference.give_up, ["enough"]).start()
        start = time.monotonic()
        with pytest.raises(EngineError, match="enough"):
            pipeline.predict(plain(255))
        assert time.monotonic() - start < SOON


@pytest.mark.parametrize("concurrent", [True, False], ids=["concurrent", "serial"])
def test_what_a_model_s_thread_does_besides_is_not_its_doing(tmp_path: Path, concurrent: bool) -> None:
    with Pipeline(*models(tmp_path, "loops on white"), concurrent=concurrent, timeout=0.2) as pipeline:
        expected = pipeline.predict(plain(7))
        pipeline.spare.submit(time.sleep, 0.5)
        np.testing.assert_array_equal(pipeline.predict(plain(7)), expected)
        assert pipeline.inference.given_up == 0


def test_leaving_by_an_error_does_not_wait_for_a_model_that_hangs(tmp_path: Path) -> None:
    def leave() -> None:
        with Pipeline(*models(tmp_path, "sticks on white")) as pipeline:
            pipeline.spare.submit(pipeline.runners[1].infer, pipeline.prepare(plain(255)).images[1])
            raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        leave()
    assert time.monotonic() - start < SOON


def test_a_model_that_hangs_when_it_is_measured_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("classaug_ros.engines.model_runner.ModelRunner.seconds", lambda _: time.sleep(2))
    with pytest.raises(EngineError, match=r"main/model\.onnx did not answer within 0\.4 s"):  # two runs
        Pipeline(*models(tmp_path, "loops on white"), threads=4, timeout=0.2)


def test_closing_while_models_are_loaded_again_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline(*models(tmp_path, "loops on white"))
    pipeline.inference.give_up("enough")
    runners, going, go = pipeline.runners, threading.Event(), threading.Event()

    def slowly(threads: int) -> None:
        going.set()
        assert go.wait(PATIENCE)
        type(runners[0]).reload(runners[0], threads)

    monkeypatch.setattr(runners[0], "reload", slowly)
    raised: list[Exception] = []

    def reload() -> None:
        try:
            pipeline.inference.reload()
        except RuntimeError as error:
            raised.append(error)

    thread = threading.Thread(target=reload)
    thread.start()
    assert going.wait(PATIENCE)
    pipeline.close()
    go.set()
    thread.join(PATIENCE)
    assert [str(error) for error in raised] == ["the pipeline is closed"]
    assert not hasattr(runners[0]._engine._engine, "_session")


def test_an_executor_works_in_order_and_forgets_what_was_given_up() -> None:
    executor, go, done = DaemonExecutor("executor"), threading.Event(), list[int]()
    first = executor.submit(go.wait, PATIENCE)
    given_up = executor.submit(done.append, 1)
    last = executor.submit(done.append, 2)
    for future in (first, given_up):
        future.set_exception(EngineError("given up"))
    go.set()
    executor.shutdown()
    assert isinstance(first.exception(), EngineError)
    assert last.result() is None
    assert done == [2]
    with pytest.raises(RuntimeError, match="closed"):
        executor.submit(go.wait)
