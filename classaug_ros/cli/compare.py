"""``classaug compare``."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from classaug_ros.cli.options import Commands

EXIT_BROKEN = 1


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "compare",
        help="compare reports of evaluations, and hold them to bounds",
        epilog="exit status: 0, or 1 where a bound is broken, or 2 where the reports cannot be compared",
    )
    parser.set_defaults(run=_run)
    parser.add_argument("reports", type=Path, nargs="+", help="report folders or report.json files, the base first")
    parser.add_argument(
        "--method",
        action="append",
        metavar="METHOD",
        help="whose classes are compared one by one: in_use (the rules in use, the default), main_only, sub_only, "
        "table, probability; repeatable",
    )
    parser.add_argument(
        "--max-drop",
        type=_bound,
        action="append",
        default=[],
        metavar="WHAT=POINTS",
        help="most points of IoU %% that the rules in use may lose against the first report, of main, added, all (the "
        "means) or a class; repeatable",
    )


def _run(options: argparse.Namespace) -> int:
    from classaug_ros.evaluation.report.compare import IN_USE, Bound, broken, load_runs, to_markdown

    runs = load_runs(options.reports)
    losses = broken(runs, [Bound(what, points) for what, points in options.max_drop])
    print(to_markdown(runs, options.method or [IN_USE]), end="")
    for loss in losses:
        print(f"classaug compare: bound broken: {loss}", file=sys.stderr)
    return EXIT_BROKEN if losses else 0


def _bound(text: str) -> tuple[str, float]:
    what, _, points = text.rpartition("=")
    try:
        value = float(points)
    except ValueError:
        value = math.nan
    if not what or not value >= 0:
        raise argparse.ArgumentTypeError(f"expected something such as main=0.5, found {text!r}")
    return what, value
