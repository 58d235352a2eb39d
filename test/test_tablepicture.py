"""The picture of a table: cells found again by their colours."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from classaug_ros.drawing import INK, PAPER
from classaug_ros.labels import LabelSpace
from classaug_ros.learning.counts import Counts
from classaug_ros.learning.tablepicture import FADED, GRID, draw_table, encode
from classaug_ros.rules import Provenance, Rules, derive
from classaug_ros.task import Task


def space(prefix: str, count: int, hue: int) -> LabelSpace:
    colors = tuple((hue, 3 * number % 256, (255 - number) % 256) for number in range(count))
    return LabelSpace(tuple(f"{prefix} {number}" for number in range(count)), colors)


def learned(m: int, n: int, triples: NDArray[np.int64]) -> tuple[Rules, Counts]:
    """Rules that add every sub class from the second on."""
    task = Task(space("main", m, 40), space("sub", n, 200), (frozenset({0}),) * m, tuple(range(1, n)))
    made = Provenance(task.fingerprint, "m", "s", ("d",), 1, int(triples.sum()), 1, "0", "now")
    return derive(triples, task, made), Counts(task.main.names, task.sub.names, "m", "s", triples)


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


def test_encoded_it_is_the_same_picture() -> None:
    rules, counts = learned(2, 3, np.ones((2, 3, 3), np.int64))
    picture = draw_table(rules, counts)
    decoded = cv2.imdecode(np.frombuffer(encode(picture), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decoded[:, :, ::-1], picture)
