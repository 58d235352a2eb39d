"""``classaug inspect``."""

from __future__ import annotations

import argparse
from pathlib import Path

from classaug_ros.cli.options import Commands


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("inspect", help="tell what rules do, and how sure they are")
    parser.set_defaults(run=_run)
    parser.add_argument("rules", type=Path, help="rules file of `classaug learn`")
    parser.add_argument(
        "--counts",
        type=Path,
        nargs="+",
        default=[],
        help="the counts they rest on, for support and near ties (default: RULES.counts.npz beside them, if there)",
    )
    parser.add_argument("--task", type=Path, help="their task file, for similar classes that never occur")
    parser.add_argument("--picture", type=Path, help="PNG file to draw the table into")


def _run(options: argparse.Namespace) -> None:
    from classaug_ros.errors import ConfigError
    from classaug_ros.learning.counts import Counts, merge
    from classaug_ros.learning.inspection import describe
    from classaug_ros.rules import Rules
    from classaug_ros.task import Task

    if options.picture and options.picture.suffix.lower() != ".png":
        raise ConfigError(f"--picture {options.picture}: expected a file name ending in .png")
    rules = Rules.load(options.rules)
    task = Task.load(options.task) if options.task else None
    beside = options.rules.with_suffix(".counts.npz")
    paths = options.counts or ([beside] if beside.is_file() else [])
    counts = merge((str(path), Counts.load(path)) for path in paths) if paths else None
    text = describe(rules, counts, task)
    if options.picture:
        from classaug_ros.files import write_whole
        from classaug_ros.learning.tablepicture import draw_table, encode

        write_whole(options.picture, encode(draw_table(rules, counts)))
    print(text)
    if counts is None:
        print(f"\nthere is no {beside}: name the counts with --counts for support, near ties and classes never seen")
    elif task is None:
        print("\nname the task with --task for similar classes that never occur")
    if options.picture:
        print(f"picture: {options.picture}")
