"""What the kernels do, in PyTorch's own operations: what they are compared with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from classaug_ros.models.card import InputSpec, ModelCard
from classaug_ros.rules import Rules


class TorchWork:
    """Preprocessing and the table's fusion as one writes them down in PyTorch, each operation at full resolution.

    Up to rounding they are what the kernels do; label and overlay are all they give.
    """

    def __init__(
        self, main: ModelCard, sub: ModelCard, rules: Rules, size: tuple[int, int], alpha: float, device: torch.device
    ) -> None:
        """Take the memory of what stays the same.

        Args:
            main: card of the main model, which returns scores.
            sub: card of the sub model, likewise.
            rules: the rules.
            size: (H, W) of the frames.
            alpha: weight of the colours in the overlay.
            device: where everything is.

        Raises:
            ValueError: a model returns labels, or upsamples as PyTorch does not.
        """
        for card in (main, sub):
            if card.output.kind == "labels" or card.output.upsample == "asymmetric":
                raise ValueError(f"{card.name}: {card.output.kind}, {card.output.upsample}: PyTorch has no such form")
        self._cards, self._size, self._weight = (main, sub), size, round(alpha * 256)
        specs = main.input, sub.input
        self._norms = [(_channels(spec.mean, device), _channels(spec.scale, device)) for spec in specs]
        self._table = torch.from_numpy(rules.table).to(device)
        self._palette = torch.from_numpy(rules.output.palette()).to(device)

    def prepare(self, frames: torch.Tensor) -> list[torch.Tensor]:
        """Return both models' inputs of N x H x W x 3 uint8 RGB frames."""
        planes = frames.permute(0, 3, 1, 2).float()
        return [self._input(planes, card.input, *norm) for card, norm in zip(self._cards, self._norms, strict=True)]

    def fuse(self, outputs: Sequence[torch.Tensor], frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return label, N x H x W, and overlay, N x H x W x 3 uint8, of frames and what both models say of them."""
        main, sub = (self._label(output, card) for output, card in zip(outputs, self._cards, strict=True))
        label = self._table[main, sub]
        color = self._palette[label.int()]
        mixed = frames.int() * (256 - self._weight) + color.int() * self._weight
        return label, ((mixed + 128) >> 8).to(torch.uint8)

    def _input(self, planes: torch.Tensor, spec: InputSpec, mean: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        resized = functional.interpolate(planes, (spec.height, spec.width), mode="bilinear", align_corners=False)
        ordered = resized if spec.color == "rgb" else resized.flip(1)
        return (ordered - mean) * scale

    def _label(self, output: torch.Tensor, card: ModelCard) -> torch.Tensor:
        aligned = card.output.upsample == "align_corners"
        return functional.interpolate(output.float(), self._size, mode="bilinear", align_corners=aligned).argmax(1)


def _channels(values: Sequence[float], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device).view(1, -1, 1, 1)
