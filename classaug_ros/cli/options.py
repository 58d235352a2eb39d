"""What several commands share: options, their values, and the models they name."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from classaug_ros.errors import ConfigError, missing

if TYPE_CHECKING:
    from classaug_ros.pipeline.cpu import Pipeline

MAX_THREADS = 256
MAX_SIDE = 16384

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 (it has no public name)


def add_models(parser: argparse.ArgumentParser, *, required: bool, several: bool = False) -> None:
    """Add the options that name the models: a main and a sub model, or ``several`` sub models as a list."""
    parser.add_argument("--main", type=Path, required=required, help="main model: its file or folder")
    add_card(parser, "--main-card")
    more: dict[str, Any] = {"nargs": "+", "action": "extend"} if several else {}
    parser.add_argument("--sub", type=Path, required=required, help="sub model: its file or folder", **more)
    add_card(parser, "--sub-card", **more)
    parser.add_argument(
        "--threads", type=at_least(0, MAX_THREADS), default=0, help="CPU threads in all (default: one per core)"
    )


def add_card(parser: argparse.ArgumentParser, name: str, **more: Any) -> None:
    """Add an option that names a model card."""
    parser.add_argument(name, type=Path, help="model card (default: model.yaml beside the model)", **more)


def add_running(parser: argparse.ArgumentParser) -> None:
    """Add the options that tell where and how the models run."""
    parser.add_argument("--serial", action="store_true", help="run the models one after the other, not at once")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where they run (default %(default)s)")
    parser.add_argument(
        "--precision",
        choices=("fp16", "fp32"),
        default="fp16",
        help="of TensorRT engines built from ONNX models with --device cuda (default %(default)s)",
    )


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Tell how to install the libraries of an optional part of the package, where one is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(missing(error, "this command", name)) from error


def size(text: str) -> tuple[int, int]:
    """Return (H, W) of a text such as ``1280x720``."""
    width, cross, height = text.partition("x")
    if not cross:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT, such as 1280x720, found {text!r}")
    side = at_least(1, MAX_SIDE)
    return side(height), side(width)


def printable(text: str) -> str:
    """Return a text, unless there are control characters in it or bytes that are no text."""
    if not text.isprintable():
        raise argparse.ArgumentTypeError(f"expected printable characters, found {text!r:.80}")
    return text


def at_least(least: int, most: int = 10**9) -> Callable[[str], int]:
    """Return what turns a text into a whole number of at least ``least``, and at most ``most``."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected a whole number, found {text!r}") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"expected at least {least}, found {value}")
        if value > most:
            raise argparse.ArgumentTypeError(f"expected at most {most}, found {value}")
        return value

    return convert


def within(least: float, most: float) -> Callable[[str], float]:
    """Return what turns a text into a number from ``least`` to ``most``."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"expected a number from {least:g} to {most:g}, found {text!r}")
        return value

    return convert


def load_pipeline(options: argparse.Namespace) -> Pipeline:
    """Return all models loaded, as the options say."""
    from classaug_ros.engines import BuildOptions, Where
    from classaug_ros.models.card import load_model
    from classaug_ros.pipeline.cpu import Pipeline

    main = load_model(options.main, options.main_card)
    subs = options.sub if isinstance(options.sub, list) else [options.sub]
    cards = options.sub_card if isinstance(options.sub_card, list) else [options.sub_card] * len(subs)
    loaded = [load_model(sub, card) for sub, card in zip(subs, cards, strict=True)]
    where = Where(options.device, BuildOptions(precision=options.precision))
    return Pipeline(main, *loaded, threads=options.threads, concurrent=not options.serial, where=where)


@contextmanager
def needs_ros() -> Iterator[None]:
    """Say in one line that ROS is missing, when an import within fails for it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(f"there is no Python module {error.name!r} here: source your ROS 2 installation") from error
