"""``classaug``: learning, evaluation and bags on the command line. Each command is a module of its own here."""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Sequence

from classaug_ros import __version__
from classaug_ros.cli import bag, bench, build_engine, card, compare, evaluate, export, inspect, learn, quantize
from classaug_ros.errors import ClassaugError

EXIT_DEFECT = 1
EXIT_MISTAKE = 2
EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141
"""Nobody reads the output any more: as a program ends that SIGPIPE kills."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``classaug``; return its exit status.

    Returns:
        the command's or 0; 1 for a defect, 2 for a mistake or a file or machine that will not do, 130 when interrupted,
        141 when its output is no longer read. What went wrong is told in one line, under ``--debug`` by the traceback.
    """
    options = _parser().parse_args(arguments)
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")  # what it warns of is told in one line of ours
    shown = logging.StreamHandler(sys.stderr)
    shown.addFilter(_is_for_the_user)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[shown])
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files and classes may be anything
    try:
        status = options.run(options) or 0
        sys.stdout.flush()  # a full disk is told here, not by the interpreter as it ends
    except KeyboardInterrupt:
        status, problem = EXIT_INTERRUPTED, "interrupted"
    except Exception as error:
        written = _drop_output()
        if options.debug:
            raise
        status, problem = _told(error, written)
    else:
        return int(status)
    if problem:
        print(f"classaug {options.command}: {_printable(problem)}", file=sys.stderr)
    return status


def _is_for_the_user(record: logging.LogRecord) -> bool:
    """Tell whether a message is ours or a warning: PyTorch has statistics to tell as it ends."""
    return record.name.startswith("classaug_ros") or record.levelno >= logging.WARNING


def _told(error: Exception, written: bool) -> tuple[int, str]:
    """Return the exit status after an error, and what to say of it; ``written``: the output could be."""
    if isinstance(error, ClassaugError):
        return EXIT_MISTAKE, str(error)
    if isinstance(error, BrokenPipeError):
        return EXIT_UNREAD, ""
    if isinstance(error, OSError):  # of a file where nothing is foreseen; only opening one gives the error its name
        unnamed = "a file or the output" if written else "standard output"
        return EXIT_MISTAKE, f"{error.filename or unnamed}: {error.strerror or error}"
    if isinstance(error, MemoryError):
        return EXIT_MISTAKE, f"out of memory: {str(error) or 'use smaller models or images, or another machine'}"
    what = f"{type(error).__name__}: {error}"
    return EXIT_DEFECT, f"a defect of this program, {what}; please report what `classaug --debug` tells of it"


def _drop_output() -> bool:
    """Throw away output that cannot be written, lest the interpreter try again as it ends; tell whether it could be."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def _printable(text: str) -> str:
    """Return one line of text: line ends and what no terminal should be sent are shown as Python writes them."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("classaug", description="Class augmentation for semantic segmentation.")
    parser.add_argument("--version", action="version", version=f"classaug_ros {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    modules = (export, card, quantize, build_engine, learn, inspect, evaluate, compare, bench)
    for add in (*(module.add for module in modules), bag.add_make_bag, bag.add_play):
        add(commands)
    return parser
