"""``classaug inspect``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from classaug_ros.cli.options import Commands

if TYPE_CHECKING:
    from classaug_ros.learning.counts import Counts
    from classaug_ros.rules import Rules


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
    parser.add_argument("--influence", type=Path, help="PNG file to draw into what speaks for and against each class")


def _run(options: argparse.Namespace) -> None:
    from classaug_ros.errors import ConfigError
    from classaug_ros.learning.counts import Counts, merge
    from classaug_ros.learning.inspection import describe
    from classaug_ros.rules import Rules
    from classaug_ros.rules.task import Task

    for option, path in (("--picture", options.picture), ("--influence", options.influence)):
        if path and path.suffix.lower() != ".png":
            raise ConfigError(f"{option} {path}: expected a file name ending in .png")
    rules = Rules.load(options.rules)
    task = Task.load(options.task) if options.task else None
    beside = options.rules.with_suffix(".counts.npz")
    paths = options.counts or ([beside] if beside.is_file() else [])
    counts = merge((str(path), Counts.load(path)) for path in paths) if paths else None
    text = describe(rules, counts, task)
    pictures = _draw(rules, counts, options.picture, options.influence)
    print(text)
    if counts is None:
        print(f"\nthere is no {beside}: name the counts with --counts for support, near ties and classes never seen")
    elif task is None:
        print("\nname the task with --task for similar classes that never occur")
    for path in pictures:
        print(f"picture: {path}")


def _draw(rules: Rules, counts: Counts | None, table: Path | None, influence: Path | None) -> list[Path]:
    """Write the pictures that are asked for; return their files."""
    from classaug_ros.errors import ConfigError
    from classaug_ros.io.files import write_all

    drawn: dict[Path, bytes] = {}
    if table or influence:
        from classaug_ros.learning.influence import Influence
        from classaug_ros.learning.tablepicture import draw_influence, draw_table, encode
    if table:
        drawn[table] = encode(draw_table(rules, counts))
    if influence:
        if rules.evidence is None:
            raise ConfigError(f"--influence {influence}: these rules have no probability rule: a model returns labels")
        if counts is None or not counts.samples:
            raise ConfigError(
                f"--influence {influence}: needs the counts that the rules rest on; name them with --counts"
            )
        drawn[influence] = encode(draw_influence(rules, Influence.of(rules.evidence, counts.samples)))
    if drawn:
        write_all(drawn)
    return [*drawn]
