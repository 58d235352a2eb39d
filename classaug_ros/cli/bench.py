"""``classaug bench``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from classaug_ros.cli.options import Commands, add_models, at_least, size


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("bench", help="measure where a frame's time goes on this machine")
    parser.set_defaults(run=_run)
    add_models(parser, required=True)
    parser.add_argument("--rules", type=Path, required=True, help="rules file of `classaug learn`")
    parser.add_argument("--images", type=Path, help="folder of PNG or JPEG images to run (default: synthetic ones)")
    parser.add_argument("--size", type=size, default=(720, 1280), help="WIDTHxHEIGHT of the frames (default 1280x720)")
    parser.add_argument(
        "--rounds", type=at_least(1), default=50, help="measurements of each step (default %(default)s)"
    )
    parser.add_argument("--json", type=Path, help="file to write the figures to as well")


def _run(options: argparse.Namespace) -> None:
    from classaug_ros.bench import bench, frames_of, synthetic_frames, to_text
    from classaug_ros.files import write_whole
    from classaug_ros.models import load_model
    from classaug_ros.rules import Rules

    frames = frames_of(options.images, options.size) if options.images else synthetic_frames(options.size)
    main, sub = load_model(options.main, options.main_card), load_model(options.sub, options.sub_card)
    result = bench(main, sub, Rules.load(options.rules), frames, options.rounds, options.threads)
    if options.json:
        write_whole(options.json, json.dumps(result, indent=1).encode())
    print(to_text(result))
