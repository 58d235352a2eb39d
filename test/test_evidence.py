"""Fusion by evidence: the specification against formulas by hand, and the fast form equal to it bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.hardscores import KINDS, scores_of
from support.tinymodels import random_evidence

from classaug_ros.fusion import Scores, reference
from classaug_ros.fusion.cpu import contours as cpu_contours
from classaug_ros.fusion.cpu import evidence as cpu_evidence
from classaug_ros.fusion.cpu import table as cpu_table
from classaug_ros.fusion.geometry import source_coordinates
from classaug_ros.models.card import Upsampling
from classaug_ros.rules import Evidence, Prefer

CONVENTIONS: tuple[Upsampling, ...] = get_args(Upsampling)
PREFERENCES: tuple[Prefer, ...] = get_args(Prefer)
UINT8, UINT16 = np.dtype(np.uint8), np.dtype(np.uint16)
WORKERS = ThreadPoolExecutor(1)

Floats = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Case:
    """What fusion by evidence is given."""

    main: Scores
    sub: Scores
    evidence: Evidence
    size: tuple[int, int]

    def groups(self) -> Scores:
        return cpu_evidence.group_scores(self.main, self.sub, self.evidence, self.size)

    def outputs(self, prefer: Prefer = "evidence") -> Scores:
        return cpu_evidence.output_scores(self.groups(), self.main, self.evidence, prefer, self.size)

    def label(self, prefer: Prefer = "evidence") -> NDArray[Any]:
        scores = self.outputs(prefer)
        return cpu_table.label_map(scores.values, self.size, scores.convention, UINT8)


def scores(kind: str, shape: tuple[int, int, int], seed: int, convention: Upsampling = "half_pixel") -> Scores:
    values = scores_of(kind, shape, seed)
    return Scores(values * np.float32(1e-9) if kind == "huge" else values, convention)  # sums stay finite


def whole(shape: tuple[int, int, int], seed: int, convention: Upsampling = "half_pixel") -> Scores:
    """Whole numbers -20..20: sums of quarters of them are exact."""
    return Scores(np.random.default_rng(seed).integers(-20, 21, shape).astype(np.float32), convention)


def sparse(evidence: Evidence, seed: int) -> Evidence:
    """Most weights 0, and some rows all of them, as for groups that nothing was learned of."""
    random = np.random.default_rng(seed)
    main, sub = (np.where(random.random(w.shape) < 0.8, 0, w).astype(np.float32) for w in (evidence.main, evidence.sub))
    main[::3] = 0
    sub[1::2] = 0
    return replace(evidence, main=main, sub=sub)


def assert_equal_forms(case: Case, seed: int = 0) -> None:
    """Every result of the fast form, with and without a second thread, against the specification."""
    dtype = UINT8 if case.evidence.groups.size <= 255 else UINT16
    brightness = np.random.default_rng(seed).integers(0, 256, case.size).astype(np.uint8)
    main, sub, evidence, size = case.main, case.sub, case.evidence, case.size
    before = main.values.copy(), sub.values.copy()
    with np.errstate(under="ignore"):
        groups = reference.group_scores(main, sub, evidence, size)
        for prefer in PREFERENCES:
            outputs = reference.output_scores(groups, main, evidence, prefer, size)
            label = reference.label_map(outputs.values, size, outputs.convention, dtype)
            sure = reference.confidence(label, groups, evidence.groups)
            guided = reference.guided_label_map(*reference.guided(outputs, brightness), brightness, dtype)
            for workers in (None, WORKERS):
                fast = cpu_evidence.group_scores(main, sub, evidence, size, workers)
                assert fast.convention == groups.convention
                np.testing.assert_array_equal(fast.values, groups.values, strict=True)
                fast = cpu_evidence.output_scores(groups, main, evidence, prefer, size, workers)
                assert fast.convention == groups.convention
                np.testing.assert_array_equal(fast.values, outputs.values, strict=True)
                labels = cpu_table.label_map(fast.values, size, fast.convention, dtype, workers)
                np.testing.assert_array_equal(labels, label, strict=True)
                through = cpu_evidence.label_by_evidence(main, sub, evidence, prefer, size, dtype, workers)
                np.testing.assert_array_equal(through, label)
                shares = cpu_evidence.confidence(label, groups, evidence.groups, workers)
                np.testing.assert_array_equal(shares, sure, strict=True)
                labels = cpu_contours.guided_label_map(outputs, brightness, dtype, workers)
                np.testing.assert_array_equal(labels, guided, strict=True)
    np.testing.assert_array_equal(main.values, before[0])
    np.testing.assert_array_equal(sub.values, before[1])


@pytest.mark.parametrize("conventions", [(a, b) for a in CONVENTIONS for b in CONVENTIONS], ids="-".join)
@pytest.mark.parametrize("grids", [((9, 12), (5, 5)), ((4, 7), (12, 12)), ((8, 8), (8, 8))], ids=str)
def test_the_fast_form_is_the_specification(
    grids: tuple[tuple[int, int], tuple[int, int]], conventions: tuple[Upsampling, Upsampling]
) -> None:
    main, sub = (
        scores("noise", (k, *grid), k, convention)
        for k, grid, convention in zip((4, 6), grids, conventions, strict=True)
    )
    evidence = random_evidence((0, 1, 1, 2, 3, 4), 4, 6)
    for size in ((1, 1), (15, 33), (7, 360), (64, 48)):
        assert_equal_forms(Case(main, sub, evidence, size))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Models of any sizes, with any of their main classes in one group."""
    m, n, added = draw(st.integers(1, 8)), draw(st.integers(1, 8)), draw(st.integers(0, 3))
    team = draw(st.lists(st.integers(0, m - 1), min_size=m, max_size=m))
    names = list(dict.fromkeys(team))
    groups = [*(names.index(group) for group in team), *range(len(names), len(names) + added)]
    grids = draw(st.tuples(*[st.integers(1, 13)] * 4))
    equal = draw(st.booleans())
    seed = draw(st.integers(0, 2**32 - 3))
    kinds, conventions = st.sampled_from(KINDS), st.sampled_from(CONVENTIONS)
    main = scores(draw(kinds), (m, *grids[:2]), seed, draw(conventions))
    sub = scores(draw(kinds), (n, *(grids[:2] if equal else grids[2:])), seed + 1, draw(conventions))
    evidence = random_evidence(groups, m, n, seed + 2)
    return Case(main, sub, sparse(evidence, seed) if draw(st.booleans()) else evidence, draw(SIZES))


