"""Fusion: the specification against independent formulas, and the fast form equal to it label for label."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, get_args

import cv2
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from classaug_ros import fusion
from classaug_ros.fusion import cpu, naive
from classaug_ros.images import Frame
from classaug_ros.models import Upsampling

CONVENTIONS: tuple[Upsampling, ...] = get_args(Upsampling)
UINT8, UINT16 = np.dtype(np.uint8), np.dtype(np.uint16)
SIZES = [(1, 1), (15, 33), (37, 5), (63, 1000), (360, 480)]  # H, W
GRIDS = [(1, 1), (1, 9), (7, 1), (2, 2), (33, 33), (64, 48)]  # h, w


def above(values: NDArray[np.float32], ulps: int) -> NDArray[np.float32]:
    """Return the float32 values so many steps greater."""
    for _ in range(ulps):
        values = np.nextafter(values, np.float32(np.inf))
    return values


def scores_of(kind: str, shape: tuple[int, int, int], seed: int) -> NDArray[np.float32]:
    """Scores that tempt a fast form into mistakes."""
    random = np.random.default_rng(seed)
    noise = random.standard_normal(shape).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(plane, (0, 0), 3) for plane in noise]).reshape(shape)
    few = random.integers(0, 3, shape).astype(np.float32)
    one = np.float32(1)
    by_kind: dict[str, Callable[[], NDArray[Any]]] = {
        "noise": lambda: noise,
        "smooth": lambda: 10 * smooth,
        "ties": lambda: few,
        "mostly ties": lambda: np.where(random.random(shape) < 0.05, few, one),
        "constant": lambda: np.full(shape, random.standard_normal(), np.float32),
        "ulp apart": lambda: np.nextafter(one, few - 1, dtype=np.float32),  # 1 - ulp, 1, or 1 + ulp
        "ulps of smooth": lambda: np.nextafter(smooth, smooth + few - 1, dtype=np.float32)[:1] + 0 * noise,
        "shared, an ulp apart": lambda: np.nextafter(
            np.broadcast_to(smooth[:1], shape), few * 1e9 - 1e9, dtype=np.float32
        ),
        "each an ulp better": lambda: np.stack([above(smooth[0], k) for k in range(shape[0])]),
        "huge": lambda: np.sign(noise) * np.float32(3e38),
        "tiny": lambda: noise * np.float32(1e-38),
        "denormal": lambda: few * np.float32(1e-45),
        "denormal and negative": lambda: (few - 1) * np.float32(3e-45),
        "almost certain": lambda: np.exp(40 * (noise - noise.max(axis=0))),
        "far from zero": lambda: (noise + np.float32(1e6)).astype(np.float32),
        "last wins": lambda: np.linspace(0, 1, shape[0], dtype=np.float32)[:, None, None] + 0 * noise,
        "first wins": lambda: np.linspace(1, 0, shape[0], dtype=np.float32)[:, None, None] + 0 * noise,
    }
    with np.errstate(under="ignore"):
        return by_kind[kind]().astype(np.float32)


KINDS = (
    "noise",
    "smooth",
    "ties",
    "mostly ties",
    "constant",
    "ulp apart",
    "ulps of smooth",
    "shared, an ulp apart",
    "each an ulp better",
    "huge",
    "tiny",
    "denormal",
    "denormal and negative",
    "almost certain",
    "far from zero",
    "last wins",
    "first wins",
)


def assert_same_labels(scores: NDArray[np.float32], size: tuple[int, int], convention: Upsampling) -> None:
    dtype = UINT8 if len(scores) <= 255 else UINT16
    with np.errstate(under="ignore"):
        expected = naive.label_map(scores, size, convention, dtype)
    before = scores.copy()
    labels = cpu.label_map(scores, size, convention, dtype)
    assert labels.shape == size
    assert labels.dtype == dtype
    assert labels.flags.c_contiguous
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(scores, before)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_labels_are_those_of_the_specification(
    grid: tuple[int, int], size: tuple[int, int], convention: Upsampling
) -> None:
    assert_same_labels(scores_of("smooth", (7, *grid), 1), size, convention)
    assert_same_labels(scores_of("ties", (3, *grid), 2), size, convention)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_hard_scores_are_those_of_the_specification(kind: str, convention: Upsampling) -> None:
    for seed, (classes, grid, size) in enumerate([(5, (9, 12), (61, 97)), (19, (33, 33), (120, 160))]):
        assert_same_labels(scores_of(kind, (classes, *grid), seed), size, convention)


@pytest.mark.parametrize("classes", [1, 2, 255, 256, 300])
@pytest.mark.parametrize("kind", ["noise", "ties"])
def test_any_number_of_classes(classes: int, kind: str) -> None:
    assert_same_labels(scores_of(kind, (classes, 6, 8), 3), (37, 50), "half_pixel")


@settings(max_examples=150)
@given(
    kind=st.sampled_from(KINDS),
    shape=st.tuples(st.integers(1, 12), st.integers(1, 20), st.integers(1, 20)),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    convention=st.sampled_from(CONVENTIONS),
    seed=st.integers(0, 2**32 - 1),
)
def test_labels_equal_the_specification_whatever_the_size(
    kind: str, shape: tuple[int, int, int], size: tuple[int, int], convention: Upsampling, seed: int
) -> None:
    assert_same_labels(scores_of(kind, shape, seed), size, convention)


@settings(max_examples=60)
@given(
    values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=12, max_size=12),
    convention=st.sampled_from(CONVENTIONS),
)
def test_labels_equal_the_specification_whatever_the_values(values: list[float], convention: Upsampling) -> None:
    assert_same_labels(np.array(values, np.float32).reshape(3, 2, 2), (9, 11), convention)


def test_equal_scores_give_the_lowest_class() -> None:
    for convention in CONVENTIONS:
        labels = cpu.label_map(np.ones((4, 3, 3), np.float32), (20, 30), convention, UINT8)
        assert not labels.any()


@pytest.mark.parametrize("layout", ["transposed", "strided", "reversed", "fortran", "read-only"])
def test_scores_of_any_memory_layout(layout: str) -> None:
    plain = scores_of("smooth", (5, 12, 16), 4)
    views: dict[str, Any] = {
        "transposed": np.ascontiguousarray(plain.transpose(1, 2, 0)).transpose(2, 0, 1),
        "strided": np.repeat(plain, 2, axis=2)[:, :, ::2],
        "reversed": plain[:, ::-1].copy()[:, ::-1],
        "fortran": np.asfortranarray(plain),
        "read-only": plain.copy(),
    }
    view = views[layout]
    view.flags.writeable = layout != "read-only"
    np.testing.assert_array_equal(view, plain)
    assert_same_labels(view, (50, 41), "align_corners")


@pytest.mark.parametrize("size", [(11, 300), (120, 90), (5, 3), (1, 1)], ids=str)
@pytest.mark.parametrize("grid", [(33, 17), (4, 60), (1, 5), (1, 1)], ids=str)
def test_half_pixel_is_opencv_s_bilinear_resize(grid: tuple[int, int], size: tuple[int, int]) -> None:
    scores = scores_of("noise", (2, *grid), 5)
    for plane, up in zip(scores, naive.upsample(scores, size, "half_pixel"), strict=True):
        reference = cv2.resize(plane, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(up, reference, atol=2e-5)


@pytest.mark.parametrize("size", [(11, 300), (120, 90), (5, 3), (1, 2)], ids=str)
@pytest.mark.parametrize("grid", [(33, 17), (4, 60), (1, 5), (1, 1)], ids=str)
@pytest.mark.parametrize("convention", ["align_corners", "asymmetric"])
def test_other_conventions_are_linear_interpolation_at_their_positions(
    convention: Upsampling, grid: tuple[int, int], size: tuple[int, int]
) -> None:
    def positions(out: int, samples: int) -> NDArray[Any]:
        if convention == "align_corners":  # first on first, last on last
            return np.linspace(0, samples - 1, out)
        return np.array([min(i / (out / samples), samples - 1) for i in range(out)])

    scores = scores_of("noise", (2, *grid), 6)
    across = [[np.interp(positions(size[1], grid[1]), range(grid[1]), row) for row in plane] for plane in scores]
    expected = [
        np.stack([np.interp(positions(size[0], grid[0]), range(grid[0]), column) for column in np.transpose(plane)], 1)
        for plane in across
    ]
    np.testing.assert_allclose(naive.upsample(scores, size, convention), expected, atol=2e-5)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("samples", [1, 2, 3, 33, 128])
@pytest.mark.parametrize("out", [1, 2, 5, 33, 480])
def test_source_coordinates_stay_inside_the_samples(out: int, samples: int, convention: Upsampling) -> None:
    before, weight = naive.source_coordinates(out, samples, convention)
    assert before.shape == weight.shape == (out,)
    assert weight.dtype == np.float32
    assert before.min() >= 0
    assert before.max() <= max(samples - 2, 0)
    assert (np.diff(before) >= 0).all()
    assert weight.min() >= 0
    assert weight.max() <= 1
    assert (before + (weight > 0)).max() < samples


def test_the_conventions_differ_where_they_should() -> None:
    scores = np.array([[[0, 1, 2, 3]]], np.float32)
    rows = {convention: naive.upsample(scores, (1, 8), convention)[0, 0] for convention in CONVENTIONS}
    np.testing.assert_allclose(rows["half_pixel"], [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])
    np.testing.assert_allclose(rows["align_corners"], np.arange(8) * 3 / 7, rtol=1e-6)
    np.testing.assert_allclose(rows["asymmetric"], [0, 0.5, 1, 1.5, 2, 2.5, 3, 3])


def poisoned(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function with memory it asks for filled with the greatest value, so that what it leaves out shows."""
    function(*arguments)  # compiles it, from NumPy as it is
    empty = np.empty

    def filled(shape: Any, dtype: Any = np.float64) -> NDArray[Any]:
        array = empty(shape, dtype)
        array.fill(np.iinfo(array.dtype).max)
        return array

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "empty", filled)
        return function(*arguments)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (15, 33), (200, 7)], ids=str)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_every_label_is_written(grid: tuple[int, int], size: tuple[int, int], convention: Upsampling) -> None:
    labels = poisoned(cpu.label_map, scores_of("noise", (4, *grid), 7), size, convention, UINT8)
    assert labels.max() < 4


