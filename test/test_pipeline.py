"""The pipeline: frames to labels with two or three real models, whatever happens to one of them."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from operator import truediv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.programs import PATIENCE
from support.tinymodels import (
    MAIN_CLASSES,
    SUB_CLASSES,
    World,
    random_rules,
    tiny_model,
    write_classes,
    write_model,
)

from classaug_ros.engines.model_runner import ModelRunner, divide
from classaug_ros.errors import ConfigError, EngineError
from classaug_ros.fusion import reference
from classaug_ros.imaging.images import Frame
from classaug_ros.models.card import Model, load_model
from classaug_ros.pipeline.cpu import Pipeline, Prepared
from classaug_ros.rules import RuleSet

SIZE = (12, 10)


def noise(size: tuple[int, int] = SIZE, seed: int = 5) -> Frame:
    return Frame(np.random.default_rng(seed).integers(1, 255, (*size, 3), np.uint8), "rgb")


def plain(value: int) -> Frame:
    return Frame(np.full((*SIZE, 3), value, np.uint8), "rgb")


def rules_for(*models: Model, task: Path, seed: int = 0) -> RuleSet:
    main, *subs = models
    return RuleSet([random_rules(main, sub, task, seed) for sub in subs])


@pytest.fixture
def models(world: World) -> tuple[Model, Model]:
    return load_model(world.main), load_model(world.sub)


@pytest.fixture
def three(world: World, models: tuple[Model, Model]) -> tuple[Model, Model, Model]:
    """With a second sub model of the same classes."""
    return *models, tiny_model(world.folder / "second", SUB_CLASSES, SIZE, seed=7)


@pytest.mark.parametrize("concurrent", [True, False], ids=["concurrent", "serial"])
def test_labels_are_the_models_greatest_scores(world: World, models: tuple[Model, Model], concurrent: bool) -> None:
    with Pipeline(*models, concurrent=concurrent) as pipeline:
        for image in world.images.values():
            for frame in (Frame(image, "rgb"), Frame(image[:, :, ::-1], "bgr")):
                main, sub = pipeline.predict(frame)
                np.testing.assert_array_equal(main, world.main_weights.scores(image).argmax(axis=0))
                np.testing.assert_array_equal(sub, world.sub_weights.scores(image).argmax(axis=0))
                assert main.dtype == sub.dtype == np.uint8


@pytest.mark.parametrize("concurrent", [True, False], ids=["concurrent", "serial"])
def test_each_of_several_sub_models_has_labels_of_its_own(three: tuple[Model, Model, Model], concurrent: bool) -> None:
    frame = noise()
    with Pipeline(*three, concurrent=concurrent) as pipeline:
        assert (pipeline.main, pipeline.subs, pipeline.models) == (three[0], three[1:], three)
        main, *subs = pipeline.predict(frame)
    assert len(subs) == 2
    for sub, labels in zip(three[1:], subs, strict=True):
        with Pipeline(three[0], sub) as pipeline:
            for expected, got in zip(pipeline.predict(frame), (main, labels), strict=True):
                np.testing.assert_array_equal(got, expected)
    assert (subs[0] != subs[1]).any()


@pytest.mark.parametrize("kind", ["logits", "probabilities", "labels"])
def test_serial_and_concurrent_agree_whatever_the_sizes(tmp_path: Path, kind: str) -> None:
    main = tiny_model(tmp_path / "main", MAIN_CLASSES, (24, 20), stride=4, upsample="align_corners", seed=1)
    sub = tiny_model(tmp_path / "sub", SUB_CLASSES, (9, 30), stride=2, kind=kind, upsample="asymmetric", seed=2)
    with Pipeline(main, sub) as one, Pipeline(main, sub, concurrent=False, threads=1) as other:
        for size, wanted in (((37, 41), None), ((5, 3), None), ((64, 48), (31, 7)), ((64, 48), (100, 200))):
            both = one.predict(noise(size), wanted), other.predict(noise(size), wanted)
            for labels in zip(*both, strict=True):
                assert labels[0].shape == (wanted or size)
                np.testing.assert_array_equal(*labels)
            assert len(np.unique(both[0][1])) > 1


def threads_of(pipeline: Pipeline) -> tuple[int, ...]:
    """Return the threads ONNX Runtime really has for each model."""
    sessions: list[Any] = [runner._engine._engine._session for runner in pipeline.runners]  # type: ignore[attr-defined]
    return tuple(session.get_session_options().intra_op_num_threads for session in sessions)


@pytest.mark.parametrize(
    ("threads", "concurrent", "shares"), [(1, True, (1, 1)), (2, True, (1, 1)), (1, False, (1, 1)), (3, False, (3, 3))]
)
def test_threads_are_divided_between_the_models(
    models: tuple[Model, Model], threads: int, concurrent: bool, shares: tuple[int, int]
) -> None:
    with Pipeline(*models, threads=threads, concurrent=concurrent) as pipeline:
        assert pipeline.threads == shares == threads_of(pipeline)


@pytest.mark.parametrize(("threads", "concurrent", "shares"), [(2, True, (1, 1, 1)), (2, False, (2, 2, 2))])
def test_few_threads_serve_several_models(
    three: tuple[Model, Model, Model], threads: int, concurrent: bool, shares: tuple[int, ...]
) -> None:
    with Pipeline(*three, threads=threads, concurrent=concurrent) as pipeline:
        assert pipeline.threads == shares == threads_of(pipeline)


@pytest.mark.parametrize("costlier", ["main", "sub"])
def test_the_costlier_model_has_more_of_the_threads(
    models: tuple[Model, Model], monkeypatch: pytest.MonkeyPatch, costlier: str
) -> None:
    """Twice as costly: of six threads it has four."""
    slow = models[0 if costlier == "main" else 1].card.name
    monkeypatch.setattr(ModelRunner, "seconds", lambda self: 2.0 if self._card.name == slow else 1.0)
    with Pipeline(*models, threads=6) as pipeline:
        assert pipeline.threads == ((4, 2) if costlier == "main" else (2, 4)) == threads_of(pipeline)
        pipeline.predict(noise())


@pytest.mark.parametrize(
    ("threads", "costs", "shares"),
    [
        (2, (9, 1), (1, 1)),
        (3, (2, 1), (2, 1)),
        (4, (1, 1), (2, 2)),
        (8, (3, 1), (6, 2)),
        (16, (1, 30), (1, 15)),
        (5, (1, 1), (3, 2)),
        (1, (1, 2), (1, 1)),
        (2, (1, 1, 9), (1, 1, 1)),
        (8, (1, 2, 5), (1, 2, 5)),
        (6, (2, 2, 2), (2, 2, 2)),
    ],
)
def test_threads_follow_the_costs(threads: int, costs: tuple[float, ...], shares: tuple[int, ...]) -> None:
    assert divide(threads, costs) == shares


@given(threads=st.integers(1, 12), costs=st.lists(st.integers(1, 50), min_size=1, max_size=4))
def test_no_other_division_of_the_threads_lets_the_last_model_end_sooner(threads: int, costs: list[int]) -> None:
    shares = divide(threads, costs)
    assert sum(shares) == max(threads, len(costs))
    every = itertools.product(range(1, threads + 1), repeat=len(costs))
    best = min(
        (max(map(truediv, costs, other)) for other in every if sum(other) == sum(shares)),
        default=max(costs),
    )
    assert max(map(truediv, costs, shares)) == best


def test_without_threads_every_core_is_used(models: tuple[Model, Model], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(6)))
    with Pipeline(*models) as pipeline:
        assert sum(pipeline.threads) == 6


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("overlay", [False, True])
def test_augment_is_look_up_colours_and_blend(
    world: World, models: tuple[Model, Model], color: bool, overlay: bool
) -> None:
    rules = rules_for(*models, task=world.task)
    image = next(iter(world.images.values()))
    main, sub = (w.scores(image).argmax(axis=0) for w in (world.main_weights, world.sub_weights))
    label = rules.rules[0].table[main, sub]
    colors = np.array(rules.output.colors, np.uint8)[label]
    with Pipeline(*models) as pipeline:
        result = pipeline.augment(Frame(image[:, :, ::-1], "bgr"), rules, color=color, overlay=overlay, alpha=0.25)
    np.testing.assert_array_equal(result.label, label)
    assert result.label.dtype == rules.rules[0].table.dtype
    assert result.confidence is None
    assert (result.color is not None, result.overlay is not None) == (color, overlay)
    if result.color is not None:
        np.testing.assert_array_equal(result.color, colors)
    if result.overlay is not None:
        np.testing.assert_array_equal(result.overlay, reference.blend(image, colors, 0.25))


def test_rules_can_change_from_frame_to_frame(world: World, models: tuple[Model, Model]) -> None:
    first, second = (rules_for(*models, task=world.task, seed=seed) for seed in (1, 2))
    assert (first.rules[0].table != second.rules[0].table).any()
    with Pipeline(*models) as pipeline:
        main, sub = pipeline.predict(noise())
        for rules in (first, second, first):
            np.testing.assert_array_equal(pipeline.augment(noise(), rules).label, rules.rules[0].table[main, sub])


def reload(world: World) -> tuple[Model, Model]:
    return load_model(world.main), load_model(world.sub)


def changed_weights(world: World) -> tuple[Model, Model]:
    write_model(world.main, MAIN_CLASSES, SIZE, seed=99)
    return reload(world)


def changed_card(world: World) -> tuple[Model, Model]:
    write_model(world.sub, SUB_CLASSES, SIZE, weights=world.sub_weights, card={"input.mean": [1, 0, 0]})
    return reload(world)


def renamed_class(world: World) -> tuple[Model, Model]:
    write_classes(world.sub / "classes.csv", ("street", *SUB_CLASSES[1:]))
    return reload(world)


def more_classes(world: World) -> tuple[Model, Model]:
    write_model(world.main, (*MAIN_CLASSES, "tree", "sky"), SIZE)
    return reload(world)


def swapped(world: World) -> tuple[Model, Model]:
    main, sub = reload(world)
    return sub, main


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed_weights, r"learned with another main model \(fingerprint \w{12}\) than .*main/model.onnx \(\w{12}\)"),
        (changed_card, r"learned with another sub model \(fingerprint \w{12}\) than .*sub/model.onnx \(\w{12}\)"),
        (renamed_class, r"for a sub model with 5 classes \(road, person, .*but .*sub/model.onnx has 5 \(street, "),
        (more_classes, r"for a main model with 3 classes .*, but .*main/model.onnx has 5 "),
        (swapped, r"for a main model with 3 classes .*, but .*sub/model.onnx has 5 "),
    ],
)
def test_rules_of_other_models_are_refused(
    world: World, models: tuple[Model, Model], change: Callable[[World], tuple[Model, Model]], message: str
) -> None:
    rules = rules_for(*models, task=world.task)
    with Pipeline(*models) as pipeline:
        pipeline.check(rules)
    with Pipeline(*change(world)) as pipeline:
        with pytest.raises(ConfigError, match=message):
            pipeline.check(rules)
        with pytest.raises(ConfigError, match=message):
            pipeline.augment(noise(), rules)


def test_each_sub_model_needs_rules_of_its_own_in_their_order(world: World, three: tuple[Model, Model, Model]) -> None:
    rules = rules_for(*three, task=world.task)
    with Pipeline(*three) as pipeline:
        pipeline.check(rules)
        with pytest.raises(ConfigError, match="there are rules for 1 sub models, but 2 sub models; give each its own"):
            pipeline.augment(noise(), RuleSet(rules.rules[:1]))
        with pytest.raises(ConfigError, match=r"learned with another sub model .* than .*sub/model\.onnx"):
            pipeline.augment(noise(), RuleSet(rules.rules[::-1]))


def test_models_that_moved_are_the_same_models(world: World, models: tuple[Model, Model], tmp_path: Path) -> None:
    rules = rules_for(*models, task=world.task)
    world.main.rename(tmp_path / "elsewhere")
    with Pipeline(load_model(tmp_path / "elsewhere"), models[1]) as pipeline:
        pipeline.check(rules)


@pytest.mark.parametrize("concurrent", [True, False], ids=["concurrent", "serial"])
@pytest.mark.parametrize("role", ["main", "sub"])
@pytest.mark.parametrize(("trap", "value"), [("nan on black", 0), ("fails on white", 255)])
def test_a_failing_model_fails_its_frame_only(
    tmp_path: Path, role: str, trap: str, value: int, concurrent: bool
) -> None:
    traps = {"main": None, "sub": None, role: trap}
    main = tiny_model(tmp_path / "main", MAIN_CLASSES, SIZE, trap=traps["main"], seed=1)
    sub = tiny_model(tmp_path / "sub", SUB_CLASSES, SIZE, trap=traps["sub"], seed=2)
    with Pipeline(main, sub, concurrent=concurrent) as pipeline:
        before = pipeline.predict(noise())
        for _ in range(2):
            with pytest.raises(EngineError, match=rf"{role}/model\.onnx: "):
                pipeline.predict(plain(value))
            after = pipeline.predict(noise())
            np.testing.assert_array_equal(after, before)


def test_both_models_failing_is_one_error(tmp_path: Path) -> None:
    main = tiny_model(tmp_path / "main", MAIN_CLASSES, SIZE, trap="nan on black")
    sub = tiny_model(tmp_path / "sub", SUB_CLASSES, SIZE, trap="nan on black")
    with Pipeline(main, sub) as pipeline:
        with pytest.raises(EngineError, match=r"main/model\.onnx: output 'result' has NaN"):
            pipeline.predict(plain(0))
        pipeline.predict(plain(1))


def test_concurrent_models_run_at_the_same_time(
    three: tuple[Model, Model, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each model waits for the others to have started: one after the other none could go on."""
    both = threading.Barrier(len(three), timeout=PATIENCE)
    with Pipeline(*three) as pipeline:
        for runner in pipeline.runners:

            def meet(image: NDArray[np.float32], infer: Any = runner.infer) -> NDArray[Any]:
                both.wait()
                output: NDArray[Any] = infer(image)
                return output

            monkeypatch.setattr(runner, "infer", meet)
        pipeline.predict(noise())


