"""Scoring: which class counts as which, for truth in sub classes and in output classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from classaug_ros.data.dataset import Dataset, load_dataset
from classaug_ros.errors import ConfigError
from classaug_ros.evaluation.scoring import NOT_SCORED, Scoring, scoring_for
from classaug_ros.models.labels import LabelSpace
from classaug_ros.rules.task import Task

SHARED = Path(__file__).resolve().parents[2] / "shared"


def space(*names: str) -> LabelSpace:
    return LabelSpace(names, ((0, 0, 0),) * len(names))


def task_of(
    main: tuple[str, ...], sub: tuple[str, ...], similar: Mapping[str, tuple[str, ...]], added: tuple[str, ...]
) -> Task:
    sets = tuple(frozenset(sub.index(name) for name in similar.get(c, ())) for c in main)
    return Task(space(*main), space(*sub), sets, tuple(sorted(sub.index(name) for name in added)))


def dataset_of(*names: str, unused: tuple[str, ...] = ()) -> Dataset:
    """A data set annotated with these classes; ``unused`` ones are in its classes, but no value means them."""
    return Dataset("d", space(*unused, *names), {i: i + len(unused) for i in range(len(names))}, ())


def meanings(scoring: Scoring, method: str, names: tuple[str, ...]) -> dict[str, str | None]:
    """What each predicted class counts as; None for wrong wherever it is."""
    scored = [*scoring.names, None]
    return {name: scored[k] for name, k in zip(names, scoring.predictions[method][: len(names)], strict=True)}


def truths(scoring: Scoring, dataset: Dataset) -> dict[str, str | None]:
    """What each truth class counts as; None for not scored."""
    return {
        name: None if scoring.truth[i] == NOT_SCORED else scoring.names[scoring.truth[i]]
        for i, name in enumerate(dataset.classes.names)
    }


MAIN = ("wall", "building", "sky", "rider")
SUB = ("sky", "building", "person", "bicycle", "bag")
TASK = task_of(MAIN, SUB, {"wall": ("building",), "building": ("building",), "sky": ("sky",)}, ("person", "bicycle"))


def test_truth_in_sub_classes() -> None:
    dataset = dataset_of("building", "person", "bicycle", "sky", unused=("bag",))
    scoring = scoring_for(dataset, [TASK])
    assert dict(zip(scoring.names, scoring.kinds, strict=True)) == {
        "building": "main",
        "person": "added",
        "bicycle": "added",
        "sky": "main",
    }
    main = {"wall": "building", "building": "building", "sky": "sky", "rider": None}
    assert meanings(scoring, "main_only", MAIN) == main
    assert meanings(scoring, "sub_only", SUB) == {name: name if name != "bag" else None for name in SUB}
    assert meanings(scoring, "table", TASK.output.names) == {**main, "person": "person", "bicycle": "bicycle"}
    assert truths(scoring, dataset) == {name: name if name != "bag" else None for name in dataset.classes.names}
    assert scoring.truth[dataset.classes.unlabelled] == NOT_SCORED
    assert len(scoring.truth) == 256


def test_a_truth_class_neither_similar_nor_added_is_in_no_mean_but_can_be_mistaken() -> None:
    scoring = scoring_for(dataset_of("sky", "bag"), [TASK])
    assert scoring.kinds == ("main", "neither")
    assert meanings(scoring, "table", TASK.output.names)["sky"] == "sky"
    assert meanings(scoring, "sub_only", SUB)["bag"] == "bag"


def test_a_class_the_truth_lacks_is_wrong_wherever_it_is_predicted() -> None:
    scoring = scoring_for(dataset_of("sky", "person"), [TASK])
    assert meanings(scoring, "table", TASK.output.names)["bicycle"] is None
    assert meanings(scoring, "table", TASK.output.names)["building"] is None


def test_sub_classes_of_one_main_class_are_scored_as_one() -> None:
    """A prediction *road* cannot tell the two apart."""
    task = task_of(
        ("road", "sky"), ("path", "sky", "street", "car"), {"road": ("path", "street"), "sky": ("sky",)}, ("car",)
    )
    dataset = dataset_of("street", "path", "sky", "car")
    scoring = scoring_for(dataset, [task])
    assert (scoring.names, scoring.kinds) == (("street/path", "sky", "car"), ("main", "main", "added"))
    assert truths(scoring, dataset) == {"street": "street/path", "path": "street/path", "sky": "sky", "car": "car"}
    assert meanings(scoring, "main_only", task.main.names) == {"road": "street/path", "sky": "sky"}
    assert meanings(scoring, "sub_only", task.sub.names) == truths(scoring, dataset)


def test_main_classes_that_share_a_sub_class_join_all_theirs() -> None:
    task = task_of(
        ("house", "tower", "sky", "wall"),
        ("home", "building", "skyscraper", "sky", "fence"),
        {"house": ("home", "building"), "tower": ("building", "skyscraper"), "sky": ("sky",), "wall": ("fence",)},
        (),
    )
    dataset = dataset_of("sky", "skyscraper", "home", "fence")  # the shared one is not even annotated
    scoring = scoring_for(dataset, [task])
    assert scoring.names == ("sky", "skyscraper/home", "fence")
    assert meanings(scoring, "main_only", task.main.names) == {
        "house": "skyscraper/home",
        "tower": "skyscraper/home",
        "sky": "sky",
        "wall": "fence",
    }
    assert meanings(scoring, "sub_only", task.sub.names)["building"] == "skyscraper/home"


def test_chains_join_whatever_their_order() -> None:
    subs = ("a", "b", "c", "d", "e")
    links = {"1": ("d", "e"), "2": ("a", "b"), "3": ("b", "d"), "4": ("c",)}
    for order in (("1", "2", "3", "4"), ("3", "2", "1", "4"), ("4", "2", "1", "3")):
        task = task_of(order, subs, links, ())
        assert set(scoring_for(dataset_of(*subs), [task]).names) == {"a/b/d/e", "c"}


def test_truth_in_output_classes() -> None:
    dataset = dataset_of("wall", "sky", "rider", "person", unused=("unused",))
    scoring = scoring_for(dataset, [TASK])
    assert dict(zip(scoring.names, scoring.kinds, strict=True)) == {
        "wall": "main",
        "sky": "main",
        "rider": "main",
        "person": "added",
    }
    by_name = {"wall": "wall", "building": None, "sky": "sky", "rider": "rider"}
    assert meanings(scoring, "main_only", MAIN) == by_name
    assert meanings(scoring, "table", TASK.output.names) == {**by_name, "person": "person", "bicycle": None}
    # *building* has a namesake among the output classes, which the truth lacks; it is not *wall* either.
    sub = {"sky": "sky", "building": None, "person": "person", "bicycle": None, "bag": None}
    assert meanings(scoring, "sub_only", SUB) == sub
    assert truths(scoring, dataset)["unused"] is None


def test_in_output_classes_a_sub_class_of_another_name_counts_as_its_one_main_class() -> None:
    similar = {"road": ("path", "street"), "house": ("home", "hut"), "hovel": ("hut",)}
    task = task_of(("road", "house", "hovel"), ("path", "street", "home", "hut", "car"), similar, ("car",))
    scoring = scoring_for(dataset_of("road", "house", "hovel", "car"), [task])
    assert meanings(scoring, "sub_only", task.sub.names) == {
        "path": "road",
        "street": "road",
        "home": "house",
        "hut": None,  # of two
        "car": "car",
    }


def test_truth_of_other_classes_is_refused() -> None:
    message = (
        r"data set 'd': expected ground truth in sub classes \('{}' is none\) or in output classes of .* \('{}' is none"
    )
    with pytest.raises(ConfigError, match=message.format("cat", "cat")):
        scoring_for(dataset_of("sky", "cat"), [TASK])
    with pytest.raises(ConfigError, match=message.format("wall", "bag")):  # some of these, some of those
        scoring_for(dataset_of("bag", "wall"), [TASK])


OTHER_SUB = ("background", "sky", "person", "boat", "tower")
OTHER = task_of(MAIN, OTHER_SUB, {"sky": ("sky",), "building": ("tower",), "wall": ("tower",)}, ("person", "boat"))


@pytest.mark.parametrize("order", [(TASK, OTHER), (OTHER, TASK)], ids=["its task first", "its task second"])
def test_truth_in_the_sub_classes_of_one_of_several_tasks(order: tuple[Task, Task]) -> None:
    dataset = dataset_of("building", "person", "bicycle", "sky", "bag")
    scoring, alone = scoring_for(dataset, order), scoring_for(dataset, [TASK])
    own, others = ("sub_only", "sub2_only") if order[0] is TASK else ("sub2_only", "sub_only")
    assert (scoring.names, scoring.kinds) == (alone.names, alone.kinds)
    assert meanings(scoring, "main_only", MAIN) == meanings(alone, "main_only", MAIN)
    assert meanings(scoring, own, SUB) == meanings(alone, "sub_only", SUB)
    by_name = {"background": None, "sky": "sky", "person": "person", "boat": None}
    # *tower* has no namesake, and all main classes it is similar to count as *building*.
    assert meanings(scoring, others, OTHER_SUB) == {**by_name, "tower": "building"}
    output = (*MAIN, *dict.fromkeys(name for task in order for name in task.output.names[len(MAIN) :]))
    assert set(output[len(MAIN) :]) == {"person", "bicycle", "boat"}
    expected = {**meanings(alone, "table", TASK.output.names), "boat": None}
    assert meanings(scoring, "table", output) == meanings(scoring, "probability", output) == expected
    assert scoring.predictions["table"][255] == len(scoring.names)


def test_a_class_that_another_task_adds_is_an_added_one() -> None:
    """*bag* is neither similar nor added in the task of the ground truth."""
    other = task_of(MAIN, ("bag",), {}, ("bag",))
    dataset = dataset_of("sky", "bag")
    assert scoring_for(dataset, [TASK]).kinds == ("main", "neither")
    assert scoring_for(dataset, [TASK, other]).kinds == ("main", "added")
    scoring = scoring_for(dataset, [TASK, other])
    assert meanings(scoring, "table", (*TASK.output.names, "bag"))["bag"] == "bag"


def test_truth_in_the_output_classes_of_several_tasks() -> None:
    dataset = dataset_of("wall", "rider", "person", "boat")
    scoring = scoring_for(dataset, [TASK, OTHER])
    assert scoring.kinds == ("main", "main", "added", "added")
    output = {"wall": "wall", "building": None, "sky": None, "rider": "rider", "person": "person", "bicycle": None}
    assert meanings(scoring, "table", (*TASK.output.names, "boat")) == {**output, "boat": "boat"}
    assert meanings(scoring, "sub2_only", OTHER_SUB)["boat"] == "boat"
    assert meanings(scoring, "sub2_only", OTHER_SUB)["tower"] is None  # of two main classes
    with pytest.raises(ConfigError, match="expected ground truth in sub classes"):
        scoring_for(dataset_of("wall", "boat"), [TASK])


@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared")
def test_camvid_is_scored_as_its_readme_says() -> None:
    task = Task.load(SHARED / "tasks/ade20k31_cityscapes19.yaml")
    scoring = scoring_for(load_dataset(SHARED / "data/camvid/val.yaml"), [task])
    by_kind = {
        kind: {n for n, k in zip(scoring.names, scoring.kinds, strict=True) if k == kind} for kind in scoring.kinds
    }
    assert by_kind == {
        "main": {"sky", "building", "road", "sidewalk", "vegetation", "car", "person"},
        "added": {"pole", "traffic sign", "fence", "rider"},
    }
    output = meanings(scoring, "table", task.output.names)
    assert {name for name, meaning in output.items() if meaning == "building"} == {"wall", "building", "house"}
    assert {name for name, meaning in output.items() if meaning == "vegetation"} == {"tree", "grass", "plant"}
    assert all(output[name] == name for name in by_kind["added"])
    assert output["other"] is None
    assert set(meanings(scoring, "main_only", task.main.names).values()) == by_kind["main"] | {None}
    assert {k for k, v in meanings(scoring, "sub_only", task.sub.names).items() if v is not None} == set(scoring.names)
    assert tuple(scoring.predictions) == ("main_only", "sub_only", "table", "probability")
