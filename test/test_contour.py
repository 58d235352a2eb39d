"""Contour quality: what lies how near to an edge, against every pair of pixels, and the scores there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from classaug_ros.evaluation.contour import WITHIN, Contours, distance

TRUTHS = arrays(np.int64, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(-1, 2))


def beside_an_edge(truth: NDArray[np.int64]) -> list[tuple[int, int]]:
    found = []
    for y, x in np.ndindex(truth.shape):
        for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            inside = 0 <= v < truth.shape[0] and 0 <= u < truth.shape[1]
            if inside and truth[y, x] != truth[v, u] and truth[y, x] >= 0 and truth[v, u] >= 0:
                found.append((y, x))
                break
    return found


@given(TRUTHS)
def test_distances_are_those_of_every_pair(truth: NDArray[np.int64]) -> None:
    edge = beside_an_edge(truth)
    away = distance(truth)
    assert away.shape == truth.shape
    for y, x in np.ndindex(truth.shape):
        nearest = min((np.hypot(y - v, x - u) for v, u in edge), default=np.inf)
        assert away[y, x] == pytest.approx(nearest + 0.5, abs=1e-4)


def test_what_is_not_scored_makes_no_edge() -> None:
    truth = np.array([[0, 0, -1, 1, 1]])
    assert np.isinf(distance(truth)).all()
    truth = np.array([[0, 0, -1, 1, 2]])
    np.testing.assert_allclose(distance(truth), [[3.5, 2.5, 1.5, 0.5, 0.5]])


@given(TRUTHS, st.integers(0, 1000))
def test_matrices_hold_the_pixels_within_reach(truth: NDArray[np.int64], seed: int) -> None:
    prediction = np.random.default_rng(seed).integers(0, 4, truth.shape)  # 3 is none of the classes
    contours = Contours(("a", "b"), 3)
    for _ in range(2):
        contours.update(truth, {"a": prediction, "b": np.full_like(prediction, 3)})
    away = distance(truth)
    for within in WITHIN:
        near = (away <= within) & (truth >= 0)
        counts = contours.matrices["a"][within].counts
        assert counts.shape == (3, 4)
        for t, p in np.ndindex(3, 4):
            assert counts[t, p] == 2 * (near & (truth == t) & (prediction == p)).sum()
        assert contours.matrices["b"][within].counts[:, 3].sum() == 2 * near.sum()


def test_a_straight_edge_has_bands_of_these_widths() -> None:
    truth = np.repeat(np.arange(2), 10)[np.newaxis].repeat(4, axis=0)
    contours = Contours(("a",), 2)
    contours.update(truth, {"a": truth})
    for within in WITHIN:
        np.testing.assert_array_equal(contours.matrices["a"][within].counts[:, :2], np.eye(2) * 4 * within)
