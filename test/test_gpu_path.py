"""Frames through the GPU path on torch's CPU, kernels in Triton's interpreter, against the path on the CPU."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="needs the extra `gpu`")
pytest.importorskip("triton", reason="needs the extra `gpu`")

from support.programs import PATIENCE
from support.tinymodels import World
from support.tinyprograms import models_of, rules_of, write_programs
from support.working import listener, settled, started

from classaug_ros.errors import ConfigError, EngineError, OutputError
from classaug_ros.imaging.images import Frame
from classaug_ros.pipeline.cpu import Augmented, Pipeline
from classaug_ros.pipeline.frame_path import CpuPath, FramePath, FusionConfig, RequestedOutputs
from classaug_ros.pipeline.gpu import GpuPath, StagedFrames
from classaug_ros.pipeline.gpu_decider import GpuDecider
from classaug_ros.pipeline.gpu_frame_slots import Program
from classaug_ros.pipeline.gpu_options import GpuOptions
from classaug_ros.rules.decision import Decision

SIZE = (12, 10)
ALL = RequestedOutputs(label=True, overlay=True, color=True, confidence=True)
LABEL = RequestedOutputs(label=True, overlay=False, color=False, confidence=False)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_programs(tmp_path_factory.mktemp("world") / "world", SIZE, batch=True)


@pytest.fixture(scope="module")
def path(world: World) -> Iterator[GpuPath]:
    with closing(gpu_path(world)) as made:
        yield made


@pytest.fixture(scope="module")
def reference(world: World) -> Iterator[CpuPath]:
    with closing(CpuPath(Pipeline(*models_of(world)))) as made:
        yield made


def gpu_path(world: World, **options: Any) -> GpuPath:
    return GpuPath(models_of(world), "cpu", GpuOptions(**options), print)


def frame(seed: int, size: tuple[int, int] = SIZE) -> Frame:
    return Frame(np.random.default_rng(seed).integers(1, 255, (*size, 3), np.uint8), "bgr" if seed % 2 else "rgb")


def config(world: World, kind: Any = "table", seed: int = 0, **decision: Any) -> FusionConfig:
    return FusionConfig(rules_of(world, kind, seed), Decision(**decision), 0.4)


def through(
    path: FramePath, frames: Sequence[Frame], on: FusionConfig, wanted: RequestedOutputs = ALL
) -> list[Augmented]:
    """Take frames through; the arrays are kept."""
    results = path.fuse(path.infer(path.prepare(frames), on, wanted, lambda: None))
    for result in results:
        if isinstance(result, OutputError):
            raise result
    return [Augmented(*(None if part is None else part.copy() for part in parts(each))) for each in results]  # type: ignore[arg-type]


def parts(result: Augmented) -> tuple[NDArray[Any] | None, ...]:
    return result.label, result.confidence, result.color, result.overlay


def assert_same(one: Augmented | OutputError, other: Augmented) -> None:
    assert isinstance(one, Augmented)
    for name, mine, theirs in zip(("label", "confidence", "color", "overlay"), parts(one), parts(other), strict=True):
        assert (mine is None) == (theirs is None), name
        if mine is not None and theirs is not None:
            # The posterior's exp may round another way.
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=name == "confidence", err_msg=name)


@pytest.mark.parametrize("kind", ["table", "probability"])
@pytest.mark.parametrize("decision", [{}, {"min_confidence": 0.4}, {"prefer": "main"}], ids=["plain", "sure", "main"])
def test_results_are_the_cpu_s(
    path: GpuPath, reference: CpuPath, world: World, kind: str, decision: dict[str, Any]
) -> None:
    on = config(world, kind, **decision)
    path.check(on.rules, on.decision)
    for seed in range(2):
        (mine,), (theirs,) = through(path, [frame(seed)], on), through(reference, [frame(seed)], on)
        assert_same(mine, theirs)
        assert mine.label.any()


def test_several_frames_are_on_their_way_at_once(path: GpuPath, reference: CpuPath, world: World) -> None:
    """What one is waited for with is not touched by the two after it."""
    on = config(world)
    launched = []
    for seed in range(7):
        launched.append(path.infer(path.prepare([frame(seed)]), on, ALL, lambda: None))
        if seed >= 2:
            (mine,) = path.fuse(launched[seed - 2])
            assert_same(mine, *through(reference, [frame(seed - 2)], on))


def test_frames_of_a_batch_come_back_in_order_whatever_their_sizes(world: World, reference: CpuPath) -> None:
    on = config(world, "probability")
    frames = [frame(0), frame(2), frame(4, (5, 7)), frame(1), frame(6, (5, 7))]
    with closing(gpu_path(world, batch=5)) as batched:
        assert batched.batch == 5
        for _ in range(2):
            for each, mine in zip(frames, through(batched, frames, on), strict=True):
                assert mine.label.shape == each.size
                if each.size == SIZE:  # others are resized, which OpenCV rounds
                    assert_same(mine, *through(reference, [each], on))


def test_terms_wishes_and_sizes_may_change_with_every_frame(path: GpuPath, reference: CpuPath, world: World) -> None:
    several = [config(world), config(world, "probability"), config(world, seed=1)]
    for number in range(9):
        on, wanted = several[number % 3], LABEL if number % 2 else ALL
        size = SIZE if number % 4 else (6, 5)
        (mine,) = through(path, [frame(number, size)], on, wanted)
        assert (mine.overlay is None) == (wanted == LABEL)
        if size == SIZE:
            assert_same(mine, *through(reference, [frame(number)], on, wanted))


def test_a_slot_keeps_the_last_sizes_only(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("classaug_ros.pipeline.gpu_frame_slots.KEPT", 2)
    with closing(gpu_path(world, frames_in_flight=1)) as path:
        on = config(world)
        for side in range(4, 10):
            through(path, [frame(0, (side, 5))], on, LABEL)
        (slot,) = path._turns[0].values()
        assert [height for height, _, _ in slot._buffers] == [6, 8]


def test_padded_rows_and_encodings_are_read_as_they_come(path: GpuPath, reference: CpuPath, world: World) -> None:
    padded = np.random.default_rng(0).integers(1, 255, (SIZE[0], SIZE[1] + 3, 3), np.uint8)[:, : SIZE[1]]
    on = config(world)
    for order in ("rgb", "bgr"):
        each = Frame(padded, order)
        assert_same(*through(path, [each], on), *through(reference, [each], on))


def test_room_is_made_once_for_every_frame_and_also_when_the_models_fail(world: World) -> None:
    with closing(gpu_path(world)) as path:
        rooms: list[int] = []
        on = config(world)
        path.infer(path.prepare([frame(0)]), on, LABEL, lambda: rooms.append(0))
        path.give_up("enough")
        with pytest.raises(EngineError, match="enough"):
            path.infer(path.prepare([frame(1)]), on, LABEL, lambda: rooms.append(1))
        assert rooms == [0, 1]


def test_models_given_up_run_again_once_they_are_loaded_anew(world: World, reference: CpuPath) -> None:
    with closing(gpu_path(world)) as path:
        on = config(world)
        launched = path.infer(path.prepare([frame(0)]), on, ALL, lambda: None)
        path.fuse(launched)
        path.give_up("enough")
        path.give_up("more than that")
        assert (path.broken, path.given_up, path.busy) == ("enough", 1, False)
        early = path.prepare([frame(1)])
        left = weakref.ref(launched.programs[0][0])
        del launched
        path.reload()
        assert path.broken == ""
        assert left() is None
        (late,) = path.fuse(path.infer(early, on, ALL, lambda: None))
        assert_same(late, *through(reference, [frame(1)], on))


def test_scores_that_are_no_numbers_are_told_with_their_model(path: GpuPath, world: World) -> None:
    black = Frame(np.zeros((*SIZE, 3), np.uint8), "rgb")
    with pytest.raises(OutputError, match=r"main.*has NaN or infinity in it"):
        through(path, [black], config(world))
    assert path.broken == ""
    through(path, [frame(1)], config(world))


def test_of_a_batch_only_the_frame_with_scores_that_are_no_numbers_is_lost(world: World, reference: CpuPath) -> None:
    on = config(world)
    black = Frame(np.zeros((*SIZE, 3), np.uint8), "rgb")
    with closing(gpu_path(world, batch=4)) as path:
        for _ in range(2):
            launched = path.infer(path.prepare([frame(0), black, frame(2)]), on, ALL, lambda: None)
            first, second, third = path.fuse(launched)
            assert isinstance(second, OutputError)
            for seed, mine in ((0, first), (2, third)):
                assert_same(mine, *through(reference, [frame(seed)], on))


def failing(error: Exception) -> Callable[[Program], None]:
    """What a program's wait is replaced by: an error of a device cannot be had here."""

    def wait(_: Program) -> None:
        raise error

    return wait


