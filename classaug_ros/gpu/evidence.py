"""The probability rule on a GPU: scores of two models to scores of the output classes, at the models' own resolution.

It takes two launches. Weighted sums are linear, so the model of fewer samples is summed up on its own grid; were that
done for the four corners around each finer sample, which one launch would need, most of it would be done several times.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray

from classaug_ros.branch import LEAST_PROBABILITY
from classaug_ros.fusion.geometry import sample_coordinates
from classaug_ros.fusion.naive_evidence import WITHIN
from classaug_ros.models import ModelCard
from classaug_ros.rules.evidence import Evidence, Prefer

POOLED = (16, 128)
"""Groups and samples of one program of ``pool``: 32 sums a thread, for which 6 loads a class are enough."""
POOL_WARPS = 2

SCORED = (16, 32)
"""Classes, or groups, at a time, and samples of one program of ``score``."""
SCORE_WARPS = 4

_LEAST = tl.constexpr(float(LEAST_PROBABILITY))
_WITHIN = tl.constexpr(float(WITHIN))
_LOWEST = tl.constexpr(-3e38)  # below every sum; finite, as infinity less infinity is no number


@triton.jit(
    do_not_specialize=[
        "coarse_classes",
        "fine_classes",
        "groups",
        "coarse_samples",
        "fine_samples",
        "coarse_bit",
        "fine_bit",
    ]
)
def pool(
    coarse,
    fine,
    coarse_weights,
    fine_weights,
    coarse_sums,
    fine_sums,
    coarse_classes,
    fine_classes,
    groups,
    padded,
    coarse_samples,
    fine_samples,
    coarse_bit,
    fine_bit,
    fault,
    COARSE_LOGS: tl.constexpr,
    FINE_LOGS: tl.constexpr,
    GROUPS: tl.constexpr,
    SAMPLES: tl.constexpr,
):
    """Sum up weighted scores for a few groups, at a tile of samples of one of both models.

    Args:
        coarse: scores of the model with fewer samples, N x classes x samples float32 or float16.
        fine: of the other model, as are all after ``fine``.
        coarse_weights: (1 + classes) x padded float32: what each group's sum begins with, then each class's weights.
        fine_weights: see there.
        coarse_sums: N x groups x samples float32, written.
        fine_sums: see there.
        coarse_classes: number of classes.
        fine_classes: see there.
        groups: number of groups.
        padded: the same, up to a multiple of GROUPS.
        coarse_samples: number of samples.
        fine_samples: see there.
        coarse_bit: what is set in ``fault`` where a score is NaN or infinite.
        fine_bit: see there.
        fault: N int32.
        COARSE_LOGS: whether the scores are probabilities, and their logarithms weighted.
        FINE_LOGS: see there.
        GROUPS: of a tile.
        SAMPLES: of a tile.
    """
    tile = tl.program_id(0)
    first = tl.program_id(1) * GROUPS
    image = tl.program_id(2).to(tl.int64)
    tiles = tl.cdiv(coarse_samples, SAMPLES)
    if tile < tiles:
        scores = coarse + image * coarse_classes * coarse_samples
        sums = coarse_sums + image * groups * coarse_samples
        start = tile * SAMPLES
        largest = _sum_up(
            scores,
            coarse_weights,
            sums,
            coarse_classes,
            groups,
            padded,
            coarse_samples,
            first,
            start,
            COARSE_LOGS,
            GROUPS,
            SAMPLES,
        )
        _report(largest, fault + image, coarse_bit)
    else:
        scores = fine + image * fine_classes * fine_samples
        sums = fine_sums + image * groups * fine_samples
        start = (tile - tiles) * SAMPLES
        largest = _sum_up(
            scores,
            fine_weights,
            sums,
            fine_classes,
            groups,
            padded,
            fine_samples,
            first,
            start,
            FINE_LOGS,
            GROUPS,
            SAMPLES,
        )
        _report(largest, fault + image, fine_bit)


@triton.jit
def _sum_up(
    scores,
    weights,
    sums,
    classes,
    groups,
    padded,
    samples,
    first,
    start,
    LOGS: tl.constexpr,
    GROUPS: tl.constexpr,
    SAMPLES: tl.constexpr,
):
    """Sum up a tile, class after class as ``naive_evidence.pool`` does; return each sample's largest magnitude."""
    group = first + tl.arange(0, GROUPS)
    sample = start + tl.arange(0, SAMPLES)
    inside = sample < samples
    weights += group
    total = tl.broadcast_to(tl.load(weights)[:, None], (GROUPS, SAMPLES))
    largest = tl.zeros((SAMPLES,), tl.float32)
    scores += sample
    for _ in tl.range(classes, loop_unroll_factor=4):  # so that the loads of four classes are under way at once
        weights += padded
        score = tl.load(scores, inside, other=0).to(tl.float32)
        largest = tl.maximum(largest, tl.abs(score), propagate_nan=tl.PropagateNan.ALL)
        if LOGS:
            score = _log(score)
        total += tl.load(weights)[:, None] * score[None, :]
        scores += samples
    at = group.to(tl.int64)[:, None] * samples + sample[None, :]
    tl.store(sums + at, total, (group < groups)[:, None] & inside[None, :])
    return largest


