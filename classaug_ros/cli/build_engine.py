"""``classaug build-engine``."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from classaug_ros.cli.options import Commands, add_card, at_least
from classaug_ros.errors import ConfigError

if TYPE_CHECKING:
    from classaug_ros.models.card import Model

_log = logging.getLogger(__name__)

_OTHERWISE = "name a file in another folder, or write over it by --force"


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("build-engine", help="build the TensorRT engine of a model, before the node needs it")
    parser.set_defaults(run=_run)
    parser.add_argument("model", type=Path, help="ONNX model: its file or folder")
    add_card(parser, "--card")
    parser.add_argument(
        "--output", type=Path, help="engine file, ending in .engine (default: in the cache, where the node looks)"
    )
    parser.add_argument(
        "--precision", choices=("fp16", "fp32"), default="fp16", help="what it computes with (default fp16)"
    )
    parser.add_argument(
        "--batch",
        type=at_least(1),
        nargs=3,
        default=(1, 1, 1),
        metavar=("MIN", "OPT", "MAX"),
        help="least, usual and most images at a time (default 1 1 1)",
    )
    parser.add_argument(
        "--force", action="store_true", help="build it though there is one, and write over the card beside it"
    )


def _run(options: argparse.Namespace) -> None:
    from classaug_ros.engines import needs
    from classaug_ros.io.files import writable, write_all
    from classaug_ros.io.interruption import interruption
    from classaug_ros.models.card import load_model
    from classaug_ros.models.engine_manifest import ENGINE_SUFFIX, BuildOptions

    model = load_model(options.model, options.card)
    if model.path.suffix != ".onnx":
        raise ConfigError(f"{model.path}: expected an ONNX model, which engines are built from")
    wanted = BuildOptions(options.precision, tuple(options.batch))
    card: dict[Path, bytes] = {}
    if options.output:
        if options.output.suffix != ENGINE_SUFFIX:
            raise ConfigError(f"{options.output}: expected a file ending in {ENGINE_SUFFIX}")
        card = _card_beside(options.output, model, options.card, force=options.force)
        writable(options.output)
    with needs(model, "building engines"):
        from classaug_ros.engines.build import Building, find_or_build
        from classaug_ros.engines.device import first_device
    device = first_device()
    if device.type == "cpu" and not options.output:
        raise ConfigError("there is no GPU here, so that the engine is for another machine: name its file by --output")
    with interruption() as interrupted:
        path, plan = find_or_build(
            model,
            wanted,
            device,
            _log.info,
            path=options.output,
            force=options.force,
            building=Building(shown=True, interrupted=interrupted),
        )
    if card:
        write_all(card)
    print(f"engine: {path} ({len(plan) / 1e6:.1f} MB)")


def _card_beside(output: Path, model: Model, card: Path | None, *, force: bool) -> dict[Path, bytes]:
    """Return the files that are to be beside an engine and are not yet: its model card and classes.

    Raises:
        ConfigError: there is another card, and not to be written over, or the classes are in another folder than it.
    """
    from classaug_ros.io.files import read_whole
    from classaug_ros.io.yamlfile import read_mapping
    from classaug_ros.models.card import CARD_NAME, ModelCard

    source, target = card or model.path.with_name(CARD_NAME), output.with_name(CARD_NAME)
    forced = force and target != model.path.with_name(CARD_NAME)
    if target.exists() and not forced:
        if ModelCard.load(target).fingerprint != model.card.fingerprint:
            raise ConfigError(f"{target}: is another card than {source}; {_OTHERWISE}")
        return {}
    classes = Path(read_mapping(source)["classes"])
    if classes.name != str(classes):
        raise ConfigError(f"{source}: has its classes in another folder; write a card of the engine to {target} first")
    beside = output.with_name(classes.name)
    if beside.exists() and not forced and read_whole(beside) != read_whole(source.parent / classes):
        raise ConfigError(f"{beside}: are other classes than {source.parent / classes}; {_OTHERWISE}")
    return {target: read_whole(source), beside: read_whole(source.parent / classes)}
