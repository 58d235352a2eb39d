"""Counts: triples against a plain loop, samples, the file, and merging."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from classaug_ros.errors import ConfigError
from classaug_ros.fusion import Scores
from classaug_ros.learning.counts import Counts, merge
from classaug_ros.learning.score_samples import Samples


def counts_of(m: int = 2, n: int = 3, seed: int | None = None, images: tuple[str, ...] = (), **changes: Any) -> Counts:
    triples: NDArray[np.int64] = np.zeros((m, n, n), np.int64)
    if seed is not None:
        triples = np.random.default_rng(seed).integers(0, 2**40, triples.shape)
    names = tuple(f"main {i}" for i in range(m)), tuple(f"sub {j}" for j in range(n))
    return replace(Counts(*names, "m" * 64, "s" * 64, triples, list(images), {"d": "f"}), **changes)


def sampled(seed: int, images: int = 3) -> Counts:
    """Counts of a few images with samples."""
    random = np.random.default_rng(seed)
    counts = counts_of(parts=[])
    for number in range(images):
        truth = random.choice(np.array([0, 1, 2, 255], np.uint16), (6, 5))
        main, sub = random.standard_normal((2, 3, 5)), random.standard_normal((3, 6, 5))
        scores = [Scores(each.astype(np.float32), "half_pixel") for each in (main, sub)]
        main_labels, sub_labels = (random.integers(0, most, truth.shape).astype(np.uint8) for most in (2, 3))
        counts.add(f"d/{seed}_{number}", main_labels, sub_labels, truth)
        counts.sample(scores, truth, 3)
    return counts


def assert_same_samples(one: Samples | None, other: Samples | None) -> None:
    assert one is not None
    assert other is not None
    for name in fields(Samples):
        first, second = getattr(one, name.name), getattr(other, name.name)
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second, err_msg=name.name)


def by_hand(m: int, n: int, images: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]) -> NDArray[np.int64]:
    triples = np.zeros((m, n, n), np.int64)
    for main, sub, truth in images:
        for y, x in np.ndindex(main.shape):
            if truth[y, x] < n:
                triples[main[y, x], sub[y, x], truth[y, x]] += 1
    return triples


@settings(max_examples=50)
@given(
    m=st.integers(1, 6),
    n=st.sampled_from([1, 2, 5, 40]),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    images=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_triples_are_those_of_a_plain_loop(m: int, n: int, size: tuple[int, int], images: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    samples = [
        (
            random.integers(0, m, size).astype(np.uint8),
            random.integers(0, n, size).astype(np.uint8),
            random.choice([*range(n), n, 255, 65535], size).astype(np.uint16),
        )
        for _ in range(images)
    ]
    counts = counts_of(m, n)
    for number, sample in enumerate(samples):
        counts.add(f"image {number}", *sample)
    np.testing.assert_array_equal(counts.triples, by_hand(m, n, samples))
    assert counts.images == [f"image {number}" for number in range(images)]


def test_ids_past_8_bits_are_counted() -> None:
    counts = counts_of(3, 300)
    main, sub, truth = (np.array([[value]], np.uint16) for value in (2, 299, 298))
    counts.add("a", main, sub, truth)
    assert counts.triples[2, 299, 298] == counts.triples.sum() == 1


def test_a_saved_file_loads_as_the_same_counts(tmp_path: Path) -> None:
    counts = counts_of(seed=1, images=("d/ä 1", "d/2"), main_classes=("yes", "道"), datasets={"d": "f", "道": "g"})
    counts.save(tmp_path / "new" / "c.npz")
    loaded = Counts.load(tmp_path / "new" / "c.npz")
    np.testing.assert_array_equal(loaded.triples, counts.triples)
    assert replace(loaded, triples=counts.triples).__dict__ == counts.__dict__
    assert all(type(name) is str for name in (*loaded.images, *loaded.main_classes, *loaded.datasets))
    loaded.add("d/3", *(np.zeros((2, 2), np.uint8),) * 3)
    assert loaded.triples[0, 0, 0] == counts.triples[0, 0, 0] + 4


def test_samples_survive_the_file_and_more_are_taken(tmp_path: Path) -> None:
    counts = sampled(1)
    counts.save(tmp_path / "c.npz")
    loaded = Counts.load(tmp_path / "c.npz")
    assert_same_samples(loaded.samples, counts.samples)
    assert len(loaded.samples or ()) >= 3 * 3
    truth = np.full((6, 5), 2, np.uint16)
    scores = [Scores(np.ones((most, 6, 5), np.float32), "half_pixel") for most in (2, 3)]
    for each in (counts, loaded):
        each.add("d/more", *(np.zeros((6, 5), np.uint8),) * 2, truth)
        each.sample(scores, truth, 3)
    assert_same_samples(loaded.samples, counts.samples)
    assert loaded.samples is not None
    assert loaded.samples.image[-3:].tolist() == [3, 3, 3]


def test_counts_without_scores_take_no_samples(tmp_path: Path) -> None:
    counts = counts_of(seed=1, images=("d/1",))
    scores = [Scores(np.ones((most, 6, 5), np.float32), "half_pixel") for most in (2, 3)]
    counts.sample(scores, np.zeros((6, 5), np.uint16), 3)
    counts.save(tmp_path / "c.npz")
    assert Counts.load(tmp_path / "c.npz").samples is counts.samples is None


def test_empty_counts_survive_the_file(tmp_path: Path) -> None:
    counts_of(datasets={}).save(tmp_path / "c.npz")
    loaded = Counts.load(tmp_path / "c.npz")
    assert (loaded.images, loaded.datasets, int(loaded.triples.sum())) == ([], {}, 0)


def arrays(tmp_path: Path, counts: Counts | None = None, **changes: Any) -> Path:
    """A counts file with some of its arrays changed, or left out."""
    (counts or counts_of(seed=1, images=("d/1",))).save(tmp_path / "c.npz")
    with np.load(tmp_path / "c.npz") as archive:
        content = {**archive, **changes}
    np.savez(tmp_path / "c.npz", **{name: array for name, array in content.items() if array is not None})
    return tmp_path / "c.npz"


@pytest.mark.parametrize(
    "content",
    [b"", b"text", b"PK\x03\x04 broken", b"\x93NUMPY", None],
    ids=["empty", "text", "broken", "cut array", "cut archive"],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = arrays(tmp_path)
    path.write_bytes(path.read_bytes()[:-40] if content is None else content)
    with pytest.raises(ConfigError, match=f"^{path}: is not a counts file of `classaug learn`"):
        Counts.load(path)


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = arrays(tmp_path)
    whole = path.read_bytes()
    good = Counts.load(path)
    refused = 0
    for position in range(0, len(whole), 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        try:
            loaded = Counts.load(path)
        except ConfigError:
            refused += 1
        else:  # a byte that means nothing, a date of the archive for one
            np.testing.assert_array_equal(loaded.triples, good.triples)
    assert refused > 50


def test_a_single_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", np.zeros(3))
    with pytest.raises(ConfigError, match=f"^{tmp_path}/c.npy: is not a counts file"):
        Counts.load(tmp_path / "c.npy")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"triples": None}, "is not a counts file"),
        ({"images": None}, "is not a counts file"),
        ({"images": np.array([object()], object)}, "is not a counts file"),
        ({"triples": np.zeros((2, 3, 2), np.int64)}, r"expected 2 x 3 x 3 int64 counts, found \(2, 3, 2\) int64"),
        ({"triples": np.zeros((2, 3, 3))}, r"expected 2 x 3 x 3 int64 counts, found \(2, 3, 3\) float64"),
    ],
    ids=["no triples", "no images", "objects", "shape", "type"],
)
def test_archives_of_something_else_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = arrays(tmp_path, **changes)
    with pytest.raises(ConfigError, match=f"^{path}: {message}"):
        Counts.load(path)


@pytest.mark.parametrize("number", [None, np.array(1), np.array(3), np.array([2, 2])], ids=["none", "1", "3", "two"])
def test_counts_of_another_format_are_refused(tmp_path: Path, number: NDArray[np.int64] | None) -> None:
    path = arrays(tmp_path, format=number)
    message = f"^{path}: was counted by another version of this package; count again$"
    with pytest.raises(ConfigError, match=message):
        Counts.load(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"main": None}, "main: expected float16 SAMPLES x 2, found none", id="an array missing"),
        pytest.param({"image": None}, "image: expected int32 SAMPLES, found none", id="the last array missing"),
        pytest.param(
            {"sub": lambda x: x[:, :2]}, "sub: expected float16 SAMPLES x 3, found float16 SAMPLES x 2", id="classes"
        ),
        pytest.param({"truth": lambda x: x[1:]}, "truth: expected uint16 SAMPLES, found uint16 ", id="length"),
        pytest.param({"main": lambda x: x[0, 0]}, "main: expected float16 2, found float16 ;", id="a number"),
        pytest.param(
            {"weight": lambda x: x.astype(np.float64)}, "weight: expected float32 SAMPLES, found float64", id="type"
        ),
        pytest.param(
            {"truth": lambda x: x + np.uint16(3)}, "hold values that no count gives", id="truth past the classes"
        ),
        pytest.param({"image": lambda x: x + 1}, "hold values that no count gives", id="image past the last"),
        pytest.param({"image": lambda x: x - 1}, "hold values that no count gives", id="image before the first"),
        pytest.param({"main": lambda x: x * np.float16(np.nan)}, "hold values that no count gives", id="no number"),
        pytest.param({"weight": lambda x: 0 * x}, "hold values that no count gives", id="no weight"),
    ],
)
def test_broken_samples_are_refused_in_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    counts = sampled(1)
    samples = counts.samples
    assert samples is not None
    changed = {
        f"samples_{name}": None if change is None else change(getattr(samples, name))
        for name, change in changes.items()
    }
    path = arrays(tmp_path, counts, **changed)
    with pytest.raises(ConfigError) as refused:
        Counts.load(path)
    told = str(refused.value)
    assert told.startswith(f"{path}: samples: {message.replace('SAMPLES', str(len(samples)))}")
    assert told.endswith("; count again")
    assert told.count("\n") == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            {"triples": lambda x: np.full_like(x, -1)}, "holds a count of -1, expected 0 and more", id="negative"
        ),
        pytest.param({"images": lambda x: np.arange(len(x))}, "is not a counts file", id="numbers as images"),
        pytest.param({"datasets": lambda x: x[:, :1]}, "is not a counts file", id="half of the data sets"),
        pytest.param({"main_model": lambda x: x[None]}, "is not a counts file", id="several main models"),
        pytest.param({"main_classes": lambda x: x[0]}, "is not a counts file", id="one main class"),
    ],
)
def test_values_that_no_count_gives_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = arrays(tmp_path)
    with np.load(path) as archive:
        before = {name: archive[name] for name in changes}
    path = arrays(tmp_path, **{name: change(before[name]) for name, change in changes.items()})
    with pytest.raises(ConfigError, match=f"^{path}: {message}"):
        Counts.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{tmp_path}/c.npz: cannot be read: No such file"):
        Counts.load(tmp_path / "c.npz")


def test_merging_adds_up_and_changes_none_of_the_parts() -> None:
    parts = [counts_of(seed=seed, images=(f"d/{seed}",), datasets={name: "f"}) for seed, name in ((1, "d"), (2, "e"))]
    before = [part.triples.copy() for part in parts]
    total = merge([("one", parts[0]), ("two", parts[1])])
    np.testing.assert_array_equal(total.triples, before[0] + before[1])
    assert (total.images, total.datasets) == (["d/1", "d/2"], {"d": "f", "e": "f"})
    for part, triples in zip(parts, before, strict=True):
        np.testing.assert_array_equal(part.triples, triples)
        assert len(part.images) == len(part.datasets) == 1


def test_one_part_is_itself() -> None:
    part = counts_of(seed=1, images=("d/1",))
    total = merge(iter([("one", part)]))
    np.testing.assert_array_equal(total.triples, part.triples)


def test_merging_joins_the_samples_and_numbers_the_images_on() -> None:
    parts = [sampled(seed) for seed in (1, 2, 3)]
    before = [part.samples for part in parts]
    total = merge((str(number), part) for number, part in enumerate(parts))
    samples = total.samples
    assert samples is not None
    assert [total.images[number] for number in np.unique(samples.image)] == [*total.images]
    start = 0
    for number, part in enumerate(before):
        assert part is not None
        mine = (samples.image >= 3 * number) & (samples.image < 3 * number + 3)
        expected = replace(part, image=part.image + np.int32(3 * number))
        assert_same_samples(Samples(*(getattr(samples, name.name)[mine] for name in fields(Samples))), expected)
        start += len(part)
        assert_same_samples(parts[number].samples, part)
    assert len(samples) == start


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": ["d/9", "d/1"]}, "two: image 'd/1' was counted before; give each image to one count only"),
        ({"main_classes": ("main 1", "main 0")}, "two: its main classes differ from the first file's"),
        ({"sub_classes": ("a", "b", "c")}, "two: its sub classes differ"),
        ({"main_model": "x" * 64}, "two: its main model differ"),
        ({"sub_model": "x" * 64}, "two: its sub model differ"),
        ({"datasets": {"d": "other"}}, "data set 'd' has other classes or values than when it was counted before"),
    ],
)
def test_parts_that_do_not_fit_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    first = counts_of(seed=1, images=("d/1",))
    with pytest.raises(ConfigError, match=f"^{message}"):
        merge([("one", first), ("two", counts_of(seed=2, **{"images": ["d/2"], **changes}))])
