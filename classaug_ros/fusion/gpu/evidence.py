"""The probability rule on a GPU: scores of two models to scores of the output classes, at the models' own resolution.

It takes two launches. Weighted sums are linear, so the model of fewer samples is summed up on its own grid; were that
done for the four corners around each finer sample, which one launch would need, most of it would be done several times.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import triton
from numpy.typing import NDArray

from classaug_ros.fusion.geometry import sample_coordinates
from classaug_ros.fusion.gpu.output_scores import SCORE_WARPS, SCORED, score
from classaug_ros.fusion.gpu.pooling import POOL_WARPS, POOLED, pool
from classaug_ros.models.card import ModelCard
from classaug_ros.rules.evidence import Evidence, Prefer


class EvidenceScores:
    """Turns the scores of two models into those of the output classes, of which the greatest, upsampled, is the label.

    It is ``reference.group_scores``, ``output_scores`` and ``posterior``: bit for bit, but for the logarithms of
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
