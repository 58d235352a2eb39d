"""The pictures of rules: cells found again by their colours."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from support.tinymodels import random_evidence

from classaug_ros.imaging.drawing import INK, PAPER
from classaug_ros.learning.counts import Counts
from classaug_ros.learning.influence import Influence
from classaug_ros.learning.tablepicture import AGAINST, FADED, FOR, FULL, GRID, draw_influence, draw_table, encode
from classaug_ros.models.labels import LabelSpace
from classaug_ros.rules import Provenance, Rules, derive, groups_of
from classaug_ros.rules.task import Task


def space(prefix: str, count: int, hue: int) -> LabelSpace:
    colors = tuple((hue, 3 * number % 256, (255 - number) % 256) for number in range(count))
    return LabelSpace(tuple(f"{prefix} {number}" for number in range(count)), colors)


def learned(m: int, n: int, triples: NDArray[np.int64]) -> tuple[Rules, Counts]:
    """Rules, of both kinds, that add every sub class from the second on; all main classes mean the same."""
    task = Task(space("main", m, 40), space("sub", n, 200), (frozenset({0}),) * m, tuple(range(1, n)))
    made = Provenance(task.fingerprint, "m", "s", ("d",), 1, int(triples.sum()), 1, "0", "now")
    evidence = random_evidence(groups_of(task).tolist(), m, n)
    return derive(triples, task, made, evidence), Counts(task.main.names, task.sub.names, "m", "s", triples)


def area(picture: NDArray[np.uint8], color: tuple[int, int, int]) -> int:
    return int((picture == color).all(axis=2).sum())


def faded(color: tuple[int, int, int]) -> tuple[int, int, int]:
    red, green, blue = (round(FADED * channel + (1 - FADED) * PAPER) for channel in color)
    return red, green, blue


def test_cells_have_the_colour_of_their_label() -> None:
    triples = np.zeros((2, 3, 3), np.int64)
    triples[0, 0, 0] = triples[0, 1, 1] = triples[0, 2, 2] = 5  # stays, added, added
    triples[1, 0, 0] = 5  # stays; the others are never seen
    rules, counts = learned(2, 3, triples)
    picture = draw_table(rules, counts)
    cell = 28
    kept = area(picture, faded(rules.output.colors[1]))
    assert (cell - 2) ** 2 <= kept <= cell**2
    assert area(picture, faded(rules.output.colors[0])) > kept  # in the legend too
    for number in (2, 3):
        assert area(picture, rules.output.colors[number]) > (cell - 6) ** 2
    unseen = area(draw_table(rules), faded(rules.output.colors[1]))
    assert unseen > 2.5 * kept  # without counts all three cells of the row look alike


def test_near_ties_are_ringed() -> None:
    triples = np.zeros((1, 2, 2), np.int64)
    triples[0, 1] = 50, 51
    rules, counts = learned(1, 2, triples)
    color = rules.output.colors[1]
    tied = area(draw_table(rules, counts), color)
    counts.triples[0, 1] = 0, 101
    assert area(draw_table(rules, counts), color) > tied + 50


@pytest.mark.parametrize(("m", "n"), [(1, 2), (19, 150), (150, 19), (3, 400)])
def test_any_size_is_drawn_whole(m: int, n: int) -> None:
    random = np.random.default_rng(0)
    rules, counts = learned(m, n, random.integers(0, 2, (m, n, n)))
    picture = draw_table(rules, counts)
    assert picture.dtype == np.uint8
    assert picture.shape[1] <= max(2600, 18 * n) + 400
    edges = np.concatenate([picture[:8].ravel(), picture[-8:].ravel(), picture[:, :8].ravel(), picture[:, -8:].ravel()])
    assert (edges == PAPER).all()  # nothing runs out of it
    assert area(picture, GRID) > 0
    assert area(picture, INK) > 0


def influence_of(rules: Rules, *gains: tuple[int, int, float], decided: int | None = None) -> Influence:
    """What nothing speaks for or against, but for some groups and scores; as many groups are decided for anywhere."""
    assert rules.evidence is not None
    count = len(rules.evidence.bias)
    values = np.zeros((count, len(rules.main_classes) + len(rules.sub_classes)))
    for group, score, gain in gains:
        values[group, score] = gain
    return Influence(values, (np.arange(count) < (count if decided is None else decided)).astype(np.float64))


def test_gains_have_their_colour_in_the_row_of_the_class_and_the_column_of_the_score() -> None:
    rules, _ = learned(2, 3, np.ones((2, 3, 3), np.int64))
    white, cell = draw_influence(rules, influence_of(rules)), 28
    changed = {}
    for group, score, gain, color in ((0, 0, FULL, FOR), (2, 4, -3 * FULL, AGAINST), (1, 2, -FULL, AGAINST)):
        picture = draw_influence(rules, influence_of(rules, (group, score, gain)))
        rows, columns = ((picture != white).any(axis=2)).nonzero()
        assert {int(np.ptp(rows)), int(np.ptp(columns))} <= {cell - 2, cell - 3}  # less the line at the end
        assert (picture[rows, columns] == color).all()
        changed[group, score] = rows.min(), columns.min()
    assert changed[2, 4][0] - changed[0, 0][0] == 2 * cell
    assert changed[1, 2][0] - changed[0, 0][0] == cell
    assert changed[2, 4][1] - changed[0, 0][1] == 4 * cell + cell // 2  # a gap between the models
    half = draw_influence(rules, influence_of(rules, (0, 0, FULL / 2)))[changed[0, 0]]
    np.testing.assert_array_equal(half, np.rint((np.array(FOR) + PAPER) / 2))


def test_classes_decided_for_nowhere_are_left_out() -> None:
    rules, _ = learned(2, 3, np.ones((2, 3, 3), np.int64))
    heights = [draw_influence(rules, influence_of(rules, decided=decided)).shape[0] for decided in (1, 2, 3)]
    assert np.diff(heights).tolist() == [28, 28]


@pytest.mark.parametrize(("m", "n"), [(1, 2), (19, 150), (150, 19)])
def test_influence_of_any_size_is_drawn_whole(m: int, n: int) -> None:
    rules, _ = learned(m, n, np.ones((m, n, n), np.int64))
    picture = draw_influence(rules, influence_of(rules, (0, 0, 1.0)))
    edges = np.concatenate([picture[:8].ravel(), picture[-8:].ravel(), picture[:, :8].ravel(), picture[:, -8:].ravel()])
    assert (edges == PAPER).all()
    assert area(picture, GRID) > 0


def test_encoded_it_is_the_same_picture() -> None:
    rules, counts = learned(2, 3, np.ones((2, 3, 3), np.int64))
    picture = draw_table(rules, counts)
    decoded = cv2.imdecode(np.frombuffer(encode(picture), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    np.testing.assert_array_equal(decoded[:, :, ::-1], picture)