SIZES = st.tuples(st.integers(1, 40), st.integers(1, 60))


@settings(max_examples=150)
@given(case=cases(), seed=st.integers(0, 2**32 - 1))
def test_the_fast_form_is_the_specification_whatever_it_is_given(case: Case, seed: int) -> None:
    assert_equal_forms(case, seed)


@pytest.mark.parametrize(("mains", "added"), [(255, 0), (250, 6), (200, 100)])
def test_up_to_300_classes(mains: int, added: int) -> None:
    groups = [*(k // 2 for k in range(mains)), *range((mains + 1) // 2, (mains + 1) // 2 + added)]
    case = Case(
        scores("noise", (mains, 6, 5), 1),
        scores("smooth", (150, 4, 9), 2),
        random_evidence(groups, mains, 150),
        (13, 9),
    )
    assert_equal_forms(case)
    assert_equal_forms(replace(case, evidence=sparse(case.evidence, 4)))


def test_more_samples_than_one_tile_holds() -> None:
    assert_equal_forms(
        Case(
            scores("smooth", (3, 40, 60), 1),
            scores("noise", (2, 50, 50), 2),
            random_evidence((0, 1, 2, 3), 3, 2),
            (9, 9),
        )
    )


@pytest.mark.parametrize("layout", ["transposed", "strided", "read-only"])
def test_scores_of_any_memory_layout(layout: str) -> None:
    plain = scores("smooth", (4, 12, 16), 4).values
    views: dict[str, Floats] = {
        "transposed": np.ascontiguousarray(plain.transpose(1, 2, 0)).transpose(2, 0, 1),
        "strided": np.repeat(plain, 2, axis=2)[:, :, ::2],
        "read-only": plain.copy(),
    }
    view = views[layout]
    view.flags.writeable = layout != "read-only"
    for other in ((5, 5), (20, 20)):
        sub = scores("noise", (3, *other), 5)
        assert_equal_forms(Case(Scores(view, "asymmetric"), sub, random_evidence((0, 0, 1, 2), 4, 3), (50, 41)))


def assert_equal_guided(black: Floats, white: Floats, brightness: NDArray[np.uint8], convention: Upsampling) -> None:
    """Hold the fast form to the specification on scores that ``guided`` would not give."""
    ids = np.arange(len(black))[::-1].copy()
    with np.errstate(under="ignore"):
        bent = Scores(black, convention), Scores(white, convention), ids
        expected = reference.guided_label_map(*bent, brightness, UINT8)
    _, h, w = black.shape
    row, down = source_coordinates(brightness.shape[0], h, convention)
    column, right = source_coordinates(brightness.shape[1], w, convention)
    rows, columns = cpu_table.cell_starts(row, max(h - 1, 1)), cpu_table.cell_starts(column, max(w - 1, 1))
    labels = np.full(brightness.shape, 99, np.uint8)
    cells = rows, columns, down, right
    cpu_contours._fill_guided(black, white, ids, brightness, *cells, labels, 0, rows.size - 1)
    np.testing.assert_array_equal(labels, expected)


@settings(max_examples=300)
@given(
    kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6)),
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    convention=st.sampled_from(CONVENTIONS),
    seed=st.integers(0, 2**32 - 2),
    alike=st.booleans(),
)
def test_no_class_that_could_win_a_guided_pixel_is_left_out(
    kinds: tuple[str, str],
    shape: tuple[int, int, int],
    size: tuple[int, int],
    convention: Upsampling,
    seed: int,
    alike: bool,
) -> None:
    black = scores(kinds[0], shape, seed).values
    white = black if alike else scores(kinds[1], shape, seed + 1).values
    brightness = np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8)
    assert_equal_guided(black, white, brightness, convention)


