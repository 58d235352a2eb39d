"""Weighted sums of models' scores on a GPU, each at the model's own samples: first kernel of the probability rule."""

from __future__ import annotations

import triton
import triton.language as tl

from classaug_ros.fusion.scores import LEAST_PROBABILITY

POOLED = (16, 128)
"""Groups and samples of one program of ``pool``: 32 sums a thread, for which 6 loads a class are enough."""
POOL_WARPS = 2

_LEAST = tl.constexpr(float(LEAST_PROBABILITY))


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
    """Sum up a tile, class after class as ``reference.pool`` does; return each sample's largest magnitude."""
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
            score = log_of(score)
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


@triton.jit
def load_score(at, LOGS: tl.constexpr):
    """Return scores: of probabilities, their logarithms."""
    score = tl.load(at).to(tl.float32)
    if LOGS:
        score = log_of(score)
    return score


@triton.jit
def log_of(probability):
    """Return logarithms of probabilities."""
    return tl.log(tl.maximum(probability, _LEAST))
