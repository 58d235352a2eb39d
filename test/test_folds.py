"""Folds: whole recordings are held out, whatever their images are called."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from classaug_ros.learning.folds import BLOCKS, MOST, NEARLY_ALL, folds, recording_of


@pytest.mark.parametrize(
    ("name", "recording"),
    [
        pytest.param("camvid-train/0001TP_006690", "camvid-train/0001TP", id="CamVid"),
        pytest.param("camvid-train/0006R0_f00930", "camvid-train/0006R0_f", id="CamVid, a letter before the number"),
        pytest.param("camvid-train/Seq05VD_f02400", "camvid-train/Seq05VD_f", id="CamVid, letters in the recording"),
        pytest.param(
            "cityscapes-val/frankfurt_000001_054415_leftImg8bit",
            "cityscapes-val/frankfurt_000001",
            id="Cityscapes, a number in a word at the end",
        ),
        pytest.param("ade20k-validation/ADE_val_00000017", "ade20k-validation/ADE_val", id="ADE20K"),
        pytest.param("drive/0007", "drive/", id="a number alone"),
        pytest.param("drive/ausfahrt 12 (3)", "drive/ausfahrt 12", id="a number in brackets"),
        pytest.param("kitti 2012/market", "kitti 2012/market", id="a number in the data set's name: no frame"),
        pytest.param("drive/market", "drive/market", id="no number"),
    ],
)
def test_the_recording_is_the_name_without_the_frame(name: str, recording: str) -> None:
    assert recording_of(name) == recording


def together(names: list[str]) -> dict[str, set[int]]:
    """The parts that the images of each recording are in."""
    parts: dict[str, set[int]] = {}
    for name, part in zip(names, folds(names).tolist(), strict=True):
        parts.setdefault(recording_of(name), set()).add(part)
    return parts


CAMVID = [f"camvid/{recording}_{frame:06}" for recording in ("0001TP", "0006R0", "0016E5") for frame in range(40)]
CITYSCAPES = [
    f"cityscapes/{city}_{sequence:06}_{frame:06}_leftImg8bit"
    for city in ("aachen", "bochum", "ulm")
    for sequence in range(4)
    for frame in range(5)
]


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        pytest.param(CAMVID, 3, id="three recordings: as many parts"),
        pytest.param(CITYSCAPES, MOST, id="twelve recordings: some share a part"),
    ],
)
def test_no_recording_is_in_two_parts(names: list[str], parts: int) -> None:
    assert all(len(found) == 1 for found in together(names).values())
    assert sorted(set(folds(names).tolist())) == list(range(parts))


def test_many_recordings_of_a_size_fill_parts_evenly() -> None:
    sizes = Counter(folds([f"d/r{recording:03}_{frame:03}" for recording in range(40) for frame in range(7)]).tolist())
    assert sorted(sizes.values()) == [8 * 7] * MOST


@pytest.mark.parametrize(
    ("images", "sizes"),
    [(1, [1]), (2, [1, 1]), (3, [1, 1, 1]), (4, [1] * 4), (10, [3, 2, 3, 2]), (400, [400 // BLOCKS] * BLOCKS)],
)
def test_a_single_recording_is_cut_into_blocks_of_neighbours(images: int, sizes: list[int]) -> None:
    parts = folds([f"drive/{number:04}" for number in range(images)])
    assert np.bincount(parts).tolist() == sizes
    assert (np.diff(parts) >= 0).all()


@given(st.lists(st.integers(1, 60), min_size=2, max_size=30))
def test_there_are_always_several_parts_of_whole_recordings(lengths: list[int]) -> None:
    """Also where one recording has most of the images, at the start, in the middle or at the end."""
    assume(max(lengths) <= NEARLY_ALL * sum(lengths))
    names = [f"d/r{number}_{frame}" for number, length in enumerate(lengths) for frame in range(length)]
    assert all(len(found) == 1 for found in together(names).values())
    parts = set(folds(names).tolist())
    assert parts == set(range(len(parts)))
    assert 2 <= len(parts) <= MOST


def test_a_recording_that_holds_nearly_all_images_is_cut_with_the_others_into_blocks() -> None:
    names = [f"d/r{number}_0" for number in range(8)] + [f"d/long_{frame}" for frame in range(500)]
    assert np.bincount(folds(names)).tolist() == [127] * 4