@pytest.mark.parametrize("value", [1.0, -1.0, 7e-45, -7e-45, 1e-38, -1e-38, 1e30, -1e30])
@pytest.mark.parametrize("steps", [0, 1, 2, 5, 20])
def test_classes_a_few_roundings_apart_are_all_tried_on_a_guided_pixel(value: float, steps: int) -> None:
    """Constant in a cell: interpolation rounds one below another that lies a few steps below it."""
    planes = [np.float32(value)]
    for _ in range(3):
        lower = planes[-1]
        for _ in range(steps):
            lower = np.nextafter(lower, np.float32(-np.inf))
        planes.append(lower)
    black = np.array(planes, np.float32)[:, np.newaxis, np.newaxis].repeat(2, 1).repeat(2, 2)
    for order in (black, black[::-1].copy()):
        brightness = np.arange(65 * 65, dtype=np.uint16).astype(np.uint8).reshape(65, 65)
        assert_equal_guided(order, order, brightness, "align_corners")


@settings(max_examples=100)
@given(
    values=st.lists(st.floats(width=32, min_value=-(2.0**99), max_value=2.0**99), min_size=16, max_size=16),
    convention=st.sampled_from(CONVENTIONS),
)
def test_guided_labels_are_the_specification_s_whatever_the_values(values: list[float], convention: Upsampling) -> None:
    black, white = np.array(values, np.float32).reshape(2, 2, 2, 2)
    brightness = np.random.default_rng(0).integers(0, 256, (9, 11)).astype(np.uint8)
    assert_equal_guided(black, white, brightness, convention)


def by_formula(case: Case) -> NDArray[np.float64]:
    """log P(group), up to a constant, where both grids are the image."""
    e = case.evidence
    main, sub = (scores.values.astype(np.float64) for scores in (case.main, case.sub))
    total = np.einsum("gm,myx->gyx", e.main, main) + np.einsum("gn,nyx->gyx", e.sub, sub)
    formula: NDArray[np.float64] = total + e.bias[:, np.newaxis, np.newaxis]
    return formula


def per_pixel(groups: Sequence[int], mains: int, subs: int, seed: int = 0, size: tuple[int, int] = (30, 40)) -> Case:
    """Both models give a score for each pixel, so that nothing is interpolated."""
    evidence = random_evidence(groups, mains, subs, seed)
    return Case(whole((mains, *size), seed), whole((subs, *size), seed + 1), evidence, size)


