"""Confusion matrices: IoU and mIoU are scikit-learn's."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, jaccard_score

from classaug_ros.evaluation.confusion import ConfusionMatrix, mean_iou


@settings(max_examples=100)
@given(
    classes=st.integers(1, 12),
    size=st.tuples(st.integers(1, 15), st.integers(1, 15)),
    images=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
    skewed=st.booleans(),
)
def test_iou_is_scikit_learn_s(classes: int, size: tuple[int, int], images: int, seed: int, skewed: bool) -> None:
    """With pixels not scored (-1), predictions of no class (K), and classes that do not occur."""
    random = np.random.default_rng(seed)
    top = max(classes // 2, 1) if skewed else classes
    matrix = ConfusionMatrix(classes)
    truths, predictions = [], []
    for _ in range(images):
        truth = random.integers(-1, top, size)
        prediction = np.where(random.random(size) < 0.2, classes, random.integers(0, top, size))
        matrix.update(truth, prediction)
        truths.append(truth[truth >= 0])
        predictions.append(prediction[truth >= 0])
    truth, prediction = np.concatenate(truths), np.concatenate(predictions)
    if not truth.size:
        assert all(map(math.isnan, matrix.iou()))
        assert math.isnan(mean_iou(matrix.iou()))
        return
    labels = range(classes)
    np.testing.assert_array_equal(
        matrix.counts, confusion_matrix(truth, prediction, labels=range(classes + 1))[:classes]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that do not occur
        expected = jaccard_score(truth, prediction, labels=labels, average=None)
    occurs = [bool(((truth == k) | (prediction == k)).any()) for k in labels]
    for value, reference, there in zip(matrix.iou(), expected, occurs, strict=True):
        assert value == pytest.approx(reference) if there else math.isnan(value)
    present = [k for k in labels if occurs[k]]
    mean = jaccard_score(truth, prediction, labels=present, average="macro") if present else math.nan
    assert mean_iou(matrix.iou()) == pytest.approx(mean, nan_ok=True)


def test_by_hand() -> None:
    matrix = ConfusionMatrix(3)
    matrix.update(np.array([[0, 0, 0, 1, 1, -1]]), np.array([[0, 0, 1, 1, 3, 0]]))
    assert matrix.counts.dtype == np.int64
    assert matrix.counts.tolist() == [[2, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]]
    first, second, third = matrix.iou()
    assert (first, second) == (2 / 3, 1 / 3)
    assert math.isnan(third)
    assert mean_iou([first, second, third]) == 0.5


def test_a_class_only_predicted_counts_as_zero() -> None:
    matrix = ConfusionMatrix(2)
    matrix.update(np.zeros((2, 2), int), np.ones((2, 2), int))
    assert matrix.iou() == [0.0, 0.0]


def test_counts_do_not_overflow_32_bits() -> None:
    matrix = ConfusionMatrix(1)
    matrix.counts[0, 0] = 2**40
    matrix.update(np.zeros((1, 1), int), np.ones((1, 1), int))
    assert matrix.iou() == [2**40 / (2**40 + 1)]
