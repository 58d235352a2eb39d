"""Models to measure with: as large as SegFormer-B0, with random weights, and rules at random for both."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from classaug_ros.models.card import Model, load_model
from classaug_ros.models.labels import LabelSpace
from classaug_ros.rules import Evidence, Provenance, Rules


@dataclass(frozen=True)
class Size:
    """How large a model is.

    Attributes:
        classes: how many there are.
        image: (H, W) of its input, multiples of 32; its output has a quarter of each.
        widths: channels of its four steps, at 1/4 to 1/32.
        decoder: channels they are brought to.
    """

    classes: int
    image: tuple[int, int]
    widths: tuple[int, int, int, int] = (32, 64, 160, 256)
    decoder: int = 256


PAIR = Size(19, (512, 1024)), Size(150, (512, 512))
"""SegFormer-B0 as it is for Cityscapes, the longer side halved, and for ADE20K."""

SMALL = Size(3, (32, 64), (8, 8, 16, 16), 8), Size(5, (32, 32), (8, 8, 16, 16), 8)
"""For a look at everything without a GPU."""

ADDED = 32  # of the sub model's classes, at most

_MEAN, _SCALE = (123.675, 116.28, 103.53), (1 / 58.395, 1 / 57.12, 1 / 57.375)


class _Attention(nn.Module):  # type: ignore[misc]
    """Attention to a coarser grid: SegFormer's way to keep it cheap."""

    def __init__(self, width: int, heads: int, coarser: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.both, self.out = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.coarser = nn.Conv2d(width, width, coarser, coarser) if coarser > 1 else nn.Identity()
        self.norm = nn.LayerNorm(width) if coarser > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        coarse = self.norm(self.coarser(x.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2))
        key, value = self._by_head(self.both(coarse)).chunk(2, dim=-1)
        query = self._by_head(self.query(x.reshape(batch, height * width, channels)))
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).reshape(batch, height, width, channels))

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class _Block(nn.Module):  # type: ignore[misc]
    """Attention, then a mix of channels with a depthwise convolution in it; each beside a shortcut."""

    def __init__(self, width: int, heads: int, coarser: int) -> None:
        super().__init__()
        wide = 4 * width
        self.before, self.attention = nn.LayerNorm(width), _Attention(width, heads, coarser)
        self.between, self.widen, self.narrow = nn.LayerNorm(width), nn.Linear(width, wide), nn.Linear(wide, width)
        self.depthwise = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.before(x))
        wide = self.depthwise(self.widen(self.between(x)).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.narrow(functional.gelu(wide))


class _Step(nn.Module):  # type: ignore[misc]
    """Overlapping patches of the step before, then two blocks."""

    def __init__(self, inputs: int, width: int, number: int) -> None:
        super().__init__()
        size, stride = (7, 4) if number == 0 else (3, 2)
        self.patches = nn.Conv2d(inputs, width, size, stride, size // 2)
        self.norm, self.last = nn.LayerNorm(width), nn.LayerNorm(width)
        heads = (1, 2, 5, 8)[number] if width % (1, 2, 5, 8)[number] == 0 else 1
        self.blocks = nn.Sequential(*(_Block(width, heads, (8, 4, 2, 1)[number]) for _ in range(2)))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(self.patches(x).permute(0, 2, 3, 1))
        return self.last(self.blocks(tokens)).permute(0, 3, 1, 2).contiguous()


class SegFormer(nn.Module):  # type: ignore[misc]
    """SegFormer (Xie et al., NeurIPS 2021): four steps of a transformer, brought to one size and summed up."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        inputs = (3, *size.widths[:3])
        self.steps = nn.ModuleList(
            _Step(before, width, number) for number, (before, width) in enumerate(zip(inputs, size.widths, strict=True))
        )
        self.laterals = nn.ModuleList(nn.Conv2d(width, size.decoder, 1) for width in size.widths)
        self.fuse = nn.Conv2d(4 * size.decoder, size.decoder, 1, bias=False)
        self.norm = nn.BatchNorm2d(size.decoder)
        self.head = nn.Conv2d(size.decoder, size.classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) -> logits (N, classes, H/4, W/4)."""
        found = []
        for step in self.steps:
            image = step(image)
            found.append(image)
        quarter = found[0].shape[2:]
        resized = [
            functional.interpolate(lateral(each), quarter, mode="bilinear", align_corners=False)
            for lateral, each in zip(self.laterals, found, strict=True)
        ]
        return self.head(functional.relu(self.norm(self.fuse(torch.cat(resized[::-1], 1)))))


def write_model(folder: Path, name: str, size: Size, seed: int) -> Model:
    """Write a model with random weights to a folder of its own, with card and classes; return it loaded."""
    torch.manual_seed(seed)
    network = SegFormer(size).eval()
    image = torch.randn(1, 3, *size.image)
    with torch.inference_mode():
        logits = network(functional.interpolate(image[:, :, ::32, ::32], size.image, mode="bicubic"))
        mean, deviation = logits.mean((0, 2, 3)), logits.std((0, 2, 3))
    with torch.no_grad():  # so that each class is the greatest somewhere
        network.head.weight /= deviation[:, None, None, None]
        network.head.bias.copy_((network.head.bias - mean) / deviation)
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        torch.export.save(torch.export.export(network, (image,)), str(place / "model.pt2"))
    with (place / "classes.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("id", "name", "r", "g", "b"))
        rows.writerows((number, f"{name} {number}", *_color(number, seed)) for number in range(size.classes))
    height, width = size.image
    card = {
        "name": name,
        "classes": "classes.csv",
        "input": {"name": "image", "height": height, "width": width, "mean": list(_MEAN), "scale": list(_SCALE)},
        "output": {"name": "logits", "kind": "logits", "height": height // 4, "width": width // 4},
    }
    (place / "model.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
    return load_model(place)


def random_rules(main: Model, sub: Model, seed: int = 0) -> Rules:
    """Return rules of both kinds, the table in use. The sub model's last classes are the added ones."""
    random = np.random.default_rng(seed)
    m, n = len(main.card.classes), len(sub.card.classes)
    added = min(ADDED, n - 1)
    output = LabelSpace(
        main.card.classes.names + sub.card.classes.names[n - added :],
        main.card.classes.colors + sub.card.classes.colors[n - added :],
    )
    table = np.tile(np.arange(m)[:, None], (1, n))
    replaced = random.random((m, added)) < 0.7
    table[:, n - added :][replaced] = np.tile(m + np.arange(added), (m, 1))[replaced]
    shares = (random.integers(0, 1001, (m, n)) / 1000).astype(np.float32)
    made = Provenance("none", main.fingerprint, sub.fingerprint, ("random",), 1, 1, 1, "0", "never")
    sources = ("main",) * m + ("added",) * added
    names = main.card.classes.names, sub.card.classes.names
    ids = table.astype(output.dtype)
    return Rules(*names, output, sources, ids, shares, _evidence(m, n, added, random), "table", made)


def _evidence(m: int, n: int, added: int, random: np.random.Generator) -> Evidence:
    groups = m + added
    main, sub = np.eye(groups, m), np.eye(groups, n, n - groups if n > groups else 0)
    ours, theirs = (_even(each + 0.05 * random.standard_normal(each.shape)) for each in (main, sub))
    bias = random.standard_normal(groups).astype(np.float32)
    numbers = np.arange(groups, dtype=np.int32)
    return Evidence(numbers, ours, theirs, bias, np.zeros_like(bias), 0.5, 1.0, 1e-3, 1, 1)


def _even(weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return weights whose rows have one sum, so that what a model adds to all its scores changes nothing."""
    even: NDArray[np.float32] = (weights - weights.mean(axis=1, keepdims=True)).astype(np.float32)
    return even


def _color(number: int, seed: int) -> Sequence[int]:
    return [(number * step + 40 * seed) % 256 for step in (67, 101, 149)]