@triton.jit
def _report(largest, fault, bit):
    """Set a bit of ``fault`` where a magnitude is NaN or infinite."""
    wrong = tl.max((largest < float("inf")).to(tl.int32) ^ 1, axis=0)
    if wrong > 0:
        tl.atomic_or(fault, bit)


@triton.jit(
    do_not_specialize=["groups", "classes", "mains", "team", "height", "width", "coarse_height", "coarse_width"]
)
def score(
    sums,
    coarse_sums,
    main,
    scores,
    group_of,
    boost,
    teams,
    rows,
    downs,
    columns,
    rights,
    groups,
    classes,
    mains,
    team,
    height,
    width,
    coarse_height,
    coarse_width,
    SAME: tl.constexpr,
    MAIN_FINE: tl.constexpr,
    LOGS: tl.constexpr,
    TOGETHER: tl.constexpr,
    POSTERIOR: tl.constexpr,
    CLASSES: tl.constexpr,
    SAMPLES: tl.constexpr,
):
    """Make the scores of all output classes, and the posterior of all groups, at a few samples of the finer grid.

    Args:
        sums: of the finer model, N x groups x height x width float32; with POSTERIOR, that is written over them.
        coarse_sums: of the other one, N x groups x coarse_height x coarse_width float32.
        main: scores of the main model, N x mains x its height x its width float32 or float16.
        scores: N x classes x height x width float32, written.
        group_of: int32, group of each output class.
        boost: float32, of each group.
        teams: mains x team int32, the main classes of each one's group, some repeated where there are fewer.
        rows: height int32, row of the coarser grid before each row of the finer one.
        downs: height float32, weight of the row after.
        columns: width int32, as ``rows``.
        rights: width float32, as ``downs``.
        groups: number of groups.
        classes: number of output classes.
        mains: number of main classes.
        team: number of main classes in the largest group.
        height: rows of the finer grid.
        width: columns of the finer grid.
        coarse_height: rows of the coarser grid.
        coarse_width: columns of the coarser grid.
        SAME: whether both grids are the same.
        MAIN_FINE: whether the finer one is the main model's, as it is where both are the same.
        LOGS: whether the main model's scores are probabilities.
        TOGETHER: whether the main model alone decides among all main classes, and not just within each group.
        POSTERIOR: whether that is wanted.
        CLASSES: at a time, or groups.
        SAMPLES: of a program.
    """
    image = tl.program_id(1).to(tl.int64)
    plane = height * width
    coarse_plane = coarse_height * coarse_width
    sums += image * groups * plane
    coarse_sums += image * groups * coarse_plane
    scores += image * classes * plane
    main += image * mains * (plane if MAIN_FINE else coarse_plane)

    sample = tl.program_id(0) * SAMPLES + tl.arange(0, SAMPLES)
    inside = (sample < plane)[None, :]
    sample = tl.minimum(sample, plane - 1)
    grids = (
        plane,
        coarse_plane,
        sample[None, :],
        _corners(sample, width, coarse_height, coarse_width, rows, downs, columns, rights),
    )
    sample = sample[None, :]
    each = tl.arange(0, CLASSES)[:, None]

    best = tl.full((CLASSES, SAMPLES), _LOWEST, tl.float32)
    most = tl.full((CLASSES, SAMPLES), _LOWEST, tl.float32)
    if TOGETHER:
        for first in range(0, mains, CLASSES):
            k = tl.minimum(first + each, mains - 1)
            group = tl.load(group_of + k)
            best = tl.maximum(best, _total(sums, coarse_sums, group, grids, SAME) + tl.load(boost + group))
            most = tl.maximum(most, _own(main, k, grids, MAIN_FINE, LOGS))
        best = tl.max(best, axis=0)[None, :]
        most = tl.max(most, axis=0)[None, :]

    for first in range(0, classes, CLASSES):
        k = first + each
        group = tl.load(group_of + k, k < classes, other=0)
        value = _total(sums, coarse_sums, group, grids, SAME) + tl.load(boost + group)
        if first < mains:
            one = tl.minimum(k, mains - 1)
            own = _own(main, one, grids, MAIN_FINE, LOGS)
            leader = own
            if TOGETHER:
                value = tl.where(k < mains, best, value)
                leader = tl.maximum(own, most)
            else:
                for number in range(1, team):
                    other = tl.load(teams + one * team + number)
                    leader = tl.maximum(leader, _own(main, other, grids, MAIN_FINE, LOGS))
            value = tl.where(k < mains, value + _WITHIN * (own - leader), value)
        tl.store(scores + k.to(tl.int64) * plane + sample, value, (k < classes) & inside)

    if POSTERIOR:
        _normalise(sums, coarse_sums, groups, grids, each, inside, SAME, CLASSES, SAMPLES)


