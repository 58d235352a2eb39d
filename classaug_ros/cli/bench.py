"""``classaug bench``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classaug_ros.cli.options import Commands, add_models, at_least, extra, needs_ros, size, within
from classaug_ros.errors import ConfigError

if TYPE_CHECKING:
    from classaug_ros.imaging.images import Frame
    from classaug_ros.models.card import Model


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("bench", help="measure where a frame's time goes on this machine")
    parser.set_defaults(run=_run)
    add_models(parser, required=True)
    parser.add_argument("--rules", type=Path, required=True, help="rules file of `classaug learn`")
    parser.add_argument("--images", type=Path, help="folder of PNG or JPEG images to run (default: synthetic ones)")
    parser.add_argument("--size", type=size, default=(720, 1280), help="WIDTHxHEIGHT of the frames (default 1280x720)")
    parser.add_argument(
        "--rounds", type=at_least(1, 10**6), default=50, help="measurements of each step (default %(default)s)"
    )
    parser.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help="what a frame's time goes into on the CPU, or on a GPU (default %(default)s)",
    )
    parser.add_argument("--node", action="store_true", help="measure the running node over ROS instead of single steps")
    parser.add_argument(
        "--cameras",
        type=at_least(1, 64),
        nargs="+",
        default=[1, 2, 4, 6],
        metavar="N",
        help="with --node: numbers of cameras (default 1 2 4 6)",
    )
    parser.add_argument(
        "--rate",
        type=within(0.01, 1000),
        nargs="+",
        default=[4.0, 30.0],
        metavar="HZ",
        help="with --node: Hz of each camera (default 4 30)",
    )
    parser.add_argument(
        "--seconds", type=within(1, 86400), default=20.0, help="with --node: how long to send (default %(default)s)"
    )
    parser.add_argument("--json", type=Path, help="file to write the figures to as well")


def _run(options: argparse.Namespace) -> None:
    from classaug_ros.benchmark.steps import frames_of, synthetic_frames
    from classaug_ros.io.files import writable, write_whole
    from classaug_ros.models.card import load_model

    if options.json:
        writable(options.json)
    frames = frames_of(options.images, options.size) if options.images else synthetic_frames(options.size)
    main, sub = load_model(options.main, options.main_card), load_model(options.sub, options.sub_card)
    measure = _node if options.node else _steps if options.device == "cpu" else _gpu
    result, text = measure(options, main, sub, frames)
    if options.json:
        write_whole(options.json, json.dumps(result, indent=1).encode())
    print(text)


def _steps(options: argparse.Namespace, main: Model, sub: Model, frames: list[Frame]) -> tuple[dict[str, Any], str]:
    from classaug_ros.benchmark.steps import bench, to_text
    from classaug_ros.rules import Rules

    result = bench(main, sub, Rules.load(options.rules), frames, options.rounds, options.threads)
    return result, to_text(result)


def _gpu(options: argparse.Namespace, main: Model, sub: Model, frames: list[Frame]) -> tuple[dict[str, Any], str]:
    from classaug_ros.rules import Rules

    with extra("gpu"):
        from classaug_ros.benchmark.gpu import bench, to_text
    result = bench([main, sub], Rules.load(options.rules), frames, options.rounds, options.device)
    return result, to_text(result)


def _node(options: argparse.Namespace, main: Model, sub: Model, frames: list[Frame]) -> tuple[dict[str, Any], str]:
    if options.device != "cpu":
        raise ConfigError(
            f"--device {options.device}: with --node, the node is measured on the CPU; leave one of them out"
        )
    if options.main_card or options.sub_card:
        raise ConfigError("--node: the node reads the model.yaml beside a model; leave out --main-card and --sub-card")
    with needs_ros():
        from classaug_ros.benchmark.cameras import Load
        from classaug_ros.benchmark.live import bench_node, to_text
    loads = [Load(cameras, rate) for cameras in options.cameras for rate in options.rate]
    result = bench_node(main, sub, options.rules, frames, loads, options.seconds, options.threads)
    return result, to_text(result)
