"""Inspection: what rules and counts tell, on counts small enough to check by hand."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tinymodels import MAIN_CLASSES, SUB_CLASSES, write_world

from classaug_ros.cli import main as classaug
from classaug_ros.errors import ConfigError
from classaug_ros.learning.counts import Counts
from classaug_ros.learning.influence import Influence, describe_evidence, summarise_evidence
from classaug_ros.learning.inspection import (
    Tie,
    describe,
    near_ties,
    never_produced,
    never_similar,
    outcomes,
    summarise,
)
from classaug_ros.learning.learn import derive_rules
from classaug_ros.learning.score_samples import Samples
from classaug_ros.learning.tablepicture import draw_influence
from classaug_ros.rules import Rules
from classaug_ros.rules.task import Task

ROAD, RIDER, CAR = range(len(MAIN_CLASSES))
PERSON, BICYCLE, BAG = 1, 2, 3  # sub classes; person and bicycle are added


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return Task.load(write_world(tmp_path / "world", images=1).task)


def counts_of(cells: dict[tuple[int, int, int], int]) -> Counts:
    triples = np.zeros((len(MAIN_CLASSES), len(SUB_CLASSES), len(SUB_CLASSES)), np.int64)
    for cell, pixels in cells.items():
        triples[cell] = pixels
    return Counts(MAIN_CLASSES, SUB_CLASSES, "m", "s", triples, ["d/1", "d/2"], {"d": "f"})


@pytest.fixture
def counts() -> Counts:
    return counts_of(
        {
            (ROAD, 0, 0): 900,
            (ROAD, PERSON, 0): 52,  # road, else person
            (ROAD, PERSON, PERSON): 48,
            (RIDER, PERSON, PERSON): 50,  # person, else the rider stays: a bag is not added
            (RIDER, PERSON, BAG): 46,
            (RIDER, BAG, BAG): 60,  # no tie
            (RIDER, BAG, PERSON): 40,
            (CAR, 4, BAG): 30,  # car either way
            (CAR, 4, 0): 30,
            (CAR, BICYCLE, BAG): 5,
        }
    )


def test_the_summary_tells_pairs_support_and_shares(task: Task) -> None:
    counts = counts_of({(ROAD, 0, 0): 900, (RIDER, PERSON, PERSON): 60, (RIDER, BAG, BAG): 40, (CAR, 2, 2): 5})
    text = summarise(counts, derive_rules(counts, task, 10))
    for line in (
        "2 images, 1,005 labelled pixels",
        "table: 4 of 15 pairs of predictions seen, 3 often enough for a rule (min_support 10); 1 give an added class",
        "added classes reached: 1 of 2; never: bicycle",
        "rider                     100 px  person 60.0%, rider 40.0%",
        "car                         5 px  car 100.0%",
        "no probability rule: a model returns labels",
    ):
        assert line in text
    assert text.index("road  ") < text.index("rider  ") < text.index("car  ")


def test_near_ties_come_with_both_labels_those_that_matter_first(task: Task, counts: Counts) -> None:
    ties = near_ties(derive_rules(counts, task), counts)
    names = derive_rules(counts, task).output.names
    person = names.index("person")
    assert ties == (
        Tie((ROAD, PERSON), 100, (0, PERSON), (0.52, 0.48), (ROAD, person)),
        Tie((RIDER, PERSON), 96, (PERSON, BAG), (50 / 96, 46 / 96), (person, RIDER)),
        Tie((CAR, 4), 60, (0, BAG), (0.5, 0.5), (CAR, CAR)),
    )
    assert [tie.matters for tie in ties] == [True, True, False]


def test_a_pair_without_a_rule_is_no_tie(task: Task, counts: Counts) -> None:
    assert [tie.pixels for tie in near_ties(derive_rules(counts, task, 97), counts)] == [100]


def test_a_pair_of_a_hundred_thousandth_of_the_pixels_is_no_tie(task: Task, counts: Counts) -> None:
    counts.triples[ROAD, 0, 0] = 97 * 10**5
    assert [tie.pixels for tie in near_ties(derive_rules(counts, task), counts)] == [100]


@given(
    triples=st.lists(st.integers(0, 50), min_size=75, max_size=75).filter(any),
    margin=st.floats(0, 1, allow_nan=False),
)
def test_the_first_label_of_a_tie_is_the_tables_and_its_truths_are_the_top_two(
    tmp_path_factory: pytest.TempPathFactory, triples: list[int], margin: float
) -> None:
    task = Task.load(write_world(tmp_path_factory.mktemp("world"), images=1).task)
    counts = counts_of({})
    counts.triples[:] = np.reshape(triples, counts.triples.shape)
    rules = derive_rules(counts, task)
    ties = {tie.pair: tie for tie in near_ties(rules, counts, margin)}
    for i, j in np.ndindex(rules.table.shape):
        second, first = np.sort(counts.triples[i, j])[-2:]
        pixels = counts.triples[i, j].sum()
        assert ((i, j) in ties) == bool(pixels and first - second <= margin * pixels)
        if (i, j) in ties:
            tie = ties[i, j]
            assert tie.outputs[0] == rules.table[i, j]
            assert tie.shares == (first / pixels, second / pixels)
            assert tie.truths[0] != tie.truths[1]


def test_outcomes_keep_every_pixel_with_its_main_class(task: Task, counts: Counts) -> None:
    rules = derive_rules(counts, task)
    turned = outcomes(rules, counts.triples.sum(axis=2))
    np.testing.assert_array_equal(turned.sum(axis=1), counts.triples.sum(axis=(1, 2)))
    assert turned[RIDER].tolist() == [0, 100, 0, 96, 0]


def test_classes_never_produced_and_similar_ones_never_seen(task: Task, counts: Counts) -> None:
    assert never_produced(derive_rules(counts, task)) == ("bicycle",)
    assert never_similar(task, counts) == {"car": ("car",)}


def test_all_is_described(task: Task, counts: Counts) -> None:
    text = describe(derive_rules(counts, task), counts, task)
    for line in (
        "3 main x 5 sub classes; output: the main and 2 added",
        "kind in use: table\nno probability rule: a model returns labels",
        "  rider                         196 px",
        "     49.0%  person               where sub says so",
        "  always kept: road, car",
        "3 pairs with 20.30% of the pixels; the label hangs on 2 of them, with 15.54%",
        "100 px  road | person: truth road 52.0%, person 48.0% -> road, else person",
        "96 px  rider | person: truth person 52.1%, bag 47.9% -> person, else rider",
        "60 px  car | car: truth road 50.0%, bag 50.0% -> car either way",
        "  bicycle: not in the ground truth",
        "  car: car",
    ):
        assert line in text


def test_an_added_class_that_is_always_outvoted_says_so(task: Task, counts: Counts) -> None:
    counts.triples[CAR, 4, BICYCLE] = 7
    text = describe(derive_rules(counts, task), counts, task)
    assert "  bicycle: the truth of 7 px, at no pair the most frequent" in text


def test_without_counts_the_table_is_described(task: Task, counts: Counts) -> None:
    text = describe(derive_rules(counts, task))
    assert "  rider                           5 pairs\n     80.0%  rider\n     20.0%  person" in text
    assert "px" not in text
    assert "tie" not in text


def test_long_lists_are_cut(task: Task, counts: Counts) -> None:
    counts.triples[RIDER, :, :] = 0
    counts.triples[RIDER, :, PERSON] = [9, 8, 7, 6, 5]
    text = describe(derive_rules(counts, task), counts)
    assert "where sub says road, person, bicycle, bag, car" in text
    counts.triples[RIDER] = 0
    counts.triples[RIDER, :4, PERSON] = [9, 8, 7, 6]
    assert "where sub says road, person, bicycle, bag\n" in describe(derive_rules(counts, task), counts)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"main_model": "other"}, id="another model"),
        pytest.param({"sub_classes": ("a", *SUB_CLASSES[1:])}, id="other classes"),
        pytest.param({"triples": np.ones((3, 5, 5), np.int64)}, id="more or fewer pixels"),
    ],
)
def test_counts_of_other_rules_are_refused(task: Task, counts: Counts, change: dict[str, object]) -> None:
    rules = derive_rules(counts, task)
    with pytest.raises(ConfigError, match="the rules do not rest on these counts"):
        describe(rules, replace(counts, **change))  # type: ignore[arg-type]


def test_another_task_is_refused(task: Task, counts: Counts) -> None:
    rules = derive_rules(counts, task)
    with pytest.raises(ConfigError, match="learned for another task"):
        describe(rules, counts, replace(task, added=(PERSON,)))


@pytest.fixture
def learned(tmp_path: Path) -> tuple[Path, Path]:
    """Rules with their counts beside them, and the task."""
    world = write_world(tmp_path / "learned", images=2)
    output = world.folder / "rules.yaml"
    models = ["--main", str(world.main), "--sub", str(world.sub), "--task", str(world.task)]
    assert classaug(["learn", *models, "--dataset", str(world.dataset), "--output", str(output)]) == 0
    return output, world.task


def test_the_command_finds_the_counts_and_draws(
    learned: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules, task = learned
    capsys.readouterr()
    picture = tmp_path / "made" / "table.png"
    assert classaug(["inspect", str(rules), "--task", str(task), "--picture", str(picture)]) == 0
    told = capsys.readouterr().out
    counts = Counts.load(rules.with_suffix(".counts.npz"))
    assert told == f"{describe(Rules.load(rules), counts, Task.load(task))}\npicture: {picture}\n"
    drawn = cv2.imread(str(picture))
    assert drawn is not None
    assert drawn.std() > 0


def of_image(counts: Counts, number: int) -> Samples:
    """The samples of one of the images, as if it were the only one."""
    samples = counts.samples
    assert samples is not None
    mine = Samples(*(getattr(samples, field.name)[samples.image == number] for field in fields(Samples)))
    return replace(mine, image=0 * mine.image)


def test_both_kinds_are_described_and_the_scores_behind_the_probability_rule(
    learned: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    rules, counts = Rules.load(learned[0]), Counts.load(learned[0].with_suffix(".counts.npz"))
    whole, alone, table = describe(rules, counts), describe(rules), describe(replace(rules, kind="table"), counts)
    for text in (whole, alone, table):
        assert "\n".join(summarise_evidence(rules)) in text
    for text in (whole, table):
        assert "\n".join(describe_evidence(rules, counts.samples)[1:]) in text
        assert "    for      " in text
    assert "    for      " not in alone
    assert "\n\nkind in use: probability\n" in whole
    assert "\n\nkind in use: table\n" in table
    assert whole.index("probability rule: ") < whole.index("table: ") < whole.index("near ties")


def test_the_command_takes_counts_in_several_files(
    learned: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules, _ = learned
    beside = rules.with_suffix(".counts.npz")
    whole = Counts.load(beside)
    parts = [replace(whole, triples=whole.triples // 2), replace(whole, triples=whole.triples - whole.triples // 2)]
    for number, (part, image) in enumerate(zip(parts, whole.images, strict=True)):
        replace(part, images=[image], parts=[of_image(whole, number)]).save(tmp_path / f"{number}.npz")
    beside.unlink()
    capsys.readouterr()
    assert classaug(["inspect", str(rules), "--counts", str(tmp_path / "0.npz"), str(tmp_path / "1.npz")]) == 0
    told = capsys.readouterr().out
    assert "near ties" in told
    assert (
        told
        == f"{describe(Rules.load(rules), whole)}\n\nname the task with --task for similar classes that never occur\n"
    )
    assert classaug(["inspect", str(rules), "--counts", str(tmp_path / "0.npz")]) == 2
    assert capsys.readouterr().err.startswith("classaug inspect: the rules do not rest on these counts")
    assert classaug(["inspect", str(rules)]) == 0
    assert f"there is no {beside}: name the counts with --counts" in capsys.readouterr().out


def test_the_command_draws_what_speaks_for_each_class(
    learned: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "table.png", tmp_path / "influence.png"]
    capsys.readouterr()
    assert classaug(["inspect", str(learned[0]), "--picture", str(files[0]), "--influence", str(files[1])]) == 0
    assert capsys.readouterr().out.endswith("".join(f"picture: {file}\n" for file in files))
    table, influence = (cv2.imread(str(file)) for file in files)
    assert table is not None
    assert influence is not None
    assert table.shape != influence.shape
    rules, counts = Rules.load(learned[0]), Counts.load(learned[0].with_suffix(".counts.npz"))
    assert rules.evidence is not None
    assert counts.samples is not None
    expected = draw_influence(rules, Influence.of(rules.evidence, counts.samples))
    np.testing.assert_array_equal(influence[:, :, ::-1], expected)


def test_without_scores_no_influence_is_drawn(
    learned: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules, _ = learned
    picture = tmp_path / "i.png"
    alone = tmp_path / "table.yaml"
    replace(Rules.load(rules), evidence=None, kind="table").save(alone)
    rules.with_suffix(".counts.npz").unlink()
    capsys.readouterr()
    for file, message in ((rules, "needs the counts that the rules rest on"), (alone, "have no probability rule")):
        assert classaug(["inspect", str(file), "--influence", str(picture)]) == 2
        told = capsys.readouterr()
        assert (told.out, told.err.count("\n")) == ("", 1)
        assert told.err.startswith(f"classaug inspect: --influence {picture}: ")
        assert message in told.err
    assert not picture.exists()


@pytest.mark.parametrize("option", ["--picture", "--influence"])
def test_a_picture_that_is_no_png_is_refused(
    option: str, learned: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert classaug(["inspect", str(learned[0]), option, str(tmp_path / "t.jpg")]) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert f"{option} {tmp_path}/t.jpg: expected a file name ending in .png" in told.err