@triton.jit
def _corners(sample, width, coarse_height, coarse_width, rows, downs, columns, rights):
    """Return which four samples of the coarser grid surround those of the finer one, and the weights of the latter two.

    The weights are those of the samples to the right, and of the ones below.
    """
    y = sample // width
    x = sample % width
    row = tl.load(rows + y)
    column = tl.load(columns + x)
    below = tl.minimum(row + 1, coarse_height - 1) * coarse_width
    beside = tl.minimum(column + 1, coarse_width - 1)
    row *= coarse_width
    right = tl.load(rights + x)[None, :]
    down = tl.load(downs + y)[None, :]
    a = (row + column)[None, :]
    b = (row + beside)[None, :]
    c = (below + column)[None, :]
    d = (below + beside)[None, :]
    return a, b, c, d, right, down


@triton.jit
def _normalise(
    sums, coarse_sums, groups, grids, each, inside, SAME: tl.constexpr, CLASSES: tl.constexpr, SAMPLES: tl.constexpr
):
    """Write the softmax of all groups' totals over the finer model's sums."""
    high = tl.full((CLASSES, SAMPLES), _LOWEST, tl.float32)
    power = tl.zeros((CLASSES, SAMPLES), tl.float32)
    for first in range(0, groups, CLASSES):
        group = first + each
        total = _total(sums, coarse_sums, tl.minimum(group, groups - 1), grids, SAME)
        higher = tl.maximum(high, total)
        power = power * tl.exp(high - higher) + tl.where(group < groups, tl.exp(total - higher), 0.0)
        high = higher
    highest = tl.max(high, axis=0)[None, :]
    whole = tl.sum(power * tl.exp(high - highest), axis=0)[None, :]
    tl.debug_barrier()  # all threads have read, for the scores, the sums that are written over now
    for first in range(0, groups, CLASSES):
        group = first + each
        total = _total(sums, coarse_sums, tl.minimum(group, groups - 1), grids, SAME)
        plane, _, sample, _ = grids
        tl.store(sums + group.to(tl.int64) * plane + sample, tl.exp(total - highest) / whole, (group < groups) & inside)