@pytest.mark.parametrize("alone", [True, False], ids=["one thread", "two threads"])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("dtype", [UINT8, UINT16], ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (15, 33), (1, 50), (63, 1)], ids=str)
def test_fuse_is_the_specification(
    shape: tuple[int, int], dtype: np.dtype[Any], order: Literal["rgb", "bgr"], alone: bool
) -> None:
    random = np.random.default_rng(8)
    top = np.iinfo(dtype).max
    table = random.integers(0, top, (31, 19)).astype(dtype)
    table[0, 0] = top  # unlabelled has a colour too
    main, sub = random.integers(0, 31, shape).astype(np.uint8), random.integers(0, 19, shape).astype(np.uint8)
    main[0, 0] = sub[0, 0] = 0
    palette = random.integers(0, 256, (top + 1, 3), np.uint8)
    frame = Frame(random.integers(0, 256, (*shape, 3), np.uint8), order)
    with ThreadPoolExecutor(1) as pool:
        workers = None if alone else pool
        label, color, overlay = poisoned(
            lambda: cpu.fuse(main, sub, table, palette=palette, frame=frame, alpha=0.3, workers=workers)
        )
    assert label.dtype == dtype
    assert all(label[y, x] == table[main[y, x], sub[y, x]] for y, x in np.ndindex(shape))
    expected = naive.fuse(main, sub, table, palette=palette, frame=frame, alpha=0.3)
    for got, want in zip((label, color, overlay), expected, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_count_is_the_specification(size: tuple[int, int]) -> None:
    random = np.random.default_rng(11)
    main, sub, truth = (random.integers(0, top, size).astype(np.uint16) for top in (31, 19, 25))
    fast, slow = (random.integers(0, 9, (31, 19, 19)) for _ in range(2))
    slow[:] = fast
    cpu.count(main, sub, truth, fast)
    naive.count(main, sub, truth, slow)
    np.testing.assert_array_equal(fast, slow)
    assert fast.dtype == np.int64


def test_fuse_makes_only_what_is_asked_for() -> None:
    labels = np.zeros((4, 6), np.uint8)
    table = np.ones((1, 1), np.uint8)
    palette = np.full((256, 3), 9, np.uint8)
    for form in (cpu.fuse, naive.fuse):
        assert [part is None for part in form(labels, labels, table)] == [False, True, True]
        assert [part is None for part in form(labels, labels, table, palette=palette)] == [False, False, True]


@pytest.mark.parametrize("alpha", [0.0, 1 / 256, 0.25, 0.5, 0.7, 255 / 256, 1.0])
def test_overlay_is_the_specification_and_close_to_the_formula(alpha: float) -> None:
    levels = np.arange(256, dtype=np.uint8)
    image = np.repeat(np.tile(levels[:, None], (1, 256))[:, :, None], 3, axis=2)
    palette = np.repeat(levels[:, None], 3, axis=1)
    ids = np.tile(levels[None, :], (256, 1))
    table = levels[None, :]
    frame = Frame(image, "rgb")
    _, color, overlay = cpu.fuse(np.zeros_like(ids), ids, table, palette=palette, frame=frame, alpha=alpha)
    assert color is not None
    assert overlay is not None
    np.testing.assert_array_equal(overlay, naive.blend(image, color, alpha))
    exact = image * (1 - alpha) + color * alpha
    assert np.abs(overlay - exact).max() <= 0.5 + 255 / 512
    if alpha in (0.0, 1.0):
        np.testing.assert_array_equal(overlay, color if alpha else image)
    assert (overlay[levels, levels] == levels[:, None]).all()  # mixing a colour with itself keeps it


def test_overlay_takes_padded_and_read_only_images() -> None:
    random = np.random.default_rng(9)
    ids = random.integers(0, 5, (9, 7)).astype(np.uint8)
    table = np.arange(25, dtype=np.uint8).reshape(5, 5)
    palette = random.integers(0, 256, (256, 3), np.uint8)
    padded = random.integers(0, 256, (9, 40), np.uint8)
    padded.flags.writeable = False
    image = np.lib.stride_tricks.as_strided(padded, (9, 7, 3), (40, 3, 1), writeable=False)
    for order in ("rgb", "bgr"):
        frame = Frame(image, order)
        fast = cpu.fuse(ids, ids, table, palette=palette, frame=frame)
        for got, want in zip(fast, naive.fuse(ids, ids, table, palette=palette, frame=frame), strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (4, 7), (33, 33), (500, 3)], ids=str)
