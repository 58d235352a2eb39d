"""``classaug export``."""

from __future__ import annotations

import argparse
from pathlib import Path

from classaug_ros.cli.options import Commands, extra, size


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "export", help="turn a model of the Transformers library into an ONNX file with a card"
    )
    parser.set_defaults(run=_run)
    parser.add_argument("model", help="its name on the hub, or a folder written by save_pretrained")
    parser.add_argument("--output", type=Path, required=True, help="folder for model.onnx, model.yaml and classes.csv")
    parser.add_argument("--size", type=size, help="WIDTHxHEIGHT of the input (default: its image processor's)")
    parser.add_argument("--force", action="store_true", help="write over a model that is there")


def _run(options: argparse.Namespace) -> None:
    from classaug_ros.convert.cards import CLASSES_NAME, refuse_overwriting
    from classaug_ros.io.files import writable
    from classaug_ros.models.card import CARD_NAME

    if not options.force:
        refuse_overwriting(options.output, "model.onnx", CARD_NAME, CLASSES_NAME)
    with extra("export"):
        from classaug_ros.convert.export import export
    writable(options.output / "model.onnx")
    made = export(options.model, options.output, options.size)
    inputs, output = made.card.input, made.card.output
    classes = f"those of the shipped {made.shipped} list" if made.shipped else "with colours made up"
    print(f"{made.card.name}: {len(made.card.classes)} classes, {classes}")
    print(
        f"input {inputs.width}x{inputs.height}; logits {output.width}x{output.height}, before upsampling "
        f"({output.upsample})"
    )
    print(
        f"against the original, on a random image: logits differ by at most {made.difference:.2g} "
        f"(their range: {made.spread:.2g}), labels on {made.changed:.4%} of the pixels"
    )
    print(f"model: {options.output / 'model.onnx'}")