@triton.jit
def _total(sums, coarse_sums, group, grids, SAME: tl.constexpr):
    """Return log P(group), up to a constant per sample."""
    plane, coarse_plane, sample, corners = grids
    fine = tl.load(sums + group.to(tl.int64) * plane + sample)
    if SAME:
        coarse = tl.load(coarse_sums + group.to(tl.int64) * plane + sample)
    else:
        coarse = _between(coarse_sums + group.to(tl.int64) * coarse_plane, corners, False)
    return fine + coarse


@triton.jit
def _own(main, k, grids, MAIN_FINE: tl.constexpr, LOGS: tl.constexpr):
    """Return what the main model itself scores a class."""
    plane, coarse_plane, sample, corners = grids
    if MAIN_FINE:
        own = _load(main + k.to(tl.int64) * plane + sample, LOGS)
    else:
        own = _between(main + k.to(tl.int64) * coarse_plane, corners, LOGS)
    return own


@triton.jit
def _between(plane, corners, LOGS: tl.constexpr):
    """Return what lies between four corners, in the order of ``naive.interpolate``."""
    a, b, c, d, right, down = corners
    top = _load(plane + a, LOGS) * (1.0 - right) + _load(plane + b, LOGS) * right
    bottom = _load(plane + c, LOGS) * (1.0 - right) + _load(plane + d, LOGS) * right
    return top * (1.0 - down) + bottom * down


@triton.jit
def _load(at, LOGS: tl.constexpr):
    """Return scores: of probabilities, their logarithms."""
    score = tl.load(at).to(tl.float32)
    if LOGS:
        score = _log(score)
    return score


@triton.jit
def _log(probability):
    return tl.log(tl.maximum(probability, _LEAST))