GROUPS = (0, 1, 1, 2, 0, 3, 4)  # classes 0 and 4, and 1 and 2, mean the same; 5 and 6 are added
MAINS = 5


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_group_scores_are_the_formula_where_each_pixel_has_scores(convention: Upsampling) -> None:
    case = per_pixel(GROUPS, MAINS, 6)
    case = replace(case, main=replace(case.main, convention=convention), sub=replace(case.sub, convention=convention))
    np.testing.assert_array_equal(case.groups().values, by_formula(case))  # exact: quarters of whole numbers


@pytest.mark.parametrize("finer", ["main", "sub"])
def test_weighting_before_interpolation_is_weighting_after_it(finer: str) -> None:
    """Which makes it cheap: weights are linear, and so is interpolation."""
    size = 24, 36
    fine, coarse = size, (6, 9)
    main = whole((MAINS, *(fine if finer == "main" else coarse)), 1, "align_corners")
    sub = whole((6, *(coarse if finer == "main" else fine)), 2)
    case = Case(main, sub, random_evidence(GROUPS, MAINS, 6), size)
    main, sub = (
        replace(given, values=reference.upsample(given.values, size, given.convention)) for given in (main, sub)
    )
    groups = case.groups()
    assert groups.convention == ("align_corners" if finer == "main" else "half_pixel")
    assert groups.values.shape[1:] == fine
    np.testing.assert_allclose(groups.values, by_formula(Case(main, sub, case.evidence, size)), atol=1e-3)


@pytest.mark.parametrize("prefer", PREFERENCES)
def test_the_label_is_the_class_of_the_greatest_boosted_group(prefer: Prefer) -> None:
    """And of a group of several main classes the one that the main model scores highest."""
    case = per_pixel(GROUPS, MAINS, 6)
    raised = by_formula(case) + case.evidence.boost[:, np.newaxis, np.newaxis]
    for (y, x), got in np.ndenumerate(case.label(prefer)):
        own, best = case.main.values[:, y, x], raised[:, y, x]
        top = best[[GROUPS[k] for k in range(MAINS)]].max()
        added = [k for k in range(MAINS, len(GROUPS)) if best[GROUPS[k]] > top]
        if added:
            assert got == max(added, key=lambda k: (best[GROUPS[k]], -k))
            continue
        teams = [{*range(MAINS)}] if prefer == "main" else [{0, 4}, {1, 2}, {3}]
        leaders = [max(team, key=lambda k: (own[k], -k)) for team in teams]
        assert got == min(k for k in leaders if prefer == "main" or best[GROUPS[k]] == top)


def clear(scores: Scores, size: tuple[int, int], of: Sequence[int] | None = None) -> NDArray[np.bool_]:
    """Return where the greatest of the scores, interpolated, is clear of the others by more than rounding."""
    values = reference.upsample(scores.values[slice(None) if of is None else list(of)], size, scores.convention)
    first, second = np.sort(values, axis=0)[-1], np.sort(values, axis=0)[-2]
    gap: NDArray[np.bool_] = first - second > 0.02
    return gap


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_preferring_main_gives_the_main_model_s_own_labels_but_for_added_classes(convention: Upsampling) -> None:
    """Label for label, where the main model's grid is the finer one: its scores are not interpolated twice."""
    size = 60, 90
    main, sub = whole((MAINS, 12, 18), 3, convention), whole((6, 5, 7), 4)
    case = Case(main, sub, random_evidence(GROUPS, MAINS, 6, 1), size)
    label = case.label("main")
    own = cpu_table.label_map(main.values, size, convention, UINT8)
    kept = (label < MAINS) & clear(main, size)
    assert 0.2 < kept.mean() < 0.95
    np.testing.assert_array_equal(label[kept], own[kept])
    other = case.label("evidence")
    assert (other[kept] != own[kept]).mean() > 0.1  # which the evidence alone would not


