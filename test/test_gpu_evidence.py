"""The kernels of the probability rule against the specification: equal bit for bit, but for logarithms and powers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from support.hardscores import KINDS, scores_of
from support.tinymodels import random_evidence

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from support.aot import all_targets, compile_launches  # noqa: E402
from support.kernels import CPU, Launch, note_launches  # noqa: E402

from classaug_ros.fusion import Scores, reference  # noqa: E402
from classaug_ros.fusion.gpu.evidence import EvidenceScores  # noqa: E402
from classaug_ros.fusion.gpu.output_scores import score  # noqa: E402
from classaug_ros.fusion.gpu.pooling import pool  # noqa: E402
from classaug_ros.fusion.scores import LEAST_PROBABILITY  # noqa: E402
from classaug_ros.models.card import InputSpec, ModelCard, OutputKind, OutputSpec, Upsampling  # noqa: E402
from classaug_ros.models.labels import LabelSpace  # noqa: E402
from classaug_ros.rules import Evidence, Prefer  # noqa: E402

CONVENTIONS: tuple[Upsampling, ...] = get_args(Upsampling)
PREFERENCES: tuple[Prefer, ...] = get_args(Prefer)
SIZE = (15, 33)
GROUPS = (0, 1, 1, 2, 3, 4)  # of four main classes, two of them in one group, and two added ones


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[Launch]:
    return note_launches(monkeypatch, pool, score)


@dataclass(frozen=True, eq=False)
class Said:
    """What a model says of N images, N x classes x h x w."""

    values: NDArray[Any]
    convention: Upsampling = "half_pixel"
    kind: OutputKind = "logits"

    @property
    def card(self) -> ModelCard:
        _, classes, height, width = self.values.shape
        space = LabelSpace(tuple(f"class {k}" for k in range(classes)), ((0, 0, 0),) * classes)
        spec = InputSpec("image", 8, 8, "rgb", (0, 0, 0), (1, 1, 1))
        return ModelCard("model", space, spec, OutputSpec("scores", self.kind, height, width, self.convention))

    def scores(self, image: int) -> Scores:
        values = self.values[image].astype(np.float32)
        if self.kind == "probabilities":
            values = np.log(np.maximum(values, LEAST_PROBABILITY))
        return Scores(values, self.convention)


def said(
    kind: str, classes: int, grid: tuple[int, int], convention: Upsampling = "half_pixel", batch: int = 1, seed: int = 0
) -> Said:
    scale = np.float32(1e-9 if kind == "huge" else 1)  # sums stay finite
    images = [scores_of(kind, (classes, *grid), 9 * classes + seed + image) * scale for image in range(batch)]
    return Said(np.stack(images), convention)


def poisoned(
    main: Said, sub: Said, evidence: Evidence, prefer: Prefer, size: tuple[int, int] = SIZE, *, posterior: bool = False
) -> EvidenceScores:
    """Launchers whose memory is full of what none of it may keep."""
    made = EvidenceScores(
        (main.card, sub.card), evidence, prefer, size, CPU, len(main.values), posterior=posterior, bits=(0, 2)
    )
    for buffer in (made.scores, *made._sums):
        buffer.fill_(torch.nan)
    return made


def assert_equal_to_the_specification(
    main: Said,
    sub: Said,
    evidence: Evidence,
    size: tuple[int, int] = SIZE,
    ways: Sequence[tuple[Prefer, bool]] = (("evidence", True), ("main", False)),
    tolerance: float = 0,
) -> None:
    """Compare the scores, preferred one way or the other, and the posterior, where it is wanted."""
    for prefer, posterior in ways:
        made = poisoned(main, sub, evidence, prefer, size, posterior=posterior)
        fault = torch.zeros(len(main.values), dtype=torch.int32)
        for _ in range(1 + posterior):  # what is written over is made anew
            made(torch.from_numpy(main.values), torch.from_numpy(sub.values), fault)
        assert not fault.any()
        assert (made.posterior is not None) == posterior
        for image, scores in enumerate(made.scores.numpy()):
            with np.errstate(under="ignore"):
                groups = reference.group_scores(main.scores(image), sub.scores(image), evidence, size)
                outputs = reference.output_scores(groups, main.scores(image), evidence, prefer, size)
                shares = reference.posterior(groups.values)
            assert made.convention == outputs.convention
            if tolerance:
                np.testing.assert_allclose(scores, outputs.values, rtol=tolerance, atol=tolerance)
            else:
                np.testing.assert_array_equal(scores, outputs.values, strict=True)
            if made.posterior is not None:
                np.testing.assert_allclose(made.posterior[image].numpy(), shares, rtol=1e-5, atol=1e-6, strict=True)


@pytest.mark.parametrize("conventions", [(a, b) for a in CONVENTIONS for b in CONVENTIONS], ids="-".join)
@pytest.mark.parametrize("grids", [((9, 12), (5, 5)), ((4, 7), (12, 12)), ((8, 8), (8, 8))], ids=str)
def test_scores_are_the_specification_s(
    grids: tuple[tuple[int, int], tuple[int, int]], conventions: tuple[Upsampling, Upsampling]
) -> None:
    main, sub = said("noise", 4, grids[0], conventions[0]), said("noise", 6, grids[1], conventions[1])
    assert_equal_to_the_specification(main, sub, random_evidence(GROUPS, 4, 6))


@pytest.mark.parametrize("way", list(product(PREFERENCES, (False, True))), ids=str)
@pytest.mark.parametrize("grids", [((9, 12), (5, 5)), ((4, 7), (12, 12)), ((8, 8), (8, 8))], ids=str)
def test_preferred_either_way_with_and_without_posterior(
    grids: tuple[tuple[int, int], tuple[int, int]], way: tuple[Prefer, bool]
) -> None:
    main, sub = (said("smooth", k, grid) for k, grid in zip((4, 6), grids, strict=True))
    assert_equal_to_the_specification(main, sub, random_evidence(GROUPS, 4, 6), ways=[way])


@pytest.mark.parametrize("kind", KINDS)
def test_scores_that_tempt_into_mistakes(kind: str) -> None:
    main, sub = said(kind, 4, (6, 7)), said(kind, 6, (5, 5), "align_corners")
    assert_equal_to_the_specification(main, sub, random_evidence(GROUPS, 4, 6), ways=[("evidence", True)])


@pytest.mark.parametrize("size", [(1, 1), (7, 360), (360, 480)], ids=str)
@pytest.mark.parametrize("grids", [((1, 1), (3, 2)), ((1, 1), (1, 1)), ((2, 65), (9, 1))], ids=str)
def test_images_and_grids_of_any_size(grids: tuple[tuple[int, int], tuple[int, int]], size: tuple[int, int]) -> None:
    main, sub = said("noise", 4, grids[0]), said("noise", 6, grids[1], "asymmetric")
    assert_equal_to_the_specification(main, sub, random_evidence(GROUPS, 4, 6), size, [("evidence", True)])


@pytest.mark.parametrize(("mains", "subs", "added"), [(1, 1, 0), (19, 150, 110), (150, 19, 3), (255, 2, 45)])
def test_from_one_class_to_hundreds(mains: int, subs: int, added: int) -> None:
    groups = [*(k // 3 for k in range(mains)), *range((mains + 2) // 3, (mains + 2) // 3 + added)]
    evidence = random_evidence(groups, mains, subs)
    assert_equal_to_the_specification(said("noise", mains, (3, 5)), said("noise", subs, (2, 3)), evidence)


def test_groups_of_all_main_classes_and_of_classes_far_apart() -> None:
    main, sub = said("noise", 18, (4, 4)), said("noise", 3, (5, 4))
    for groups in ([0] * 18, [k % 7 for k in range(18)]):
        evidence = random_evidence([*groups, max(groups) + 1], 18, 3)
        assert_equal_to_the_specification(main, sub, evidence, ways=[("evidence", True)])


@pytest.mark.parametrize("types", [(np.float16, np.float32), (np.float32, np.float16)], ids=["main", "sub"])
@pytest.mark.parametrize("grids", [((9, 8), (5, 5)), ((5, 5), (9, 8))], ids=["main finer", "sub finer"])
def test_half_precision_and_a_batch(grids: tuple[tuple[int, int], tuple[int, int]], types: tuple[Any, Any]) -> None:
    main, sub = (
        Said(said("smooth", k, grid, batch=3).values.astype(dtype))
        for k, grid, dtype in zip((4, 6), grids, types, strict=True)
    )
    assert_equal_to_the_specification(main, sub, random_evidence(GROUPS, 4, 6))


@pytest.mark.parametrize("kinds", [("probabilities", "logits"), ("logits", "probabilities")], ids=str)
@pytest.mark.parametrize("grids", [((9, 8), (5, 5)), ((5, 5), (9, 8))], ids=["main finer", "sub finer"])
def test_probabilities_as_their_logarithms(
    grids: tuple[tuple[int, int], tuple[int, int]], kinds: tuple[OutputKind, OutputKind]
) -> None:
    """None as small as 0 has an infinite one. Logarithms of a GPU and of NumPy differ in the last bits."""
    outputs = []
    for classes, grid, kind in zip((4, 6), grids, kinds, strict=True):
        values = said("almost certain" if kind == "probabilities" else "noise", classes, grid).values
        outputs.append(Said(values, kind=kind))
    assert (outputs[kinds.index("probabilities")].values < LEAST_PROBABILITY).any()
    assert_equal_to_the_specification(outputs[0], outputs[1], random_evidence(GROUPS, 4, 6), tolerance=1e-5)


def test_two_launches_a_batch(launches: list[Launch]) -> None:
    main, sub = said("noise", 4, (5, 5), batch=2), said("noise", 6, (4, 4), batch=2)
    made = poisoned(main, sub, random_evidence(GROUPS, 4, 6), "main", posterior=True)
    made(torch.from_numpy(main.values), torch.from_numpy(sub.values), torch.zeros(2, dtype=torch.int32))
    assert [each.name for each in launches] == ["pool", "score"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("grids", [((12, 12), (5, 5)), ((5, 5), (12, 12))], ids=["main finer", "sub finer"])
def test_a_score_that_is_no_number_is_reported_with_its_model_and_frame(
    grids: tuple[tuple[int, int], tuple[int, int]], value: float
) -> None:
    main, sub = (said("noise", k, grid, batch=4) for k, grid in zip((4, 6), grids, strict=True))
    main.values[1, 3, -1, -1] = value
    sub.values[2, 0, 0, 0] = value
    main.values[3, 0, 2, 2] = sub.values[3, 5, 4, 4] = value
    made = poisoned(main, sub, random_evidence(GROUPS, 4, 6), "evidence")
    fault = torch.tensor([0, 8, 0, 0], dtype=torch.int32)
    with np.errstate(invalid="ignore"):
        made(torch.from_numpy(main.values), torch.from_numpy(sub.values), fault)
    assert fault.tolist() == [0, 8 + 1, 4, 5]


@pytest.mark.parametrize("wrong", ["classes", "batch", "layout"])
def test_scores_that_would_be_read_past_their_end_are_refused(wrong: str, launches: list[Launch]) -> None:
    main, sub = said("noise", 4, (5, 5)), said("noise", 6, (4, 4))
    made = poisoned(main, sub, random_evidence(GROUPS, 4, 6), "evidence")
    outputs = {
        "classes": sub.values[:, :5].copy(),
        "batch": np.concatenate([sub.values, sub.values]),
        "layout": sub.values.transpose(0, 1, 3, 2),
    }
    with pytest.raises(ValueError, match=r"expected scores \(1, 6, 4, 4\), contiguous, found"):
        made(torch.from_numpy(main.values), torch.from_numpy(outputs[wrong]), torch.zeros(1, dtype=torch.int32))
    assert not launches


def launch_all() -> None:
    """Launch the kernels for models of every kind."""
    fault = torch.zeros(1, dtype=torch.int32)
    evidence = random_evidence(GROUPS, 4, 6)
    main, sub = (Said(said("noise", k, grid).values.astype(np.float16)) for k, grid in ((4, (9, 12)), (6, (5, 5))))
    halves = poisoned(main, sub, evidence, "main", posterior=True)
    halves(torch.from_numpy(main.values), torch.from_numpy(sub.values), fault)
    main, sub = (said("noise", k, (5, 5)) for k in (4, 6))
    alike = poisoned(main, sub, evidence, "evidence", posterior=True)
    alike(torch.from_numpy(main.values), torch.from_numpy(sub.values), fault)
    main, sub = replace(main, kind="probabilities"), replace(said("noise", 6, (9, 12)), kind="probabilities")
    logarithms = poisoned(main, sub, evidence, "evidence", posterior=True)
    logarithms(torch.from_numpy(main.values), torch.from_numpy(sub.values), fault)


@all_targets
def test_kernels_compile_for_all_gpus_without_spills_or_fused_arithmetic(targets: tuple[int, ...]) -> None:
    compiled = compile_launches(launch_all, targets)
    assert len(compiled) == 6 * len(targets)
    for each in compiled:
        assert each.spilled == 0, each
        assert each.registers <= 128, each
        logs = [name for name in ("LOGS", "COARSE_LOGS", "FINE_LOGS") if each.constants.get(name)]
        assert logs or not each.fused, each  # a logarithm has its own, the same everywhere
        if each.kernel == "pool":
            assert "ld.global.v4.b32" in each.accesses, each  # weights come four at a time
