"""The demo models' architecture: inverted residuals down to 1/32, added back up to logits at 1/4 (PyTorch)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def _convolution(inputs: int, outputs: int, size: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class _Block(nn.Module):  # type: ignore[misc]
    """Inverted residual: widen, depthwise 3x3, narrow; a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, widen: int, stride: int = 1) -> None:
        super().__init__()
        wide = inputs * widen
        self.body = nn.Sequential(
            *(_convolution(inputs, wide), nn.ReLU()),
            *(_convolution(wide, wide, 3, stride, groups=wide), nn.ReLU()),
            _convolution(wide, outputs),
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.shortcut else self.body(x)


class StreetNet(nn.Module):  # type: ignore[misc]
    """Encoder and decoder, about 230,000 weights."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(_convolution(3, 16, 3, 2), nn.ReLU(), _Block(16, 24, 2, 2), _Block(24, 24, 2))
        self.eighth = nn.Sequential(_Block(24, 40, 3, 2), _Block(40, 40, 3))
        self.sixteenth = nn.Sequential(_Block(40, 72, 3, 2), _Block(72, 72, 3), _Block(72, 72, 3))
        self.deepest = nn.Sequential(_Block(72, 96, 2, 2), _Block(96, 96, 2), _Block(96, 96, 2))
        self.laterals = nn.ModuleList(_convolution(channels, 40) for channels in (96, 72, 40, 24))
        self.refine = nn.ModuleList(_Block(40, 40, 1) for _ in range(3))
        self.context = nn.Conv2d(96, 40, 1)
        self.head = nn.Conv2d(40, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W), H and W multiples of 32 -> logits (N, classes, H/4, W/4)."""
        quarter = self.stem(image)
        eighth = self.eighth(quarter)
        sixteenth = self.sixteenth(eighth)
        deepest = self.deepest(sixteenth)
        x = self.laterals[0](deepest) + self.context(deepest.mean((2, 3), keepdim=True))
        for lateral, refine, skip in zip(self.laterals[1:], self.refine, (sixteenth, eighth, quarter), strict=True):
            x = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = refine(functional.relu(x + lateral(skip)))
        return self.head(functional.relu(x))


def export(network: StreetNet, height: int, width: int, path: str) -> None:
    """Write float32 ONNX, opset 17: `image` (N, 3, height, width) -> `logits` (N, classes, height/4, width/4)."""
    torch.onnx.export(
        network.eval(),
        (torch.zeros(1, 3, height, width),),
        path,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
        opset_version=17,
        dynamo=False,
    )
