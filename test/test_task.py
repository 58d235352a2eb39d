"""Task files: similar and added classes, and every mistake in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.tinymodels import write_classes

from classaug_ros.errors import ConfigError
from classaug_ros.models.labels import LabelSpace
from classaug_ros.rules.task import Task

MAIN = ("road", "building", "rider")
SUB = ("road", "path", "house", "person", "bicycle", "bag")
HEAD = "main: main.csv\nsub: sub.csv\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_classes(tmp_path / "main.csv", MAIN)
    write_classes(tmp_path / "sub.csv", SUB)
    return tmp_path


def load(folder: Path, text: str) -> Task:
    path = folder / "task.yaml"
    path.write_text(text, encoding="utf-8")
    return Task.load(path)


def test_a_task_is_read(folder: Path) -> None:
    task = load(folder, HEAD + "similar: {road: [path, road], building: [house]}\nadd: [bicycle, person]\n")
    assert task.main == LabelSpace.from_csv(folder / "main.csv")
    assert task.sub == LabelSpace.from_csv(folder / "sub.csv")
    assert task.similar == (frozenset({0, 1}), frozenset({2}), frozenset())
    assert task.added == (3, 4)
    assert task.output.names == (*MAIN, "person", "bicycle")
    assert task.output.colors == task.main.colors + task.sub.colors[3:5]


def test_rest_adds_every_class_that_is_similar_to_none(folder: Path) -> None:
    task = load(folder, HEAD + "similar: {road: [road, path]}\nadd: rest\n")
    assert task.added == (2, 3, 4, 5)


def test_similar_may_be_left_out_and_nothing_added(folder: Path) -> None:
    task = load(folder, HEAD + "add: []\n")
    assert task.similar == (frozenset(),) * 3
    assert task.added == ()
    assert task.output == task.main


def test_the_fingerprint_tells_tasks_apart_but_not_spellings(folder: Path) -> None:
    first = load(folder, HEAD + "similar: {road: [road, path]}\nadd: [person, bicycle]\n")
    same = load(folder, HEAD + "add: [bicycle, person]\nsimilar:\n  road: [path, road]\n  building: []\n")
    assert first.fingerprint == same.fingerprint
    black = LabelSpace(first.main.names, ((0, 0, 0),) * 3)
    assert replace(first, main=black).fingerprint == first.fingerprint
    others = (
        replace(first, added=(3,)),
        replace(first, similar=(frozenset({0}), frozenset(), frozenset())),
        replace(first, similar=(frozenset(), frozenset({0, 1}), frozenset())),
        replace(first, main=LabelSpace(("Road", *MAIN[1:]), first.main.colors)),
    )
    assert len({first.fingerprint, *(task.fingerprint for task in others)}) == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            HEAD + "similar: {street: [road]}\nadd: []\n",
            "similar: 'street' is no main class; expected one of: road",
            id="unknown main",
        ),
        pytest.param(
            HEAD + "similar: {road: [street]}\nadd: []\n",
            "similar: road: 'street' is no sub class; expected one of: road, path",
            id="unknown similar",
        ),
        pytest.param(
            HEAD + "add: [tree]\n", "add: 'tree' is no sub class; expected one of: road, path", id="unknown added"
        ),
        pytest.param(
            HEAD + "similar: {road: [path, path]}\nadd: []\n",
            "similar: road: 'path' is given twice",
            id="similar twice",
        ),
        pytest.param(HEAD + "add: [bag, bag]\n", "add: 'bag' is given twice", id="added twice"),
        pytest.param(
            HEAD + "similar: {building: [house]}\nadd: [house]\n",
            "sub class 'house' is both similar to 'building' and added; keep it in one",
            id="both",
        ),
        pytest.param(
            HEAD + "add: [road]\n", "added class 'road' has the name of a main class", id="name of a main class"
        ),
        pytest.param(
            HEAD + "add: rest\n", "added class 'road' has the name of a main class", id="name of a main class by rest"
        ),
        pytest.param(
            HEAD + "add: all\n", "add: expected a list of sub classes or 'rest', found 'all'", id="add as text"
        ),
        pytest.param(HEAD + "add: [1]\n", "add: expected a list of str, found 1", id="add a number"),
        pytest.param(HEAD + "add: [no]\n", "add: expected a list of str, found False", id="add an unquoted no"),
        pytest.param(HEAD, "add: expected str or list, found no such key", id="no add"),
        pytest.param(HEAD + "add: {}\n", "add: expected str or list, found {}", id="add as mapping"),
        pytest.param(
            HEAD + "similar: [road]\nadd: []\n", r"similar: expected dict, found \['road'\]", id="similar as list"
        ),
        pytest.param(
            HEAD + "similar: {road: path}\nadd: []\n",
            "similar: road: expected list, found 'path'",
            id="similar class as text",
        ),
        pytest.param(
            HEAD + "similar: {road: [path], road: []}\nadd: []\n",
            "line 3: 'road' is given twice",
            id="main class twice",
        ),
        pytest.param(
            HEAD + "add: []\nadded: []\n",
            "unknown key 'added'; expected some of add, main, similar, sub",
            id="unknown key",
        ),
        pytest.param("sub: sub.csv\nadd: []\n", "main: expected str, found no such key", id="no main"),
        pytest.param("main: 5\nsub: sub.csv\nadd: []\n", "main: expected str, found 5", id="main a number"),
    ],
)
def test_mistakes_name_the_file_once(folder: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{folder}/task.yaml: {message}") as caught:
        load(folder, text)
    assert str(caught.value).count("task.yaml") == 1


def test_a_missing_classes_file_is_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{folder}/no.csv: cannot be read"):
        load(folder, "main: main.csv\nsub: no.csv\nadd: []\n")


def test_sets_given_from_python_are_checked_too(folder: Path) -> None:
    task = load(folder, HEAD + "add: [person]\n")
    with pytest.raises(ConfigError, match=r"a similar set per main class \(3\), found 2"):
        replace(task, similar=task.similar[:2])
    changes: tuple[dict[str, Any], ...] = ({"added": (6,)}, {"similar": (frozenset({-1}), frozenset(), frozenset())})
    for changed in changes:
        with pytest.raises(ConfigError, match=r"sub class ids must be 0\.\.5"):
            replace(task, **changed)
    with pytest.raises(ConfigError, match="sub class 'person' is both similar to 'rider' and added"):
        replace(task, similar=(frozenset(), frozenset(), frozenset({3})))
