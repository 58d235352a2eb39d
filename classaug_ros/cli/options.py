"""What several commands share: options, their values, and the models they name."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from classaug_ros.errors import ConfigError

if TYPE_CHECKING:
    from classaug_ros.pipeline import Pipeline

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 (it has no public name)


def add_models(parser: argparse.ArgumentParser, *, required: bool, several: bool = False) -> None:
    """Add the options that name the models: a main and a sub model, or ``several`` sub models as a list."""
    parser.add_argument("--main", type=Path, required=required, help="main model: its file or folder")
    add_card(parser, "--main-card")
    more: dict[str, Any] = {"nargs": "+", "action": "extend"} if several else {}
    parser.add_argument("--sub", type=Path, required=required, help="sub model: its file or folder", **more)
    add_card(parser, "--sub-card", **more)
    parser.add_argument("--threads", type=at_least(0), default=0, help="CPU threads in all (default: one per core)")


def add_card(parser: argparse.ArgumentParser, name: str, **more: Any) -> None:
    """Add an option that names a model card."""
    parser.add_argument(name, type=Path, help="model card (default: model.yaml beside the model)", **more)


def add_serial(parser: argparse.ArgumentParser) -> None:
    """Add ``--serial``."""
    parser.add_argument("--serial", action="store_true", help="run the models one after the other, not at once")


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Tell how to install the libraries of an optional part of the package, where one is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"there is no Python module {error.name!r} here, which this command needs: pip install "
            f"'classaug_ros[{name}]' (from a checkout: pip install '.[{name}]')"
        ) from error


def size(text: str) -> tuple[int, int]:
    """Return (H, W) of a text such as ``1280x720``."""
    width, cross, height = text.partition("x")
    if not cross:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT, such as 1280x720, found {text!r}")
    return at_least(1)(height), at_least(1)(width)


def at_least(least: int) -> Callable[[str], int]:
    """Return what turns a text into a whole number of at least ``least``."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected a whole number, found {text!r}") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"expected at least {least}, found {value}")
        return value

    return convert


def load_pipeline(options: argparse.Namespace) -> Pipeline:
    """Return all models loaded, as the options say."""
    from classaug_ros.models import load_model
    from classaug_ros.pipeline import Pipeline

    main = load_model(options.main, options.main_card)
    subs = options.sub if isinstance(options.sub, list) else [options.sub]
    cards = options.sub_card if isinstance(options.sub_card, list) else [options.sub_card] * len(subs)
    loaded = [load_model(sub, card) for sub, card in zip(subs, cards, strict=True)]
    return Pipeline(main, *loaded, threads=options.threads, concurrent=not options.serial)


@contextmanager
def needs_ros() -> Iterator[None]:
    """Say in one line that ROS is missing, when an import within fails for it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(f"there is no Python module {error.name!r} here: source your ROS 2 installation") from error
