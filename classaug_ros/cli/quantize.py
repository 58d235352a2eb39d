"""``classaug quantize``."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from classaug_ros.cli.options import Commands, at_least, extra


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("quantize", help="make an int8 model, and measure what it costs and gains")
    parser.set_defaults(run=_run)
    parser.add_argument("model", type=Path, help="model: its file or folder")
    parser.add_argument("--card", type=Path, help="model card (default: model.yaml beside the model)")
    parser.add_argument("--dataset", required=True, help="data set file (YAML), or as `classaug learn` takes it")
    parser.add_argument("--output", type=Path, required=True, help="folder for the int8 model, its card and classes")
    parser.add_argument(
        "--images", type=at_least(1), default=16, help="images to calibrate on; the others are scored (default 16)"
    )
    parser.add_argument("--limit", type=at_least(1), help="score so many of the others only")
    parser.add_argument(
        "--reduce-range", action="store_true", help="7-bit weights, for CPUs without VNNI instructions: less accurate"
    )
    parser.add_argument("--force", action="store_true", help="write over a model that is there")


def _run(options: argparse.Namespace) -> None:
    from classaug_ros.convert.cards import CLASSES_NAME, refuse_overwriting
    from classaug_ros.data.layouts import open_dataset
    from classaug_ros.io.files import writable
    from classaug_ros.models.card import CARD_NAME, load_model

    model, dataset = load_model(options.model, options.card), open_dataset(options.dataset)
    if not options.force:
        refuse_overwriting(options.output, CARD_NAME, CLASSES_NAME)
    with extra("quantize"):
        from classaug_ros.convert.quantize import SUFFIX, quantize
    writable(options.output / CARD_NAME)
    cost = quantize(
        model,
        dataset,
        options.output,
        images=options.images,
        limit=options.limit,
        reduce_range=options.reduce_range,
    )
    print(f"calibrated on {cost.calibrated} images of {dataset.name}, measured on {cost.scored} others:")
    if math.isnan(cost.miou[0]):
        print("  no mIoU: model and ground truth have no class name in common")
    else:
        before, after = (100 * value for value in cost.miou)
        print(f"  mIoU {before:.1f} % -> {after:.1f} % ({after - before:+.1f}) over {', '.join(cost.classes)}")
    print(f"  same label on {cost.agreement:.1%} of the pixels")
    before, after = cost.milliseconds
    print(
        f"  {before:.1f} ms -> {after:.1f} ms an inference, {before / after:.2f} times as fast (on this machine, now)"
    )
    print(f"  {cost.size[0] / 1e6:.1f} MB -> {cost.size[1] / 1e6:.1f} MB")
    print(f"model: {options.output / f'{model.path.stem}{SUFFIX}.onnx'}")