@pytest.mark.parametrize("concurrent", [True, False], ids=["concurrent", "serial"])
@pytest.mark.parametrize("trap", [None, "fails on white"])
def test_there_is_room_for_the_next_frame_once_whatever_happens(
    tmp_path: Path, concurrent: bool, trap: str | None
) -> None:
    main = tiny_model(tmp_path / "main", MAIN_CLASSES, SIZE, trap=trap, seed=1)
    sub = tiny_model(tmp_path / "sub", SUB_CLASSES, SIZE, seed=2)
    called: list[None] = []
    with Pipeline(main, sub, concurrent=concurrent) as pipeline:
        prepared = pipeline.prepare(plain(255))
        with pytest.raises(EngineError) if trap else nullcontext():
            pipeline.infer(prepared, on_free=lambda: called.append(None))
    assert len(called) == 1


def test_the_next_frame_is_prepared_while_this_one_is_with_the_models(models: tuple[Model, Model]) -> None:
    frames = [noise(seed=seed) for seed in range(6)]
    waiting: list[Prepared] = []
    with Pipeline(*models) as pipeline:
        alone = [pipeline.predict(frame) for frame in frames]

        def prepare(number: int) -> None:
            waiting.append(pipeline.prepare(frames[number % len(frames)]))

        prepare(0)
        for number, expected in enumerate(alone):
            inferred = pipeline.infer(waiting.pop(), on_free=partial(prepare, number + 1))
            np.testing.assert_array_equal(pipeline.labels(inferred), expected)


