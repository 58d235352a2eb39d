"""Scenes are the same for the same seed, and their two truths agree with each other."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from demo import parts
from demo.datasets import write_dataset, write_drive
from demo.scenes import Frame, render, render_scene
from demo.street import Street

SEEDS = range(500, 512)
RIDER = parts.MAIN_CLASSES.index("rider")
PERSON, BAG, BICYCLE, SIGN = (parts.SUB_CLASSES.index(name) for name in parts.ADDED_CLASSES)
SAME_NAMES = {
    "road": "street",
    "sidewalk": "pavement",
    "building": "house",
    "sky": "sky",
    "tree": "plant",
    "car": "vehicle",
    "pole": "post",
}


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return [render_scene(seed) for seed in SEEDS]


def test_the_same_seed_gives_the_same_pixels(frames: list[Frame]) -> None:
    again = render_scene(SEEDS[0])
    for name in ("image", "main", "sub"):
        np.testing.assert_array_equal(getattr(again, name), getattr(frames[0], name))


def test_another_seed_gives_another_street(frames: list[Frame]) -> None:
    assert (frames[0].sub != frames[1].sub).mean() > 0.05


def test_a_drive_frame_does_not_depend_on_the_frames_before_it() -> None:
    played = Street(7, duration=2.0)
    render(played, 0.4)
    np.testing.assert_array_equal(render(played, 1.0).image, render(Street(7, duration=2.0), 1.0).image)


def test_a_drive_moves_a_little_from_frame_to_frame() -> None:
    street = Street(7, duration=2.0)
    first, next_one, later = (render(street, time).sub for time in (0.0, 0.1, 1.5))
    assert 0 < (first != next_one).mean() < (first != later).mean() < 0.5


def test_image_and_truths_have_the_same_size_and_byte_values(frames: list[Frame]) -> None:
    for frame in frames:
        assert frame.image.shape == (384, 640, 3)
        assert frame.main.shape == frame.sub.shape == (384, 640)
        assert frame.image.dtype == frame.main.dtype == frame.sub.dtype == np.uint8
        assert set(np.unique(frame.main)) <= {*range(len(parts.MAIN_CLASSES)), parts.UNLABELLED}
        assert set(np.unique(frame.sub)) <= set(range(len(parts.SUB_CLASSES)))


@pytest.mark.parametrize("truth", ["main", "sub"])
def test_every_class_is_in_most_scenes(frames: list[Frame], truth: str) -> None:
    classes = parts.MAIN_CLASSES if truth == "main" else parts.SUB_CLASSES
    labels = [getattr(frame, truth) for frame in frames]
    seen = {name: sum(bool((label == i).sum() > 20) for label in labels) for i, name in enumerate(classes)}
    assert {name: count for name, count in seen.items() if count < len(SEEDS) * 0.6} == {}


def test_a_rider_is_a_person_a_bag_and_a_bicycle(frames: list[Frame]) -> None:
    rider = np.concatenate([frame.main.ravel() for frame in frames]) == RIDER
    sub = np.concatenate([frame.sub.ravel() for frame in frames])
    assert set(np.unique(sub[rider])) == {PERSON, BAG, BICYCLE}
    assert rider[sub == BICYCLE].all(), "every bicycle has its rider"
    main = np.concatenate([frame.main.ravel() for frame in frames])
    walking = np.isin(sub, (PERSON, BAG)) & ~rider
    assert walking.any()
    assert (main[walking | (sub == SIGN)] == parts.UNLABELLED).all()


def test_classes_of_both_sets_that_mean_the_same_cover_the_same_pixels(frames: list[Frame]) -> None:
    for main_name, sub_name in SAME_NAMES.items():
        for frame in frames:
            main = frame.main == parts.MAIN_CLASSES.index(main_name)
            np.testing.assert_array_equal(main, frame.sub == parts.SUB_CLASSES.index(sub_name))


def test_the_data_set_on_disk_is_what_was_rendered(tmp_path: Path, frames: list[Frame]) -> None:
    path = write_dataset(tmp_path / "scenes", [SEEDS[0], SEEDS[1]], name="two-scenes")
    described = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert described["name"] == "two-scenes"
    assert described["map"] == dict(enumerate(parts.SUB_CLASSES))
    assert described["ignore"] == [parts.UNLABELLED]
    assert (path.parent / described["classes"]).read_text(encoding="utf-8").startswith("id,name,r,g,b\n0,street,")
    images = sorted((path.parent / described["images"]).iterdir())
    labels = sorted((path.parent / described["labels"]).iterdir())
    assert [image.name for image in images] == [label.name for label in labels]
    for image, label, frame in zip(images, labels, frames, strict=False):
        np.testing.assert_array_equal(cv2.imread(str(image)), frame.image[..., ::-1])
        np.testing.assert_array_equal(cv2.imread(str(label), cv2.IMREAD_UNCHANGED), frame.sub)


def test_a_drive_on_disk_sorts_in_time_order(tmp_path: Path) -> None:
    path = write_drive(tmp_path / "drive", seed=7, frames=3, rate_hz=5.0)
    images = sorted((path.parent / "images").iterdir())
    street = Street(7, duration=3 / 5.0)
    assert len(images) == 3
    for i, image in enumerate(images):
        np.testing.assert_array_equal(cv2.imread(str(image)), render(street, i / 5.0).image[..., ::-1])
