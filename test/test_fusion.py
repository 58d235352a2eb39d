"""Fusion: the specification against independent formulas, and the fast form equal to it label for label."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.hardscores import KINDS, scores_of

from classaug_ros import fusion
from classaug_ros.fusion import geometry, reference
from classaug_ros.fusion.cpu import contours as cpu_contours
from classaug_ros.fusion.cpu import evidence as cpu_evidence
from classaug_ros.fusion.cpu import table as cpu_table
from classaug_ros.fusion.cpu.compiled import _private, compiled
from classaug_ros.imaging.images import Frame
from classaug_ros.models.card import Upsampling

CONVENTIONS: tuple[Upsampling, ...] = get_args(Upsampling)
UINT8, UINT16 = np.dtype(np.uint8), np.dtype(np.uint16)
SIZES = [(1, 1), (15, 33), (37, 5), (63, 1000), (360, 480)]  # H, W
GRIDS = [(1, 1), (1, 9), (7, 1), (2, 2), (33, 33), (64, 48)]  # h, w
WORKERS = ThreadPoolExecutor(1)


def assert_same_labels(scores: NDArray[np.float32], size: tuple[int, int], convention: Upsampling) -> None:
    dtype = UINT8 if len(scores) <= 255 else UINT16
    with np.errstate(under="ignore"):
        expected = reference.label_map(scores, size, convention, dtype)
    before = scores.copy()
    for workers in (None, WORKERS):
        labels = cpu_table.label_map(scores, size, convention, dtype, workers)
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
        labels = cpu_table.label_map(np.ones((4, 3, 3), np.float32), (20, 30), convention, UINT8)
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
    for plane, up in zip(scores, reference.upsample(scores, size, "half_pixel"), strict=True):
        by_opencv = cv2.resize(plane, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(up, by_opencv, atol=2e-5)


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
    np.testing.assert_allclose(reference.upsample(scores, size, convention), expected, atol=2e-5)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("samples", [1, 2, 3, 33, 128])
@pytest.mark.parametrize("out", [1, 2, 5, 33, 480])
def test_source_coordinates_stay_inside_the_samples(out: int, samples: int, convention: Upsampling) -> None:
    before, weight = geometry.source_coordinates(out, samples, convention)
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
    rows = {convention: reference.upsample(scores, (1, 8), convention)[0, 0] for convention in CONVENTIONS}
    np.testing.assert_allclose(rows["half_pixel"], [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])
    np.testing.assert_allclose(rows["align_corners"], np.arange(8) * 3 / 7, rtol=1e-6)
    np.testing.assert_allclose(rows["asymmetric"], [0, 0.5, 1, 1.5, 2, 2.5, 3, 3])


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize(("samples", "out"), [(1, 1), (2, 9), (33, 480), (128, 360), (7, 3)])
def test_samples_among_their_own_kind_are_where_they_are(samples: int, out: int, convention: Upsampling) -> None:
    if convention == "align_corners" and out == 1 < samples:
        return
    before, weight = geometry.sample_coordinates(samples, convention, out, samples, convention)
    np.testing.assert_allclose(before + weight, np.arange(samples), atol=1e-5)


def test_samples_among_those_of_another_convention_go_by_the_pixels_of_both() -> None:
    """Two samples of half pixels lie at pixels 1.5 and 5.5 of 8; four that align with corners are 7 / 3 apart."""
    before, weight = geometry.sample_coordinates(2, "half_pixel", 8, 4, "align_corners")
    np.testing.assert_allclose(before + weight, [1.5 * 3 / 7, 5.5 * 3 / 7])
    before, weight = geometry.sample_coordinates(4, "align_corners", 8, 2, "half_pixel")
    np.testing.assert_allclose(before + weight, [0, (7 / 3 + 0.5) / 4 - 0.5, (14 / 3 + 0.5) / 4 - 0.5, 1], atol=1e-6)


def poisoned(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function with memory it asks for filled with the greatest value, so that what it leaves out shows."""
    function(*arguments)  # compiles it, from NumPy as it is
    empty = np.empty

    def filled(shape: Any, dtype: Any = np.float64) -> NDArray[Any]:
        array = empty(shape, dtype)
        array.fill(np.iinfo(array.dtype).max if array.dtype.kind in "iu" else np.inf)  # True for bool
        return array

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "empty", filled)
        return function(*arguments)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (15, 33), (200, 7)], ids=str)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_every_label_is_written(grid: tuple[int, int], size: tuple[int, int], convention: Upsampling) -> None:
    labels = poisoned(cpu_table.label_map, scores_of("noise", (4, *grid), 7), size, convention, UINT8)
    assert labels.max() < 4