def test_the_spare_thread_is_that_of_the_model_done_first(
    models: tuple[Model, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Pipeline(*models) as pipeline:
        for slow in (0, 1, 0):
            release = threading.Event()
            runner = pipeline.runners[slow]

            def wait(image: NDArray[np.float32], infer: Any = runner.infer, go: Any = release) -> NDArray[Any]:
                assert go.wait(10)
                output: NDArray[Any] = infer(image)
                return output

            with monkeypatch.context() as patch:
                patch.setattr(runner, "infer", wait)
                pipeline.infer(pipeline.prepare(noise()), on_free=release.set)
            assert pipeline.spare is pipeline.inference._executors[1 - slow]


def test_a_closed_pipeline_says_so(models: tuple[Model, Model]) -> None:
    pipeline = Pipeline(*models)
    pipeline.predict(noise())
    pipeline.close()
    pipeline.close()
    with pytest.raises(RuntimeError, match="the pipeline is closed"):
        pipeline.predict(noise())


@contextmanager
def same_threads() -> Iterator[None]:
    def native() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    before = native()
    yield
    deadline = time.monotonic() + PATIENCE
    while native() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert native() <= before


@pytest.mark.parametrize("broken", ["main", "sub"])
def test_a_model_that_cannot_be_loaded_leaves_nothing_behind(world: World, broken: str) -> None:
    (world.folder / broken / "model.onnx").write_bytes(b"no model")
    with same_threads(), pytest.raises(EngineError, match=rf"{broken}/model\.onnx: ONNX Runtime cannot load it"):
        Pipeline(*reload(world), threads=4)


def test_closing_releases_the_threads(three: tuple[Model, Model, Model]) -> None:
    with same_threads(), Pipeline(*three, threads=8) as pipeline:
        pipeline.predict(noise())