def test_nearest_takes_the_label_each_centre_lies_in(shape: tuple[int, int], size: tuple[int, int]) -> None:
    labels = np.random.default_rng(10).integers(0, 300, shape).astype(np.uint16)
    resized = fusion.nearest(labels, size)
    assert resized.shape == size
    assert resized.dtype == np.uint16
    rows = [int((y + 0.5) / size[0] * shape[0]) for y in range(size[0])]
    columns = [int((x + 0.5) / size[1] * shape[1]) for x in range(size[1])]
    np.testing.assert_array_equal(resized, labels[np.ix_(rows, columns)])


def test_the_package_runs_the_fast_form() -> None:
    for name in ("label_map", "count", "fuse"):
        assert getattr(fusion, name) is getattr(cpu, name)


def test_without_a_place_for_the_cache_functions_are_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core import caching

    def read_only(self: object) -> None:
        raise OSError(30, "Read-only file system")

    def double(x: int) -> int:
        return 2 * x

    monkeypatch.setattr(caching._CacheLocator, "ensure_cache_path", read_only)
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(cache=True)(double)
    assert cpu._compiled(double)(21) == 42


def test_most_cells_of_smooth_scores_are_filled_at_once() -> None:
    """Which is what makes the fast form fast: a class clear at all four corners, the first one too, fills its cell."""
    scores = np.zeros((3, 8, 8), np.float32)
    scores[0, :, :4] = scores[2, :, 4:] = 1
    winners, clear = cpu._corner_winners(scores)
    np.testing.assert_array_equal(winners, scores.argmax(axis=0))
    assert clear.all()
