"""Trains the two demo models on rendered scenes and writes them as ONNX with card and classes.

    python -m demo.train [--only main]

Needs `torch` and `onnx` besides the package's own requirements; nothing else in the package does.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from classaug_ros.convert.cards import write_card
from classaug_ros.models.card import InputSpec, ModelCard, OutputSpec
from classaug_ros.models.labels import LabelSpace
from demo import parts
from demo.network import StreetNet, export
from demo.scenes import render_scene

HEIGHT, WIDTH = 256, 416  # of the models' input
MEAN, SCALE = 120.0, 0.015625
HELD_OUT = range(3_000_000, 3_000_100)


@dataclass(frozen=True)
class ClassSet:
    """What one of the two models learns, and the first seed of its scenes."""

    name: str
    classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    first_seed: int


SETS = {
    "main": ClassSet("main", parts.MAIN_CLASSES, parts.MAIN_COLORS, 1_000_000),
    "sub": ClassSet("sub", parts.SUB_CLASSES, parts.SUB_COLORS, 2_000_000),
}


def _small(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """One scene: image (HEIGHT, WIDTH, 3) and main and sub truth at half that size."""
    cv2.setNumThreads(1)
    frame = render_scene(seed)
    shrink = cv2.INTER_AREA if seed % 2 else cv2.INTER_LINEAR
    image = np.asarray(cv2.resize(frame.image, (WIDTH, HEIGHT), interpolation=shrink), np.uint8)
    half = (WIDTH // 2, HEIGHT // 2)
    main, sub = (cv2.resize(truth, half, interpolation=cv2.INTER_NEAREST_EXACT) for truth in (frame.main, frame.sub))
    return image, np.asarray(main, np.uint8), np.asarray(sub, np.uint8)


def render(chosen: ClassSet, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scenes of one set: images (count, 3, HEIGHT, WIDTH) and truth (count, HEIGHT/2, WIDTH/2), uint8."""
    seeds = range(chosen.first_seed, chosen.first_seed + count)
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        scenes = list(pool.map(_small, seeds, chunksize=8))
    images = np.stack([image.transpose(2, 0, 1) for image, _, _ in scenes])
    truths = np.stack([main if chosen.name == "main" else sub for _, main, sub in scenes])
    return torch.from_numpy(images), torch.from_numpy(truths)


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Pixels (N, 3, H, W) uint8 -> the network's input."""
    return (images.float() - MEAN) * SCALE


def _class_weights(truths: torch.Tensor, classes: int) -> torch.Tensor:
    """Rare classes count more, but not so much that they spill over their neighbours."""
    counts = torch.bincount(truths.flatten().long(), minlength=256)[:classes].float()
    return (counts.median() / counts).pow(0.4).clamp(0.5, 3.0)


def train(chosen: ClassSet, *, scenes: int, steps: int, batch: int) -> StreetNet:
    """Train one network from scratch."""
    torch.manual_seed(0)
    images, truths = render(chosen, scenes)
    print(f"{chosen.name}: {scenes} scenes rendered", flush=True)
    network = StreetNet(len(chosen.classes))
    network.to(memory_format=torch.channels_last)
    network.train()
    weights = _class_weights(truths, len(chosen.classes))
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps, pct_start=0.15)
    start = time.monotonic()
    for step in range(steps):
        picked = torch.randint(len(images), (batch,))
        x, y = images[picked], truths[picked].long()
        if step % 2:
            x, y = x.flip(-1), y.flip(-1)
        x = normalised(x) * torch.empty(batch, 1, 1, 1).uniform_(0.85, 1.15)
        logits = network(x.contiguous(memory_format=torch.channels_last))
        enlarged = functional.interpolate(logits, scale_factor=2.0, mode="bilinear", align_corners=False)
        loss = functional.cross_entropy(enlarged, y, weights, ignore_index=parts.UNLABELLED)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"{chosen.name}: step {step} loss {loss.item():.3f} {time.monotonic() - start:.0f} s", flush=True)
    network.eval()
    return network


def measure(network: StreetNet, chosen: ClassSet) -> NDArray[np.float64]:
    """IoU per class on the held-out scenes, at full resolution."""
    classes = len(chosen.classes)
    counts = np.zeros((classes, classes), np.int64)
    with torch.no_grad():
        for seed in HELD_OUT:
            frame = render_scene(seed)
            truth = frame.main if chosen.name == "main" else frame.sub
            small = cv2.resize(frame.image, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
            logits = network(normalised(torch.from_numpy(small.transpose(2, 0, 1)[None])))
            full = functional.interpolate(logits, truth.shape, mode="bilinear", align_corners=False)
            predicted = full.argmax(1)[0].numpy()
            known = truth != parts.UNLABELLED
            pairs = truth[known].astype(np.int64) * classes + predicted[known]
            counts += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    hits = counts.diagonal()
    return np.asarray(hits / (counts.sum(0) + counts.sum(1) - hits), np.float64)


def write(network: StreetNet, chosen: ClassSet, folder: Path) -> None:
    """Write model.onnx, model.yaml and classes.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    export(network.to(memory_format=torch.contiguous_format), HEIGHT, WIDTH, str(folder / "model.onnx"))
    inputs = InputSpec("image", HEIGHT, WIDTH, "rgb", (MEAN, MEAN, MEAN), (SCALE, SCALE, SCALE))
    output = OutputSpec("logits", "logits", HEIGHT // 4, WIDTH // 4, "half_pixel")
    write_card(ModelCard(f"demo_{chosen.name}", LabelSpace(chosen.classes, chosen.colors), inputs, output), folder)


def main() -> None:
    """Train, measure and write the models that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[*SETS], help="train this one; default: both, one after the other")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "models", help="folder of the models")
    parser.add_argument("--scenes", type=int, default=900, help="scenes to train on")
    parser.add_argument("--steps", type=int, default=1300, help="optimizer steps")
    parser.add_argument("--batch", type=int, default=8, help="scenes a step")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in [arguments.only] if arguments.only else SETS:
        chosen = SETS[name]
        network = train(chosen, scenes=arguments.scenes, steps=arguments.steps, batch=arguments.batch)
        ious = measure(network, chosen)
        for label, iou in zip(chosen.classes, ious, strict=True):
            print(f"{name}: {label:14s} {100 * iou:5.1f}")
        print(f"{name}: mIoU {100 * ious.mean():.1f}", flush=True)
        write(network, chosen, arguments.output / name)


if __name__ == "__main__":
    main()