def test_preferring_main_on_a_finer_grid_that_has_the_main_model_s_samples_changes_nothing() -> None:
    """Between the samples the grid's are on the lines between them; on others labels move by part of a sample."""
    size = 65, 129
    main, sub = whole((3, 9, 17), 5, "align_corners"), whole((4, 33, 65), 6, "align_corners")
    label = Case(main, sub, random_evidence((0, 1, 2, 3), 3, 4, 2), size).label("main")
    kept = (label < 3) & clear(main, size)
    assert kept.mean() > 0.2
    np.testing.assert_array_equal(label[kept], cpu_table.label_map(main.values, size, main.convention, UINT8)[kept])


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_within_a_group_the_main_model_decides(convention: Upsampling) -> None:
    size = 60, 90
    main, sub = whole((MAINS, 12, 18), 7, convention), whole((6, 5, 7), 8)
    label = Case(main, sub, random_evidence(GROUPS, MAINS, 6, 3), size).label()
    values = reference.upsample(main.values, size, convention)
    for members in ((0, 4), (1, 2)):
        of_group = np.isin(label, members) & clear(main, size, members)
        assert of_group.mean() > 0.05
        better = np.array(members)[values[list(members)].argmax(axis=0)]
        assert set(np.unique(better[of_group])) == set(members)
        np.testing.assert_array_equal(label[of_group], better[of_group])


@pytest.mark.parametrize("who", ["main", "sub"])
@pytest.mark.parametrize("prefer", PREFERENCES)
def test_what_a_model_adds_to_all_its_scores_changes_nothing(who: str, prefer: Prefer) -> None:
    """Weights of each group sum up to 0, so that softmax and this rule ignore the same. Exact in whole numbers."""
    main, sub = whole((MAINS, 12, 18), 9), whole((6, 5, 7), 10, "align_corners")
    case = Case(main, sub, random_evidence(GROUPS, MAINS, 6, 4), (60, 90))
    shift = np.float32(96)
    if who == "main":
        shifted = replace(case, main=replace(main, values=main.values + shift))
    else:
        shifted = replace(case, sub=replace(sub, values=sub.values + shift))
    np.testing.assert_allclose(shifted.groups().values, case.groups().values, atol=1e-3)
    sure = clear(case.outputs(prefer), case.size)
    assert sure.mean() > 0.8
    np.testing.assert_array_equal(shifted.label(prefer)[sure], case.label(prefer)[sure])


def test_a_sum_that_all_groups_share_changes_nothing_either() -> None:
    case = per_pixel(GROUPS, MAINS, 6, 5)
    weights = case.evidence.main.copy()
    weights[:, 0] += 2  # each row's sum
    case = replace(case, evidence=replace(case.evidence, main=weights))
    shifted = replace(case, main=replace(case.main, values=case.main.values + 8))
    np.testing.assert_array_equal(shifted.groups().values, case.groups().values + 16)
    for prefer in PREFERENCES:
        np.testing.assert_array_equal(shifted.label(prefer), case.label(prefer))


def test_what_is_added_wins_in_the_same_places_whoever_is_preferred_for_main_classes() -> None:
    """Where each pixel has scores of its own."""
    case = per_pixel(GROUPS, MAINS, 6, 6)
    one, other = (case.label(prefer) for prefer in PREFERENCES)
    added = one >= MAINS
    assert 0.1 < added.mean() < 0.9
    np.testing.assert_array_equal(added, other >= MAINS)
    np.testing.assert_array_equal(one[added], other[added])
    assert (one != other).any()


def test_confidence_of_one_group_is_full() -> None:
    case = Case(whole((3, 4, 5), 1), whole((2, 3, 3), 2), random_evidence((0, 0, 0), 3, 2), (17, 23))
    groups = case.groups()
    label = case.label()
    assert set(np.unique(label)) == {0, 1, 2}
    assert (cpu_evidence.confidence(label, groups, case.evidence.groups) == 255).all()
    np.testing.assert_array_equal(label, cpu_table.label_map(case.main.values, case.size, "half_pixel", UINT8))


def test_confidence_is_the_probability_of_the_label_s_group() -> None:
    """Of the group, without the boost: the boost changes what is chosen, not how probable it is."""
    case = per_pixel(GROUPS, MAINS, 6, 7)
    main, sub = (replace(given, values=given.values / np.float32(16)) for given in (case.main, case.sub))
    case = replace(case, main=main, sub=sub)
    powers = np.exp(by_formula(case))
    shares = powers / powers.sum(axis=0)
    rows, columns = np.indices(case.size)
    for number in range(len(GROUPS)):
        sure = cpu_evidence.confidence(np.full(case.size, number, np.uint8), case.groups(), case.evidence.groups)
        np.testing.assert_allclose(sure, 255 * shares[GROUPS[number]], atol=0.51)
    label = case.label()
    sure = cpu_evidence.confidence(label, case.groups(), case.evidence.groups)
    np.testing.assert_allclose(sure, 255 * shares[np.array(GROUPS)[label], rows, columns], atol=0.51)
    assert len(np.unique(sure)) > 50


