"""Tiny models of `tinymodels` as torch.export programs, which run on torch's CPU and on a GPU."""

from __future__ import annotations

from pathlib import Path

import torch

from classaug_ros.models.card import Model, load_model
from classaug_ros.rules import Kind, RuleSet
from support.tinymodels import World, random_rules, write_world


class _Linear(torch.nn.Module):  # type: ignore[misc]
    """scores = matrix @ image + bias, per pixel; not numbers where the first pixel is black."""

    def __init__(self, matrix: torch.Tensor, bias: torch.Tensor) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, len(bias), 1)
        self.conv.weight.data[:] = matrix[:, :, None, None]
        self.conv.bias.data[:] = bias

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        black = image[:, :, :1, :1].sum(dim=1, keepdim=True) == 0
        return self.conv(image) + torch.where(black, torch.nan, 0.0)


def write_programs(folder: Path, size: tuple[int, int], *, batch: bool = False) -> World:
    """Write a world, see ``write_world``, whose models are programs, that take batches if so wanted."""
    world = write_world(folder, images=1, size=size)
    for place, weights in ((world.main, world.main_weights), (world.sub, world.sub_weights)):
        module = _Linear(torch.from_numpy(weights.matrix), torch.from_numpy(weights.bias)).eval()
        shapes = {"image": {0: torch.export.Dim("batch", min=1, max=8)}} if batch else None
        program = torch.export.export(module, (torch.zeros(2 if batch else 1, 3, *size),), dynamic_shapes=shapes)
        (place / "model.onnx").unlink()
        torch.export.save(program, place / "model.pt2")
    return world


def models_of(world: World) -> tuple[Model, Model]:
    """Return a world's models."""
    return load_model(world.main), load_model(world.sub)


def rules_of(world: World, kind: Kind, seed: int = 0) -> RuleSet:
    """Return random rules for them."""
    return RuleSet([random_rules(*models_of(world), world.task, seed, kind)])