class EvidenceScores:
    """Turns the scores of two models into those of the output classes, of which the greatest, upsampled, is the label.

    It is ``naive_evidence.group_scores``, ``output_scores`` and ``posterior``: bit for bit, but for the logarithms of
    probabilities and the powers of the posterior. All memory is taken beforehand and a call only launches, so that a
    CUDA graph can hold it. On CUDA the launches go to the current stream of the current device, which has to be the one
    given here.

    Attributes:
        scores: N x K x h x w float32 of the K output classes, on the grid of the model of more samples, the main model
            where both have as many; every call overwrites them.
        posterior: N x G x h x w float32, P(group), on the same grid; None unless wanted. Every call overwrites it.
        convention: where the samples of that grid lie among the pixels of the image.
    """

    def __init__(
        self,
        cards: tuple[ModelCard, ModelCard],
        evidence: Evidence,
        prefer: Prefer,
        size: tuple[int, int],
        device: torch.device,
        batch: int = 1,
        *,
        posterior: bool = False,
        bits: tuple[int, int] = (0, 1),
    ) -> None:
        """Take the memory.

        Args:
            cards: of the main and the sub model, of which none returns labels.
            evidence: the weights.
            prefer: who decides among main classes.
            size: (H, W) of the images in pixels.
            device: where the models' scores are.
            batch: N, how many there are of each.
            posterior: whether that is wanted.
            bits: the bit of each model in ``fault``.
        """
        main_is_finer = cards[0].output.height * cards[0].output.width >= cards[1].output.height * cards[1].output.width
        self._order = (1, 0) if main_is_finer else (0, 1)  # of main and sub: the coarser, the finer
        coarse, fine = (cards[number].output for number in self._order)
        grids = [(output.height, output.width) for output in (coarse, fine)]
        self.convention = fine.upsample

        def put(array: NDArray[Any]) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

        def take(*shape: int) -> torch.Tensor:
            return torch.empty((batch, *shape), dtype=torch.float32, device=device)

        mains, outputs, groups = len(cards[0].classes), evidence.groups.size, evidence.bias.size
        weights = [(evidence.main, evidence.sub)[number] for number in self._order]
        self._weights = [put(_begun(*pair)) for pair in zip((0 * evidence.bias, evidence.bias), weights, strict=True)]
        self._groups, self._boost = put(evidence.groups), put(evidence.boost)
        teams = _teams(evidence.groups[:mains])
        self._teams = put(teams)
        positions = (
            sample_coordinates(samples, fine.upsample, pixels, among, coarse.upsample)
            for samples, pixels, among in zip(grids[1], size, grids[0], strict=True)
        )
        self._positions = [put(each) for before, weight in positions for each in (before.astype(np.int32), weight)]
        self._sums = [take(groups, *grid) for grid in grids]
        self.scores = take(outputs, *grids[1])
        self.posterior = self._sums[1] if posterior else None

        self._shapes = [(batch, len(card.classes), card.output.height, card.output.width) for card in cards]
        self._bits = [1 << bits[number] for number in self._order]
        self._batch = batch
        self._numbers = (groups, outputs, mains, teams.shape[1], *grids[1], *grids[0])
        logs = [card.output.kind == "probabilities" for card in cards]
        self._pool_constants = {"COARSE_LOGS": logs[self._order[0]], "FINE_LOGS": logs[self._order[1]]}
        self._score_constants = {
            "SAME": grids[0] == grids[1] and coarse.upsample == fine.upsample,
            "MAIN_FINE": main_is_finer,
            "LOGS": logs[0],
            "TOGETHER": prefer == "main",
            "POSTERIOR": posterior,
        }

    def __call__(self, main: torch.Tensor, sub: torch.Tensor, fault: torch.Tensor) -> None:
        """Fill ``scores``, and ``posterior`` if that is wanted.

        Args:
            main: scores of the main model, N x m x height x width of its card's output, float32 or float16, contiguous.
            sub: of the sub model, N x n x its height x its width.
            fault: N int32, where a model's bit is set if any of its scores is NaN or infinite; zeroed by the caller.

        Raises:
            ValueError: scores are of another shape, or not contiguous.
        """
        for scores, shape in zip((main, sub), self._shapes, strict=True):
            if tuple(scores.shape) != shape or not scores.is_contiguous():  # the kernel would read past their end
                raise ValueError(f"expected scores {shape}, contiguous, found {tuple(scores.shape)}, {scores.stride()}")
        outputs = [(main, sub)[number] for number in self._order]
        classes = [output.shape[1] for output in outputs]
        samples = [output[0, 0].numel() for output in outputs]
        tiles = sum(triton.cdiv(each, POOLED[1]) for each in samples)
        padded = self._weights[0].shape[1]
        pool[tiles, padded // POOLED[0], self._batch](
            *outputs,
            *self._weights,
            *self._sums,
            *classes,
            self._numbers[0],
            padded,
            *samples,
            *self._bits,
            fault,
            **self._pool_constants,
            GROUPS=POOLED[0],
            SAMPLES=POOLED[1],
            num_warps=POOL_WARPS,
            enable_fp_fusion=False,
        )
        score[triton.cdiv(samples[1], SCORED[1]), self._batch](
            self._sums[1],
            self._sums[0],
            main,
            self.scores,
            self._groups,
            self._boost,
            self._teams,
            *self._positions,
            *self._numbers,
            **self._score_constants,
            CLASSES=SCORED[0],
            SAMPLES=SCORED[1],
            num_warps=SCORE_WARPS,
            enable_fp_fusion=False,
        )


def _begun(start: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what each group's sum begins with, then each class's weights; groups padded to whole tiles.

    Args:
        start: G.
        weights: G x classes.
    """
    rows = np.vstack([start, weights.T])
    return np.pad(rows, ((0, 0), (0, -len(start) % POOLED[0])))


def _teams(groups: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return for each main class those of its group, itself first, and itself again where its group has fewer."""
    teams = [np.flatnonzero(groups == group) for group in groups]
    most = max(map(len, teams))
    return np.array([[k, *team[team != k], *[k] * (most - len(team))] for k, team in enumerate(teams)], np.int32)