def mean_of_neighbours(values: Floats) -> Floats:
    """The mean of 3 x 3 samples, the outermost ones repeated."""
    padded = np.pad(values.astype(np.float64), ((0, 0), (1, 1), (1, 1)), mode="edge")
    h, w = values.shape[1:]
    mean: Floats = np.mean([padded[:, y : y + h, x : x + w] for y in range(3) for x in range(3)], axis=0)
    return mean


@pytest.mark.parametrize("light", [0, 77, 255])
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_an_image_of_one_brightness_smooths_the_scores_and_no_more(light: int, convention: Upsampling) -> None:
    """Guided labels are the plain ones of scores averaged twice over 3 x 3 samples, of the classes best somewhere."""
    plain = scores("noise", (5, 12, 16), 1, convention)
    plain = replace(plain, values=plain.values - np.array([0, 0, 9, 0, 0], np.float32)[:, np.newaxis, np.newaxis])
    smooth = Scores(mean_of_neighbours(mean_of_neighbours(plain.values)).astype(np.float32), convention)
    size = 45, 62  # less than APART pixels between samples
    expected = cpu_table.label_map(smooth.values, size, convention, UINT8)
    sure = clear(replace(smooth, values=smooth.values * 100), size)
    label = cpu_contours.guided_label_map(plain, np.full(size, light, np.uint8), UINT8)
    assert sure.mean() > 0.95
    assert len(np.unique(label)) == 4
    np.testing.assert_array_equal(label[sure], expected[sure])


EDGES = [(32, edge) for edge in range(13, 20)] + [(64, edge) for edge in range(29, 36)]


@pytest.mark.parametrize(("side", "edge"), EDGES)
@pytest.mark.parametrize("axis", [0, 1], ids=["rows", "columns"])
def test_an_edge_of_the_image_within_a_cell_draws_the_label_s_edge_onto_it(side: int, edge: int, axis: int) -> None:
    """Samples lie 4 or 8 pixels apart; between the middle ones bilinear scores change over half-way."""
    values = np.zeros((2, 8, 8), np.float32)
    values[0, :, :4], values[1, :, 4:] = 1, 1
    brightness = np.full((side, side), 40, np.uint8)
    brightness[:, edge:] = 200
    if axis == 0:
        values, brightness = values.transpose(0, 2, 1).copy(), brightness.T.copy()
    plain = cpu_table.label_map(values, (side, side), "half_pixel", UINT8)
    label = cpu_contours.guided_label_map(Scores(values, "half_pixel"), brightness, UINT8)
    for picture, at in ((plain, side // 2), (label, edge)):
        expected = np.tile(np.arange(side) >= at, (side, 1))
        np.testing.assert_array_equal(picture if axis == 1 else picture.T, expected)


@pytest.mark.parametrize(
    ("samples", "size", "grid", "convention"),
    [
        ((1, 1), (9, 13), (3, 4), "half_pixel"),  # 4 pixels apart at most, rounded up
        ((3, 4), (9, 13), (3, 4), "asymmetric"),  # fine enough: the scores themselves
        ((9, 13), (9, 13), (9, 13), "align_corners"),
        ((3, 1), (9, 13), (3, 4), "half_pixel"),  # too coarse one way
        ((1, 20), (9, 13), (3, 20), "half_pixel"),  # and finer than need be the other way
    ],
)
def test_scores_too_coarse_for_the_image_s_edges_are_put_on_a_finer_grid(
    samples: tuple[int, int], size: tuple[int, int], grid: tuple[int, int], convention: Upsampling
) -> None:
    scores = Scores(np.ones((2, *samples), np.float32), convention if samples == grid else "align_corners")
    guide = reference.guide_grid(scores, size)
    assert guide.values.shape == (2, *grid)
    assert guide.values.dtype == np.float32
    assert guide.convention == convention


def test_a_pixel_halfway_between_two_samples_belongs_to_the_second() -> None:
    first, end = reference.nearest_pixels(4, 2, "asymmetric")  # they lie at 0, 0.5, 1 and 1 of the samples
    assert (first.tolist(), end.tolist()) == ([0, 1], [1, 4])