@pytest.mark.parametrize("alone", [True, False], ids=["one thread", "two threads"])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("dtype", [UINT8, UINT16], ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (15, 33), (1, 50), (63, 1)], ids=str)
def test_looking_up_and_painting_are_the_specification(
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
        label = poisoned(cpu_table.look_up, main, sub, table, workers)
        painted = poisoned(cpu_table.paint, label, palette, frame, 0.3, workers)
    assert label.dtype == dtype
    assert all(label[y, x] == table[main[y, x], sub[y, x]] for y, x in np.ndindex(shape))
    np.testing.assert_array_equal(label, reference.look_up(main, sub, table))
    for got, want in zip(painted, reference.paint(label, palette, frame, 0.3), strict=True):
        assert got is not None
        assert want is not None
        assert got.dtype == want.dtype == np.uint8
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", [UINT8, UINT16], ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (15, 33), (1, 50), (63, 1)], ids=str)
def test_joining_is_the_specification(shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
    random = np.random.default_rng(13)
    added = np.arange(9) >= 4
    first, further = (random.integers(0, 9, shape).astype(dtype) for _ in range(2))
    sure, surer = (random.integers(0, 4, shape).astype(np.uint8) for _ in range(2))
    before = first.copy(), sure.copy()
    expected = reference.join(first, sure, further, surer, added)
    for y, x in np.ndindex(shape):
        wins = further[y, x] >= 4 and (first[y, x] < 4 or surer[y, x] > sure[y, x])
        assert expected[0][y, x] == (further if wins else first)[y, x]
        assert expected[1][y, x] == (surer if wins else sure)[y, x]
    for workers in (None, WORKERS):
        for got, want in zip(cpu_table.join(first, sure, further, surer, added, workers), expected, strict=True):
            np.testing.assert_array_equal(got, want, strict=True)
    for array, kept in zip((first, sure), before, strict=True):
        np.testing.assert_array_equal(array, kept)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_count_is_the_specification(size: tuple[int, int]) -> None:
    random = np.random.default_rng(11)
    main, sub, truth = (random.integers(0, top, size).astype(np.uint16) for top in (31, 19, 25))
    fast, slow = (random.integers(0, 9, (31, 19, 19)) for _ in range(2))
    slow[:] = fast
    cpu_table.count(main, sub, truth, fast)
    reference.count(main, sub, truth, slow)
    np.testing.assert_array_equal(fast, slow)
    assert fast.dtype == np.int64


def test_without_a_frame_there_is_no_overlay() -> None:
    labels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    palette = np.random.default_rng(12).integers(0, 256, (256, 3), np.uint8)
    for form in (cpu_table.paint, reference.paint):
        color, overlay = form(labels, palette)
        np.testing.assert_array_equal(color, palette[labels])
        assert overlay is None


@pytest.mark.parametrize("alpha", [0.0, 1 / 256, 0.25, 0.5, 0.7, 255 / 256, 1.0])
def test_overlay_is_the_specification_and_close_to_the_formula(alpha: float) -> None:
    levels = np.arange(256, dtype=np.uint8)
    image = np.repeat(np.tile(levels[:, None], (1, 256))[:, :, None], 3, axis=2)
    palette = np.repeat(levels[:, None], 3, axis=1)
    ids = np.tile(levels[None, :], (256, 1))
    color, overlay = cpu_table.paint(ids, palette, Frame(image, "rgb"), alpha)
    assert overlay is not None
    np.testing.assert_array_equal(overlay, reference.blend(image, color, alpha))
    exact = image * (1 - alpha) + color * alpha
    assert np.abs(overlay - exact).max() <= 0.5 + 255 / 512
    if alpha in (0.0, 1.0):
        np.testing.assert_array_equal(overlay, color if alpha else image)
    assert (overlay[levels, levels] == levels[:, None]).all()  # mixing a colour with itself keeps it


def test_overlay_takes_padded_and_read_only_images() -> None:
    random = np.random.default_rng(9)
    ids = random.integers(0, 5, (9, 7)).astype(np.uint8)
    palette = random.integers(0, 256, (256, 3), np.uint8)
    padded = random.integers(0, 256, (9, 40), np.uint8)
    padded.flags.writeable = False
    image = np.lib.stride_tricks.as_strided(padded, (9, 7, 3), (40, 3, 1), writeable=False)
    for order in ("rgb", "bgr"):
        frame = Frame(image, order)
        for got, want in zip(cpu_table.paint(ids, palette, frame), reference.paint(ids, palette, frame), strict=True):
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
    for name in ("label_map", "count", "look_up", "join", "paint"):
        assert getattr(fusion, name) is getattr(cpu_table, name)
    for name in ("group_scores", "output_scores", "label_by_evidence", "confidence"):
        assert getattr(fusion, name) is getattr(cpu_evidence, name)
    assert fusion.guided_label_map is cpu_contours.guided_label_map


def test_without_a_place_for_the_cache_functions_are_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core import caching

    def read_only(self: object) -> None:
        raise OSError(30, "Read-only file system")

    def double(x: int) -> int:
        return 2 * x

    monkeypatch.setattr(caching._CacheLocator, "ensure_cache_path", read_only)
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(cache=True)(double)
    assert compiled(double)(21) == 42


def test_most_cells_of_smooth_scores_are_filled_at_once() -> None:
    """Which is what makes the fast form fast: a class clear at all four corners, the first one too, fills its cell."""
    scores = np.zeros((3, 8, 8), np.float32)
    scores[0, :, :4] = scores[2, :, 4:] = 1
    winners, clear = np.empty((8, 8), np.int32), np.empty((8, 8), np.bool_)
    cpu_table.corner_winners(scores, winners, clear, 0, 8)
    np.testing.assert_array_equal(winners, scores.argmax(axis=0))
    assert clear.all()


@pytest.mark.parametrize(
    ("mode", "kept"),
    [
        pytest.param(0o700, True, id="one's own"),
        pytest.param(0o755, True, id="read by others"),
        pytest.param(0o777, False, id="written by all"),
        pytest.param(0o1777, False, id="sticky, as /tmp is"),
        pytest.param(0o775, True, id="written by the user's own group"),
    ],
)
def test_machine_code_is_kept_where_none_but_the_user_writes(tmp_path: Path, mode: int, kept: bool) -> None:
    """Numba unpickles what lies in its cache, so that who may write there may run code as the user."""
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(mode)
    module = tmp_path / "module.py"
    module.write_text(
        "from classaug_ros.fusion.cpu.compiled import compiled\n\n"
        "@compiled\ndef twice(x):\n    return 2 * x\n\nprint(twice(4))\n"
    )
    root = str(Path(__file__).resolve().parents[1])
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": root}
    done = subprocess.run([sys.executable, module], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "8\n"
    assert bool(list(cache.rglob("*.nbi"))) is kept
    assert ("others may write there" in done.stderr) is not kept


def test_who_waits_for_the_compiler_is_told_so_once(tmp_path: Path) -> None:
    """At the first start; not where the machine code is kept from before."""
    program = "from classaug_ros import fusion\nwith fusion.telling(print):\n    fusion.warm_up()\n    print('ready')\n"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    told = [
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(__file__).resolve().parents[1],
            capture_output=True,
            text=True,
            env=environment,
            timeout=200,
            check=True,
        ).stdout.splitlines()
        for _ in range(2)
    ]
    assert [len(lines) for lines in told] == [2, 1]
    assert told[0][0].startswith("compiling the fusion for this machine")
    assert told[0][1] == told[1][0] == "ready"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_machine_code_of_somebody_else_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 65534, 65534)
    (tmp_path / "group's").mkdir()
    os.chown(tmp_path / "group's", -1, 65534)
    assert _private(str(tmp_path / "group's"))
    (tmp_path / "group's").chmod(0o775)
    _private.cache_clear()
    assert not _private(str(tmp_path / "group's"))
    assert not _private(str(tmp_path / "theirs"))
    assert not _private(str(tmp_path / "theirs" / "below"))
    assert _private(str(tmp_path / "new" / "below"))
    assert _private("")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who lacks a permission")
def test_machine_code_is_not_kept_below_a_folder_without_permission(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    folder = str(tmp_path / "closed" / "below")
    os.seteuid(65534)
    try:
        assert not _private(folder)
    finally:
        os.seteuid(0)
    assert caplog.messages == [f"NUMBA_CACHE_DIR={folder}: Permission denied, so that no machine code is kept"]
