"""``classaug make-bag`` and ``classaug play``."""

from __future__ import annotations

import argparse
from pathlib import Path

from classaug_ros.cli.options import Commands, at_least, needs_ros


def add_make_bag(commands: Commands) -> None:
    """Add ``make-bag``."""
    parser = commands.add_parser("make-bag", help="write a rosbag2 from images or a video")
    parser.set_defaults(run=_make_bag)
    parser.add_argument("images", type=Path, help="folder of images, in name order, or a video file")
    parser.add_argument("--output", type=Path, required=True, help="bag folder to write")
    parser.add_argument("--topic", default="/camera/image_raw", help="image topic (default %(default)s)")
    parser.add_argument("--rate", type=float, help="frames per second (default: the video's own, or 10)")
    parser.add_argument("--compressed", action="store_true", help="write sensor_msgs/CompressedImage")
    parser.add_argument("--storage", choices=("mcap", "sqlite3"), default="mcap", help="default %(default)s")


def add_play(commands: Commands) -> None:
    """Add ``play``."""
    parser = commands.add_parser("play", help="publish a rosbag2 at its own rate")
    parser.set_defaults(run=_play)
    parser.add_argument("bag", type=Path, help="bag folder or file")
    parser.add_argument("--rate", type=float, default=1.0, help="speed, 1 is the recording's own (default)")
    parser.add_argument("--loop", action="store_true", help="start over at the end until interrupted")
    parser.add_argument("--topics", nargs="+", default=[], help="publish these topics only")
    parser.add_argument("--clock", action="store_true", help="publish /clock for nodes with use_sim_time")
    parser.add_argument(
        "--wait-matching-subscriptions",
        type=at_least(1),
        default=1,
        metavar="N",
        help="wait a few seconds for N subscribers of each topic (default %(default)s)",
    )


def _make_bag(options: argparse.Namespace) -> None:
    from classaug_ros.data.bags import make_bag

    frames = make_bag(
        options.images,
        options.output,
        topic=options.topic,
        rate=options.rate,
        compressed=options.compressed,
        storage=options.storage,
    )
    print(f"{frames} frames: {options.output}")


def _play(options: argparse.Namespace) -> None:
    with needs_ros():
        from classaug_ros.running.player import play
    play(
        options.bag,
        rate=options.rate,
        loop=options.loop,
        topics=options.topics,
        clock=options.clock,
        subscribers=options.wait_matching_subscriptions,
    )
