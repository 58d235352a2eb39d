"""``classaug``: learning, evaluation and bags on the command line. Each command is a module of its own here."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from classaug_ros import __version__
from classaug_ros.cli import bag, bench, card, compare, evaluate, export, inspect, learn, quantize
from classaug_ros.errors import ClassaugError

EXIT_MISTAKE = 2
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``classaug``; return its exit status: the command's or 0, 2 for a mistake, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")  # what it warns of is told in one line of ours
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        return options.run(options) or 0
    except ClassaugError as error:
        if options.debug:
            raise
        print(f"classaug {options.command}: {error}", file=sys.stderr)
        return EXIT_MISTAKE
    except KeyboardInterrupt:
        print(f"classaug {options.command}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("classaug", description="Class augmentation for semantic segmentation.")
    parser.add_argument("--version", action="version", version=f"classaug_ros {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    modules = (export, card, quantize, learn, inspect, evaluate, compare, bench)
    for add in (*(module.add for module in modules), bag.add_make_bag, bag.add_play):
        add(commands)
    return parser
