"""What the node loads: told in words, exchanged whole or not at all, and warm before the first frame."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from support.tinymodels import SUB_CLASSES, World, random_rules, write_model, write_world

from classaug_ros.errors import ConfigError
from classaug_ros.fusion.cpu import contours as cpu_contours
from classaug_ros.fusion.cpu import evidence as cpu_evidence
from classaug_ros.fusion.cpu import table as cpu_table
from classaug_ros.imaging.images import Frame
from classaug_ros.models.card import load_model
from classaug_ros.node.loaded import Loaded
from classaug_ros.node.parameters import Settings, check
from classaug_ros.pipeline.frame_path import FusionConfig, RequestedOutputs
from classaug_ros.rules import KINDS
from classaug_ros.rules.decision import Decision

SIZE = (12, 10)


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = write_world(tmp_path, images=1, size=SIZE)
    write_model(tmp_path / "other", SUB_CLASSES, SIZE, seed=9, stride=2)
    write_rules(tmp_path, "sub")
    write_rules(tmp_path, "other")
    return world


def write_rules(folder: Path, sub: str) -> None:
    for kind in KINDS:
        rules = random_rules(load_model(folder / "main"), load_model(folder / sub), folder / "task.yaml", kind=kind)
        rules.save(folder / f"{sub}_{kind}.yaml")


def settings(folder: Path, *rules: str, **others: Any) -> Settings:
    """Settings of the sub models that rules files, such as sub_table, are named after."""
    subs = [str(folder / name.partition("_")[0]) for name in rules]
    files = [str(folder / f"{name}.yaml") for name in rules]
    return check({"main_model": str(folder / "main"), "sub_model": subs, "rules_file": files, **others})


@contextmanager
def loaded(folder: Path, *rules: str, **others: Any) -> Iterator[Loaded]:
    found = Loaded.load(settings(folder, *rules, **others), print)
    with closing(found.path):
        yield found


def test_models_and_rules_are_told_in_words(world: World) -> None:
    with loaded(world.folder, "sub_table", threads=2, min_confidence=0.25) as one:
        told = one.description()
        assert told["sub model"].startswith(f"sub, 5 classes, {world.sub}/model.onnx, ")
        assert told["engines"] == "ONNX Runtime on the CPU, all at once, 1 + 1 threads"
        assert (told["rules"], told["rules kind"]) == (str(world.folder / "sub_table.yaml"), "table")
        assert told["rules task"] == one.rules.rules[0].provenance.task
        assert told["output classes"] == "5"
        assert told["decision"] == "prefer evidence, min_confidence 0.25, contours off"
        assert one.in_short()[-1] == (
            f"rules: {world.folder}/sub_table.yaml, table, 5 classes, learned on 1 images of d, now"
        )


def test_several_sub_models_are_numbered(world: World) -> None:
    with loaded(world.folder, "other_probability", "sub_table", concurrent=False, threads=1) as two:
        told = two.description()
        assert [told[f"sub model {number}"].partition(",")[0] for number in (1, 2)] == ["other", "sub"]
        assert told["engines"] == "ONNX Runtime on the CPU, one after the other, 1 + 1 + 1 threads"
        assert told["rules 1 kind"] == "probability (gamma 0.5, temperature 1.25)"
        assert told["rules 2"] == str(world.folder / "sub_table.yaml")
        assert not {"sub model", "rules"}.intersection(told)
        assert [line.partition(",")[0] for line in two.rules_in_short()] == [
            f"rules {number}: {world.folder}/{name}.yaml"
            for number, name in enumerate(("other_probability", "sub_table"), start=1)
        ]


def test_rules_and_settings_that_contradict_each_other_are_refused(world: World) -> None:
    contours = {"contours": True}
    with pytest.raises(ConfigError, match="contours need rules of kind probability"):
        Loaded.load(settings(world.folder, "sub_table", **contours), print)
    with loaded(world.folder, "sub_probability") as probable:
        followed = probable.tuned(contours)
        assert followed.config.decision == Decision(contours=True)
        assert probable.config.decision == Decision()
        with pytest.raises(ConfigError, match="contours need rules of kind probability"):
            followed.reloaded(settings(world.folder, "sub_table", **contours))
        tabled = followed.reloaded(settings(world.folder, "sub_table"))
        assert tabled.config.decision == Decision()
        with pytest.raises(ConfigError, match="contours need rules of kind probability"):
            tabled.tuned(contours)
        with pytest.raises(ConfigError, match="there are rules for 2 sub models, but 1 sub models"):
            tabled.reloaded(settings(world.folder, "sub_table", "other_table"))


def test_no_frame_waits_for_the_compiler(world: World) -> None:
    """In a process of its own, as one that has fused before has all it needs."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other:
        assert other.submit(compiled_for_frames, world.folder).result(120) == set()


def test_who_starts_the_node_is_told_once_that_numba_compiles(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with loaded(world.folder, "sub_table"):
        pass  # what has been compiled for it now need not be again
    told: list[str] = []
    with closing(Loaded.load(settings(world.folder, "sub_table"), told.append).path):
        assert told == []

    def compile_two() -> None:
        for _ in range(2):
            numba.njit(lambda x: x + 1)(1)

    monkeypatch.setattr("classaug_ros.fusion.warm_up", compile_two)
    with closing(Loaded.load(settings(world.folder, "sub_table"), told.append).path):
        assert len(told) == 1
        assert told[0].startswith("compiling the fusion")
    compile_two()
    assert len(told) == 1


def compiled_for_frames(folder: Path) -> set[str]:
    """Return the functions that were compiled, or loaded, while frames of all kinds were fused."""
    late: set[str] = set()
    for sub in ("other", "sub"):  # a coarser grid than the main model's, and the same
        with loaded(folder, f"{sub}_table") as tabled:
            late |= compiled_by(tabled, contours=False)
            late |= compiled_by(tabled.reloaded(settings(folder, f"{sub}_probability")), contours=True)
    return late


def compiled_by(using: Loaded, *, contours: bool) -> set[str]:
    before = signatures()
    padded = np.zeros((37, 50, 3), np.uint8)
    for pixels, order, writeable in product((padded, padded[:, :41]), ("rgb", "bgr"), (True, False)):
        shown = pixels.view()
        shown.flags.writeable = writeable
        for decision, asked in product((Decision(), Decision("main"), Decision(contours=contours)), (False, True)):
            frame = Frame(shown, order)  # type: ignore[arg-type]
            path, config = using.path, FusionConfig(using.rules, decision, 0.5)
            wanted = RequestedOutputs(label=True, overlay=asked, color=asked, confidence=asked)
            path.fuse(path.infer(path.prepare([frame]), config, wanted, lambda: None))
    after = signatures()
    return {name for name in after if after[name] != before[name]}


def signatures() -> dict[str, int]:
    """Return how many types each compiled function is ready for."""
    return {
        name: len(value.signatures)
        for module in (cpu_table, cpu_evidence, cpu_contours)
        for name, value in vars(module).items()
        if hasattr(value, "signatures")
    }
