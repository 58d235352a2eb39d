"""Which frames a report shows, and in what colours."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.reports import Drive
from support.tinymodels import World, write_world

from classaug_ros.data.dataset import load_dataset
from classaug_ros.data.examples import Example
from classaug_ros.evaluation.evaluate import FrameScore, Prediction
from classaug_ros.evaluation.report.pictures import KEPT, Pictures, truth_palette
from classaug_ros.imaging.images import Frame
from classaug_ros.rules import Provenance, Rules, RuleSet
from classaug_ros.rules.task import Task

GAINED, LOST, BEST, WORST = (
    "Gained most over main alone",
    "Lost most against main alone",
    "Best frames of the rules",
    "Worst frames of the rules",
)
PROVENANCE = Provenance("t", "m", "s", ("d",), 1, 1, 1, "0", "now")


@dataclass(frozen=True)
class Setting:
    world: World
    task: Task
    rules: RuleSet


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    world = write_world(tmp_path_factory.mktemp("world"), images=2)
    task = Task.load(world.task)
    table = np.array([[0, 3, 4, 0, 0], [1, 3, 4, 1, 1], [2, 2, 2, 2, 2]], np.uint8)
    sources = ("main",) * 3 + ("added",) * 2
    names, sure = (task.main.names, task.sub.names), np.ones(table.shape, np.float32)
    rules = Rules(*names, task.output, sources, table, sure, None, "table", PROVENANCE)
    return Setting(world, task, RuleSet([rules]))


class Numbered:
    """So many frames of a truth of its own; nothing is read from it but its length."""

    def __init__(self, setting: Setting, length: int) -> None:
        self.truth = load_dataset(setting.world.dataset)
        self.name = "numbered"
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Example]:
        raise NotImplementedError


def watched(setting: Setting, scores: Sequence[tuple[float, float]], length: int | None = None) -> Pictures:
    """Show frames with such mIoU of main and rules."""
    pictures = Pictures(Numbered(setting, length or len(scores)), [setting.task], setting.rules)
    labels = np.zeros((4, 6), np.uint8)
    example = Example("x", Frame(np.zeros((4, 6, 3), np.uint8), "rgb"), labels)
    for main, rules in scores:
        score = FrameScore("x", "", 0, 0.1, {"main_only": main, "sub_only": 0.0, "table": rules}, (1.0,))
        pictures(example, Prediction(labels, labels, score))
    return pictures


def positions(pictures: Pictures) -> dict[str, list[int]]:
    return {title: [shot.position for shot in shots] for title, shots in pictures.groups.items()}


def test_the_most_telling_frames_are_kept(setting: Setting) -> None:
    scores = [(0.5, 0.6), (0.5, 0.4), (0.2, 0.9), (0.5, 0.5), (0.6, 0.3), (0.5, 0.7), (0.1, 0.75), (math.nan, math.nan)]
    assert positions(watched(setting, scores)) == {
        GAINED: [2, 6, 5],
        LOST: [4, 1],
        BEST: [2, 6, 5],
        WORST: [4, 1, 3],
    }


def test_neighbours_are_not_shown_together(setting: Setting) -> None:
    """Of 100 frames those of a kind are 5 apart, however good a stretch of them is."""
    scores = [(0.5, 0.5 + max(0.0, 0.3 - abs(number - 50) / 100)) for number in range(100)]
    kept = positions(watched(setting, scores))[GAINED]
    assert kept[0] == 50
    assert len(kept) == KEPT
    assert all(abs(one - other) >= 5 for one, other in combinations(kept, 2))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=60), st.integers(1, 400))
def test_the_very_best_is_always_among_them_and_all_keep_their_distance(
    setting: Setting, scores: list[tuple[float, float]], more: int
) -> None:
    pictures = watched(setting, scores, len(scores) + more)
    apart = max(1, (len(scores) + more) // 20)
    kept = positions(pictures)
    values = [rules for _, rules in scores]
    assert values[kept[BEST][0]] == max(values)
    assert values[kept[WORST][0]] == min(values)
    for shown in kept.values():
        assert len(shown) <= KEPT
        ordered = sorted(shown)
        assert all(later - one >= apart for one, later in pairwise(ordered))


def test_without_ground_truth_those_changed_most_are_kept(setting: Setting) -> None:
    drive = Drive(load_dataset(setting.world.dataset))
    pictures = Pictures(drive, [setting.task], setting.rules)
    for changed, example in enumerate(drive):
        main = np.zeros((12, 10), np.uint8)
        output = main.copy()
        output.flat[:changed] = 3
        score = FrameScore("x", "", 0, 0.1, dict.fromkeys(("main_only", "sub_only", "table"), math.nan), (1.0,))
        pictures(example, Prediction(main, output, score))
    assert positions(pictures) == {"Changed most by the rules": [1, 0]}
    assert list(pictures.groups["Changed most by the rules"][0].views) == ["image", "main alone", "table rules"]


def test_the_truth_has_the_colours_of_what_it_counts_as(setting: Setting) -> None:
    palette = truth_palette(load_dataset(setting.world.dataset), [setting.task], setting.rules)
    colors = dict(zip(setting.rules.output.names, setting.rules.output.colors, strict=True))
    assert palette.shape == (256, 3)
    grey = (128, 128, 128)  # bag is neither similar nor added
    assert [tuple(color) for color in palette[:5]] == [
        colors["road"],
        colors["person"],
        colors["bicycle"],
        grey,
        colors["car"],
    ]
    assert not palette[5:].any()


def test_large_images_are_made_smaller_and_labels_stay_on_their_pixels(setting: Setting, tmp_path: Path) -> None:
    pictures = Pictures(Numbered(setting, 1), [setting.task], setting.rules)
    label = np.zeros((100, 150), np.uint8)
    label[:, 75:] = 4
    example = Example("x", Frame(np.zeros((1000, 1500, 3), np.uint8), "bgr"), label)
    score = FrameScore("x", "", 0, 0.1, {"main_only": 0.1, "sub_only": 0.1, "table": 0.5}, (1.0,))
    pictures(example, Prediction(label, label, score))
    (shot,) = pictures.groups[BEST]
    assert shot.size == (320, 480)
    for view in shot.views.values():
        assert view.startswith(b"\xff\xd8")
        picture = cv2.imdecode(np.frombuffer(view, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        assert picture.shape == (320, 480, 3)
    shown = cv2.imdecode(np.frombuffer(shot.views["table rules"], np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    expected = 0.65 * np.array(setting.rules.output.colors[4])[::-1]
    assert np.abs(shown[:, 260:].mean(axis=(0, 1)) - expected).max() < 4
