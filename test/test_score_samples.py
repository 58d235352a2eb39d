"""Samples: which pixels of an image are taken, what they weigh, and that their scores are the upsampled ones."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from classaug_ros.fusion import Scores, reference
from classaug_ros.learning.score_samples import LEAST_PER_CLASS, MOST_PER_CLASS, PER_CLASS_IN_ALL, Samples, per_class
from classaug_ros.models.card import Upsampling

CONVENTIONS: tuple[Upsampling, ...] = get_args(Upsampling)
SUBS = 5


def scores_of(
    seed: int, convention: Upsampling = "half_pixel", sub: Upsampling = "align_corners"
) -> tuple[Scores, ...]:
    random = np.random.default_rng(seed)
    main, sub_values = random.standard_normal((3, 7, 6)), random.standard_normal((SUBS, 4, 9))
    return (
        Scores(np.asarray(10 * main, np.float32), convention),
        Scores(np.asarray(10 * sub_values, np.float32), sub),
    )


def truth_of(seed: int, size: tuple[int, int]) -> NDArray[np.uint16]:
    """Some of the classes, at most one pixel of the last, and two sorts of unlabelled."""
    random = np.random.default_rng(seed)
    truth = random.choice(np.array([0, 1, 3, SUBS, 65535], np.uint16), size, p=[0.5, 0.2, 0.1, 0.1, 0.1])
    truth[0, 0] = SUBS - 1
    return truth


@given(size=st.tuples(st.integers(1, 30), st.integers(1, 30)), most=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_every_class_has_its_share_of_the_samples_and_all_its_weight(
    size: tuple[int, int], most: int, seed: int
) -> None:
    truth = truth_of(seed, size)
    samples = Samples.of("d/1", 7, scores_of(seed), truth, most)
    for number in range(SUBS):
        pixels, taken = int((truth == number).sum()), samples.truth == number
        assert taken.sum() == min(most, pixels)
        assert samples.weight[taken].sum() == pytest.approx(pixels, rel=1e-5)
    assert samples.truth.max() < SUBS  # unlabelled ones are never taken
    assert (samples.image == 7).all()
    assert samples.sound(8)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("sub", CONVENTIONS)
def test_scores_are_those_of_the_upsampled_model_at_the_pixel(convention: Upsampling, sub: Upsampling) -> None:
    size = (13, 17)
    scores = scores_of(3, convention, sub)
    truth = np.arange(size[0] * size[1], dtype=np.uint16).reshape(size)  # so that the truth says which pixel it is
    wide = Scores(np.zeros((truth.size, 1, 1), np.float32), "half_pixel")
    for number, each in enumerate(scores):
        pair = (each, wide)
        samples = Samples.of("d/1", 0, pair, truth, 1)
        assert len(samples) == truth.size
        expected = reference.upsample(each.values, size, each.convention).reshape(len(each.values), -1).T
        centred = expected - expected.mean(axis=1, keepdims=True)
        np.testing.assert_array_equal(samples.main, centred[samples.truth].astype(np.float16), err_msg=str(number))


def test_a_large_part_that_all_scores_have_in_common_costs_no_digits() -> None:
    truth = np.zeros((13, 17), np.uint16)
    near, far = scores_of(3), tuple(replace(each, values=each.values + np.float32(3000)) for each in scores_of(3))
    one, other = (Samples.of("d/1", 0, scores, truth, 50) for scores in (near, far))
    np.testing.assert_allclose(one.main, other.main, rtol=1e-3, atol=2e-3)  # float32 itself has left so many at 3000


def test_the_same_image_gives_the_same_samples_and_another_name_others() -> None:
    truth = np.zeros((40, 40), np.uint16)
    first, again, other = (Samples.of(name, 0, scores_of(1), truth, 20) for name in ("d/1", "d/1", "d/2"))
    for field in fields(Samples):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(again, field.name))
    assert (first.main != other.main).any()


def test_pixels_are_taken_from_all_over_the_image() -> None:
    ramp = np.linspace(0, 1, 100, dtype=np.float32)  # says which row it is
    scores = Scores(np.stack([ramp, -ramp]).reshape(2, 100, 1), "half_pixel")
    samples = Samples.of("d/1", 0, (scores, scores), np.zeros((100, 9), np.uint16), 200)
    rows = np.sort(samples.main[:, 0].astype(float))
    assert np.abs(rows - np.linspace(0, 1, 200)).max() < 0.15


def test_an_image_without_labels_gives_no_samples() -> None:
    samples = Samples.of("d/1", 0, scores_of(1), np.full((5, 6), 65535, np.uint16), 3)
    assert (len(samples), samples.main.shape, samples.sub.shape) == (0, (0, 3), (0, SUBS))
    assert samples.sound(1)


def test_scores_past_half_precision_stay_finite() -> None:
    values = np.full((2, 3, 3), 3e38, np.float32)
    values[1] *= -1
    samples = Samples.of("d/1", 0, (Scores(values, "half_pixel"),) * 2, np.zeros((3, 3), np.uint16), 4)
    assert samples.sound(1)
    assert (samples.main[:, 0] > samples.main[:, 1]).all()


def test_parts_are_joined_in_order() -> None:
    parts = [Samples.of(f"d/{k}", k, scores_of(k), truth_of(k, (9, 8)), 4) for k in range(3)]
    joined = Samples.joined([Samples.none(3, SUBS), *parts])
    assert len(joined) == sum(map(len, parts))
    np.testing.assert_array_equal(joined.image, np.concatenate([part.image for part in parts]))
    assert [getattr(joined, field.name).dtype for field in fields(Samples)] == [
        getattr(parts[0], field.name).dtype for field in fields(Samples)
    ]


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        pytest.param(0, MOST_PER_CLASS, id="no image"),
        pytest.param(1, MOST_PER_CLASS, id="one image"),
        pytest.param(PER_CLASS_IN_ALL // 10, 10, id="as many as are aimed at in all"),
        pytest.param(10**6, LEAST_PER_CLASS, id="a million images"),
    ],
)
def test_fewer_pixels_are_taken_of_more_images(images: int, expected: int) -> None:
    assert per_class(images) == expected