def test_after_an_error_of_the_device_nothing_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(gpu_path(world)) as path:
        error = RuntimeError("CUDA error: an illegal memory access\nCUDA kernel errors might be reported later")
        monkeypatch.setattr(Program, "wait", failing(error))
        on = config(world)
        with pytest.raises(EngineError, match=r"^the GPU failed: CUDA error: an illegal memory access$"):
            through(path, [frame(0)], on)
        with pytest.raises(EngineError, match="the GPU failed"):
            through(path, [frame(1)], on)
        monkeypatch.undo()
        with pytest.raises(EngineError, match="CUDA does no more in this process, start the node again"):
            path.reload()


def test_an_error_that_is_not_the_device_s_costs_its_frame(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(gpu_path(world)) as path:
        monkeypatch.setattr(Program, "wait", failing(RuntimeError("Failed to find C compiler.")))
        with pytest.raises(EngineError, match=r"^Failed to find C compiler\.$"):
            through(path, [frame(0)], config(world))
        monkeypatch.undo()
        through(path, [frame(0)], config(world))
        assert path.broken == ""


def test_a_path_left_while_it_makes_a_program_is_busy_and_stays_whole(
    world: World, reference: CpuPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiling takes seconds; a node that is deactivated meanwhile is not kept waiting, nor do two make programs."""
    released = threading.Event()
    on, made = config(world), GpuDecider.__init__

    def compiling(*arguments: Any, **options: Any) -> None:
        released.wait(PATIENCE)
        made(*arguments, **options)

    with closing(gpu_path(world)) as path, ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(GpuDecider, "__init__", compiling)
        prepared = path.prepare([frame(0)])
        inferring = pool.submit(path.infer, prepared, on, ALL, lambda: None)
        while not path.busy:
            time.sleep(0.001)
        path.give_up("deactivated")
        with pytest.raises(EngineError, match="deactivated"):
            inferring.result(PATIENCE)
        released.set()
        path.reload()
        assert_same(*through(path, [frame(1)], on), *through(reference, [frame(1)], on))


def test_a_device_that_does_not_answer_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    with closing(gpu_path(world, timeout=0.2, frames_in_flight=1)) as path:
        on = config(world)
        through(path, [frame(0)], on)
        monkeypatch.setattr(Program, "wait", lambda _: released.wait(PATIENCE))
        with pytest.raises(EngineError, match=r"^the GPU did not answer within 0\.2 s$"):
            through(path, [frame(1)], on)
        assert path.broken
        with pytest.raises(EngineError, match="start the node again"):
            path.reload()
        released.set()


def test_the_worker_runs_cameras_that_wait_at_once_as_one_batch(
    world: World, reference: CpuPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    cameras = ("front", "left", "right")
    on, batches = config(world), list[int]()
    with closing(gpu_path(world, batch=3)) as path:
        prepare = path.prepare

        def preparing(frames: Sequence[Frame]) -> StagedFrames:
            batches.append(len(frames))
            return prepare(frames)

        monkeypatch.setattr(path, "prepare", preparing)
        with started(path, on, cameras) as worker:
            for number in range(12):
                worker.intake(cameras[number % 3]).receive(np.asarray(frame(number).rgb()))
            for name in cameras:
                counts = settled(worker, name)
                assert (counts.failed, counts.published + counts.dropped) == (0, 4)
            worker.intake("left").receive(np.zeros((*SIZE, 3), np.uint8))
            assert settled(worker, "left").failed == 1
        assert max(batches) > 1
        for name in cameras:
            message, result = listener(worker, name).results[-1]
            assert_same(result, *through(reference, [Frame(message, "rgb")], on))


def test_labels_follow_contours_as_on_the_cpu(path: GpuPath, reference: CpuPath, world: World) -> None:
    on = config(world, "probability", contours=True)
    path.check(on.rules, on.decision)
    for seed in range(3):
        assert_same(*through(path, [frame(seed)], on), *through(reference, [frame(seed)], on))
    with pytest.raises(ConfigError, match="contours need rules of kind probability"):
        path.check(config(world, "table").rules, on.decision)


def test_rules_of_other_models_are_refused(path: GpuPath, world: World, tmp_path: Path) -> None:
    other = rules_of(write_programs(tmp_path / "other", (6, 5)), "table")
    with pytest.raises(ConfigError, match="learned with another main model"):
        path.check(other, Decision())


def test_it_is_told_what_runs_and_how(path: GpuPath) -> None:
    import torch

    runs = f"PyTorch {torch.__version__} on the CPU, interpreted"
    assert path.engines == f"{runs}, all at once, a CUDA graph a frame, 2 in flight"


def test_a_missing_gpu_is_told_in_one_line(world: World) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(EngineError, match=r"^[^\n]*device cuda[^\n]*CUDA[^\n]*device cpu$"):
        GpuPath(models_of(world), "cuda", GpuOptions(), print)
