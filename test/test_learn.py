"""Learning: counts against a plain loop, samples, interruption, resumption, several machines."""

from __future__ import annotations

import math
import re
import signal
import subprocess
import sys
import time
import tracemalloc
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from support.programs import program
from support.tinymodels import MAIN_CLASSES, SUB_CLASSES, World, write_dataset, write_model, write_world

from classaug_ros.cli import main as classaug
from classaug_ros.data.dataset import Dataset, Sample, load_dataset
from classaug_ros.errors import ConfigError, ImageError
from classaug_ros.learning import learn, score_samples
from classaug_ros.learning.counts import Counts, merge
from classaug_ros.learning.learn import count, derive_rules
from classaug_ros.learning.score_samples import Samples
from classaug_ros.models.card import load_model
from classaug_ros.pipeline.cpu import Pipeline
from classaug_ros.rules import Evidence, Rules, derive
from classaug_ros.rules.task import Task

PROJECT = Path(__file__).resolve().parent.parent


def run(world: World, path: Path, limit: int | None = None, datasets: list[Dataset] | None = None) -> Counts:
    with Pipeline(load_model(world.main), load_model(world.sub)) as pipeline:
        return count(pipeline, datasets or [load_dataset(world.dataset)], Task.load(world.task), path, limit)


@pytest.fixture(scope="module", autouse=True)
def _compiled(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Count once: whoever is first on a machine is told that Numba compiles, which tests of messages do not expect."""
    folder = tmp_path_factory.mktemp("compiled")
    run(write_world(folder / "world", images=1), folder / "c.npz")


def by_hand(world: World, names: list[str]) -> NDArray[np.int64]:
    """Equation 1's counts, pixel by pixel."""
    triples = np.zeros((len(MAIN_CLASSES), len(SUB_CLASSES), len(SUB_CLASSES)), np.int64)
    for name in names:
        image, truth = world.images[name], world.truths[name]
        main, sub = (weights.scores(image).argmax(axis=0) for weights in (world.main_weights, world.sub_weights))
        for y, x in np.ndindex(truth.shape):
            if truth[y, x] < len(SUB_CLASSES):
                triples[main[y, x], sub[y, x], truth[y, x]] += 1
    return triples


def test_counts_are_those_of_a_plain_loop(world: World, tmp_path: Path) -> None:
    counts = run(world, tmp_path / "c.npz")
    np.testing.assert_array_equal(counts.triples, by_hand(world, list(world.images)))
    assert counts.images == list(world.images)
    stored = Counts.load(tmp_path / "c.npz")
    np.testing.assert_array_equal(stored.triples, counts.triples)
    assert stored.images == counts.images


def assert_same_samples(one: Counts, other: Counts) -> None:
    for name in fields(Samples):
        np.testing.assert_array_equal(
            getattr(one.samples, name.name), getattr(other.samples, name.name), err_msg=name.name
        )


def assert_same_evidence(one: Rules, other: Rules) -> None:
    for name in fields(Evidence):
        np.testing.assert_array_equal(getattr(one.evidence, name.name), getattr(other.evidence, name.name))


def test_samples_are_scores_of_pixels_of_their_image_and_class(world: World, tmp_path: Path) -> None:
    counts = run(world, tmp_path / "c.npz")
    taken = counts.samples
    assert taken is not None
    assert_same_samples(Counts.load(tmp_path / "c.npz"), counts)
    for number, (name, truth) in enumerate(world.truths.items()):
        mine = taken.image == number
        classes = taken.truth[mine]
        assert np.bincount(classes, minlength=5).tolist() == [min(32, int((truth == j).sum())) for j in range(5)]
        for scores, weights in ((taken.main, world.main_weights), (taken.sub, world.sub_weights)):
            pixels = weights.scores(world.images[name])[:, truth < 5].T
            centred = (pixels - pixels.mean(axis=1, keepdims=True)).astype(np.float32)
            near = np.isclose(scores[mine][:, np.newaxis].astype(np.float32), centred, rtol=1e-3, atol=1e-3).all(axis=2)
            found = near & (classes[:, np.newaxis] == truth[truth < 5])
            assert found.any(axis=1).all()


def test_both_kinds_of_rules_are_derived_and_the_table_is_the_one_of_the_counts_alone(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    counts, task = run(world, tmp_path / "c.npz"), Task.load(world.task)
    rules = derive_rules(counts, task)
    assert (rules.kind, rules.output.names) == ("probability", ("road", "rider", "car", "person", "bicycle"))
    assert rules.evidence is not None
    assert rules.evidence.samples == len(counts.samples or ())
    assert rules.evidence.recordings == 4  # blocks of one recording
    assert caplog.messages == [
        f"fitting the probability rule to {rules.evidence.samples} pixels, which may take a minute"
    ]
    alone = derive(counts.triples, task, rules.provenance)
    np.testing.assert_array_equal(rules.table, alone.table)
    np.testing.assert_array_equal(rules.confidence, alone.confidence)
    rules.save(tmp_path / "r.yaml")
    assert_same_evidence(Rules.load(tmp_path / "r.yaml"), rules)


@pytest.mark.parametrize("role", ["main", "sub"])
def test_a_model_that_returns_labels_gives_a_table_alone(
    role: str, world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run(world, tmp_path / "scores.npz")
    classes, weights = {
        "main": (MAIN_CLASSES, world.main_weights),
        "sub": (SUB_CLASSES, world.sub_weights),
    }[role]
    write_model(world.folder / role, classes, (12, 10), weights=weights, kind="labels")
    caplog.set_level("INFO")
    output = tmp_path / "rules.yaml"
    assert classaug(arguments(world, output)) == 0
    told = capsys.readouterr().out
    assert told.count("no probability rule: a model returns labels, and only scores can be weighed\n") == 1
    assert "gamma" not in told
    assert caplog.messages == []
    counts, rules = Counts.load(output.with_suffix(".counts.npz")), Rules.load(output)
    assert (counts.samples, rules.evidence, rules.kind) == (None, None, "table")
    np.testing.assert_array_equal(counts.triples, whole.triples)
    assert sorted(file.name for file in tmp_path.glob("rules.*")) == ["rules.counts.npz", "rules.yaml"]


def test_the_command_tells_what_the_probability_rule_rests_on(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("INFO")
    output = tmp_path / "rules.yaml"
    assert classaug(arguments(world, output)) == 0
    evidence = Rules.load(output).evidence
    assert evidence is not None
    *_, rule, penalty, temperature, gamma, file = capsys.readouterr().out.splitlines()
    assert rule == (
        f"probability rule: fitted to {evidence.samples} pixels; settings that did best on 4 parts of the images, held "
        "out in turn:"
    )
    assert penalty.startswith(f"  penalty {evidence.penalty:g} ")
    assert temperature.startswith(f"  temperature {evidence.temperature:.2f} ")
    assert gamma.startswith(f"  gamma {evidence.gamma:.2f} ")
    assert file == f"rules: {output}"
    assert [message for message in caplog.messages if "fitting the probability rule" in message]


def test_a_single_image_is_enough(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert classaug([*arguments(world, tmp_path / "rules.yaml"), "--limit", "1"]) == 0
    assert (
        "of a single image no part can be held out, so the settings are the most cautious:" in capsys.readouterr().out
    )


def test_counts_of_an_older_version_are_refused(world: World, tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    run(world, path, 1)
    with np.load(path) as archive:
        old = {name: array for name, array in archive.items() if name != "format" and not name.startswith("samples_")}
    np.savez(path, **old)
    kept = path.read_bytes()
    with pytest.raises(ConfigError, match=f"^{path}: was counted by another version of this package; count again$"):
        run(world, path)
    assert path.read_bytes() == kept


def test_truth_is_counted_by_the_names_of_its_classes(world: World, tmp_path: Path) -> None:
    """A data set with the sub classes in another order, and one of them not annotated."""
    folder = world.dataset.parent
    (folder / "classes.csv").write_text("id,name,r,g,b\n0,car,0,0,0\n1,bag,1,1,1\n2,road,2,2,2\n", encoding="utf-8")
    text = world.dataset.read_text() + "map: {0: road, 3: bag, 4: car}\n"
    world.dataset.write_text(text.replace("ignore: [200]", "ignore: [1, 2, 200]"))
    counts = run(world, tmp_path / "c.npz")
    expected = by_hand(world, list(world.images))
    expected[:, :, [1, 2]] = 0
    np.testing.assert_array_equal(counts.triples, expected)


def test_truth_of_another_size_counts_at_its_size(tmp_path: Path) -> None:
    world = write_world(tmp_path / "world", images=1, size=(12, 10))
    _, _, truths = write_dataset(tmp_path, "big", 1, (48, 30), seed=3)
    (tmp_path / "big" / "labels" / "0000.png").replace(world.dataset.parent / "labels" / "0000.png")
    counts = run(world, tmp_path / "c.npz")
    assert counts.triples.sum() == (truths["big/0000"] < len(SUB_CLASSES)).sum()


def test_limit_counts_images_in_all_and_a_second_run_goes_on(world: World, tmp_path: Path) -> None:
    path, names = tmp_path / "c.npz", list(world.images)
    for limit, expected in ((2, 2), (1, 2), (2, 2), (5, 5), (None, 6), (None, 6)):
        counts = run(world, path, limit)
        assert counts.images == names[:expected]
        np.testing.assert_array_equal(counts.triples, by_hand(world, names[:expected]))
    assert_same_samples(counts, run(world, tmp_path / "at once.npz"))


def test_going_on_is_said(world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    run(world, tmp_path / "c.npz", 2)
    assert caplog.messages == []
    run(world, tmp_path / "c.npz")
    assert caplog.messages == [f"{tmp_path}/c.npz: going on after 2 images counted before"]


def test_several_data_sets_are_counted_together(world: World, tmp_path: Path) -> None:
    other, _, truths = write_dataset(tmp_path, "more", 2, (12, 10), seed=9)
    both = [load_dataset(world.dataset), load_dataset(other)]
    counts = run(world, tmp_path / "c.npz", datasets=both)
    assert counts.images == [*world.images, *truths]
    assert set(counts.datasets) == {"drive", "more"}
    parts = [run(world, tmp_path / f"{d.name}.npz", datasets=[d]) for d in both]
    merged = merge(("part", part) for part in parts)
    np.testing.assert_array_equal(merged.triples, counts.triples)
    assert_same_samples(merged, counts)
    assert derive_rules(counts, Task.load(world.task)).provenance.datasets == ("drive", "more")


def test_data_sets_of_one_name_are_refused(world: World, tmp_path: Path) -> None:
    dataset = load_dataset(world.dataset)
    with pytest.raises(ConfigError, match=r"two data sets have the same name \(drive, drive\)"):
        run(world, tmp_path / "c.npz", datasets=[dataset, dataset])


def test_a_data_set_counted_before_must_be_named_again(world: World, tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    run(world, path)
    kept = path.read_bytes()
    other, _, _ = write_dataset(tmp_path, "another", 1, (12, 10), 5)
    with pytest.raises(ConfigError, match=r"c\.npz: holds data set 'drive' too; name it as well"):
        run(world, path, datasets=[load_dataset(other)])
    assert path.read_bytes() == kept


def test_a_data_set_not_reached_is_not_in_the_counts(world: World, tmp_path: Path) -> None:
    other, _, _ = write_dataset(tmp_path, "another", 1, (12, 10), 5)
    counts = run(world, tmp_path / "c.npz", limit=1, datasets=[load_dataset(world.dataset), load_dataset(other)])
    assert list(counts.datasets) == ["drive"]


def test_a_data_set_changed_since_is_refused(world: World, tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    run(world, path, 1)
    world.dataset.write_text(world.dataset.read_text().replace("[200]", "[200, 4]"))
    with pytest.raises(ConfigError, match=f"^{path}: data set 'drive' has other classes or values than when"):
        run(world, path)


def test_another_model_does_not_go_on_with_the_counts(world: World, tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    run(world, path, 1)
    write_model(world.sub, SUB_CLASSES, (12, 10), seed=77)
    with pytest.raises(
        ConfigError, match=rf"^{path}: counted with another sub model \(fingerprint \w+\) than .*; choose"
    ):
        run(world, path)


def test_truth_that_is_no_sub_class_is_refused(world: World, tmp_path: Path) -> None:
    (world.dataset.parent / "classes.csv").write_text("id,name,r,g,b\n0,rider,0,0,0\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="data set 'drive': its class 'rider' is no sub class of the task; learning"):
        run(world, tmp_path / "c.npz")


def test_a_task_of_other_classes_is_refused(world: World, tmp_path: Path) -> None:
    task = world.task.read_text().replace("main/", "sub/").replace("add: [person, bicycle]", "add: []")
    (world.folder / "other.yaml").write_text(task)
    with (
        pytest.raises(
            ConfigError, match=r"task's main classes \(road, person, .* are not the main model's \(road, rider"
        ),
        Pipeline(load_model(world.main), load_model(world.sub)) as pipeline,
    ):
        count(pipeline, [load_dataset(world.dataset)], Task.load(world.folder / "other.yaml"), tmp_path / "c.npz")


def test_what_was_counted_before_a_broken_image_is_kept(world: World, tmp_path: Path) -> None:
    image = world.dataset.parent / "images" / "0003.png"
    whole = image.read_bytes()
    image.write_bytes(b"broken")
    with pytest.raises(ImageError, match=r"0003\.png"):
        run(world, tmp_path / "c.npz")
    assert Counts.load(tmp_path / "c.npz").images == list(world.images)[:3]
    image.write_bytes(whole)
    np.testing.assert_array_equal(run(world, tmp_path / "c.npz").triples, by_hand(world, list(world.images)))


def test_a_mistake_met_at_the_first_image_can_be_corrected(world: World, tmp_path: Path) -> None:
    """The corrected data set is another one: a file begun with the mistake would be refused."""
    text = world.dataset.read_text()
    world.dataset.write_text(text.replace("ignore: [200]", "ignore: []"))
    with pytest.raises(ConfigError, match="value 200 is in neither"):
        run(world, tmp_path / "c.npz")
    assert not (tmp_path / "c.npz").exists()
    world.dataset.write_text(text)
    assert run(world, tmp_path / "c.npz").images == list(world.images)


def test_rules_carry_where_they_come_from(world: World, tmp_path: Path) -> None:
    counts, task = run(world, tmp_path / "c.npz"), Task.load(world.task)
    made = derive_rules(counts, task, 7).provenance
    assert (made.task, made.min_support, made.images, made.datasets) == (task.fingerprint, 7, 5, ("drive",))
    assert made.pixels == by_hand(world, list(world.images)).sum()
    assert made.main_model == load_model(world.main).fingerprint
    assert made.sub_model == load_model(world.sub).fingerprint
    assert made.created.endswith("+00:00")


def test_no_labelled_pixel_is_a_mistake(world: World, tmp_path: Path) -> None:
    for file in (world.dataset.parent / "labels").iterdir():
        cv2.imwrite(str(file), np.full((12, 10), 200, np.uint8))
    counts = run(world, tmp_path / "c.npz")
    with pytest.raises(ConfigError, match="no labelled pixel was counted"):
        derive_rules(counts, Task.load(world.task))


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    """The peak of 40 images is that of 10, but for their samples: an image here is 120 kB, its labels 40 kB each.

    The samples of an image are 4 kB, and are there a few times over while the file is written.
    """
    world = write_world(tmp_path / "world", images=40, size=(200, 200))

    def peak(limit: int) -> int:
        tracemalloc.start()
        run(world, tmp_path / f"{limit}.npz", limit)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(2)  # what is compiled and imported once
    few, many = peak(10), peak(40)
    assert many - few < 30 * 4000 * 5


# A child that writes its counts all the time, as a long run does every CHECKPOINT_SECONDS.
CHILD = """
import signal, sys
from classaug_ros import cli
from classaug_ros.learning import learn, score_samples
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in what runs in its background
learn.CHECKPOINT_SECONDS = 0.0
score_samples.PER_CLASS_IN_ALL = 1000
sys.exit(cli.main(sys.argv[1:]))
"""


def arguments(world: World, output: Path) -> list[str]:
    values = {"main": world.main, "sub": world.sub, "dataset": world.dataset, "task": world.task, "output": output}
    return ["learn", *(part for key, value in values.items() for part in (f"--{key}", str(value)))]


@pytest.fixture(scope="module")
def long_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_world(tmp_path_factory.mktemp("long"), images=250, size=(96, 96))


@pytest.fixture(scope="module")
def uninterrupted(long_world: World) -> Rules:
    output = long_world.folder / "uninterrupted.yaml"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_samples, "PER_CLASS_IN_ALL", 1000)  # fitting to more would take long
        assert classaug(arguments(long_world, output)) == 0
    return Rules.load(output)


@pytest.mark.parametrize(
    ("number", "status", "stderr"),
    [
        pytest.param(signal.SIGKILL, -signal.SIGKILL, "", id="SIGKILL"),
        pytest.param(signal.SIGINT, 130, "classaug learn: interrupted\n", id="SIGINT"),
    ],
)
def test_a_run_that_was_ended_goes_on_where_it_was(
    number: signal.Signals,
    status: int,
    stderr: str,
    long_world: World,
    uninterrupted: Rules,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output, path = tmp_path / "rules.yaml", tmp_path / "rules.counts.npz"
    command = [sys.executable, "-c", CHILD, *arguments(long_world, output)]
    with program(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        while not (path.exists() and len(Counts.load(path).images) >= 5):
            assert child.poll() is None, child.communicate()
            time.sleep(0.005)
        child.send_signal(number)
        written, told = child.communicate()
    progress = re.compile(r"\d+ images counted so far: .*\n")
    assert (child.returncode, written, progress.sub("", told)) == (status, "", stderr)
    assert not output.exists()
    kept = Counts.load(path)
    assert 5 <= len(kept.images) < 250
    np.testing.assert_array_equal(kept.triples, by_hand_fast(long_world, kept.images))

    monkeypatch.setattr(score_samples, "PER_CLASS_IN_ALL", 1000)
    assert classaug(arguments(long_world, output)) == 0
    assert Counts.load(path).images == list(long_world.images)
    assert_same_samples(Counts.load(path), Counts.load(long_world.folder / "uninterrupted.counts.npz"))
    rules = Rules.load(output)
    assert_same_evidence(rules, uninterrupted)
    np.testing.assert_array_equal(rules.table, uninterrupted.table)
    assert rules.provenance.pixels == uninterrupted.provenance.pixels
    assert rules.provenance.images == 250
    assert [file for file in tmp_path.iterdir() if file.suffix == ".tmp"] == [] or number == signal.SIGKILL


def by_hand_fast(world: World, names: list[str]) -> NDArray[np.int64]:
    """``by_hand`` for many images."""
    shape = len(MAIN_CLASSES), len(SUB_CLASSES), len(SUB_CLASSES)
    triples = np.zeros(math.prod(shape), np.int64)
    for name in names:
        image, truth = world.images[name], world.truths[name].astype(int)
        main, sub = (weights.scores(image).argmax(axis=0) for weights in (world.main_weights, world.sub_weights))
        seen = truth < len(SUB_CLASSES)
        triples += np.bincount(((main * shape[1] + sub) * shape[2] + truth)[seen], minlength=triples.size)
    return triples.reshape(shape)


def test_checkpoints_are_written_while_it_runs(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learn, "CHECKPOINT_SECONDS", 0.0)
    seen: list[int] = []
    read = Dataset.read

    def watch(self: Dataset, sample: Sample) -> object:
        seen.append(len(Counts.load(tmp_path / "c.npz").images) if (tmp_path / "c.npz").exists() else 0)
        return read(self, sample)

    monkeypatch.setattr(Dataset, "read", watch)
    run(world, tmp_path / "c.npz")
    assert seen == [0, 1, 2, 3, 4]
