"""``classaug card``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classaug_ros.cli.options import Commands, printable, size
from classaug_ros.errors import ConfigError

if TYPE_CHECKING:
    from classaug_ros.convert.cards import Interface, Knowledge
    from classaug_ros.models.labels import LabelSpace

COLORS = ("rgb", "bgr")
CONVENTIONS = ("half_pixel", "align_corners", "asymmetric")

Parse = Callable[[str], Any]


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "card",
        help="write the model card of an ONNX file",
        description="Write model.yaml and classes.csv beside an ONNX file. What neither the file nor an option tells "
        "is asked on a terminal.",
    )
    parser.set_defaults(run=_run)
    parser.add_argument("model", type=Path, help="ONNX file")
    parser.add_argument("--classes", help="cityscapes, ade20k, or a classes.csv with the model's classes")
    normalisation = parser.add_argument_group("normalisation, x = (value - mean) * scale for values 0..255")
    normalisation.add_argument("--imagenet", action="store_true", help="ImageNet's, as most networks are trained with")
    for name in ("mean", "scale"):
        normalisation.add_argument(f"--{name}", type=float, nargs="+", help="one number, or one for each channel")
    parser.add_argument("--color", choices=COLORS, help="order of the input's channels")
    parser.add_argument(
        "--upsample", choices=CONVENTIONS, help="the model's own way to image size (PyTorch: half_pixel)"
    )
    parser.add_argument("--size", type=size, help="WIDTHxHEIGHT of the input, where the file leaves it open")
    parser.add_argument("--output", help="name of the output to use, where there are several")
    parser.add_argument("--name", type=printable, help="what to call the model (default: the file's name)")
    parser.add_argument("--force", action="store_true", help="write over a card that is there")


def _run(options: argparse.Namespace) -> None:
    from classaug_ros.convert.cards import CLASSES_NAME, complete, interface, refuse_overwriting, run_once, write_card
    from classaug_ros.models.card import CARD_NAME, MODEL_SUFFIXES, load_model

    if options.model.suffix in MODEL_SUFFIXES[1:]:
        raise ConfigError(f"{options.model}: expected an ONNX file; take the card of the same network's, or write it")
    if not options.force:
        refuse_overwriting(options.model.parent, CARD_NAME)
    found = interface(options.model)
    known = _knowledge(options, found)
    own = options.model.parent / CLASSES_NAME
    if not options.force and not (own.is_file() and own.read_text(encoding="utf-8") == known.classes.to_csv()):
        refuse_overwriting(options.model.parent, CLASSES_NAME)
    card = write_card(complete(found, known), options.model.parent)
    model = load_model(options.model)
    run_once(model)
    output = model.card.output
    print(
        f"input {found.input!r}: {known.size[1]}x{known.size[0]}; output {output.name!r}: {output.kind} "
        f"{output.width}x{output.height}, {len(known.classes)} classes; a random image ran"
    )
    if output.kind != "labels" and (output.height, output.width) == known.size:
        print("its scores have the input's size: a model that ends before its own upsampling is faster, and exact here")
    print(f"card: {card}")


def _knowledge(options: argparse.Namespace, found: Interface) -> Knowledge:
    """Gather what the file does not tell from the options, then from the terminal."""
    from classaug_ros.convert.cards import Knowledge

    given = _given(options, found)
    missing = {key: question for key, question in _questions(found).items() if key not in given}
    if missing and not sys.stdin.isatty():
        wanted = ", ".join(names for names, _, _ in missing.values())
        raise ConfigError(f"{options.model}: the file does not tell everything about the model; give {wanted}")
    for key, (_, text, parse) in missing.items():
        given[key] = _ask(text, parse)
    mean, scale = given.pop("normalisation")
    if mean is None:
        mean, scale = _imagenet(given["color"])
    return Knowledge(name=options.name or options.model.stem, mean=mean, scale=scale, **given)


def _questions(found: Interface) -> dict[str, tuple[str, str, Parse]]:
    """Return what has to be known: the options that say it, a question for it, and how its answer is read."""
    outputs = tuple(port.name for port in found.outputs)
    return {
        "classes": ("--classes", "classes: cityscapes, ade20k, or a classes.csv", _classes),
        "size": ("--size", "size of the input, WIDTHxHEIGHT", size),
        "output": ("--output", f"output to use: {', '.join(outputs)}", _one_of(outputs)),
        "color": ("--color", "order of the input's channels: rgb or bgr", _one_of(COLORS)),
        "normalisation": (
            "--imagenet or --mean and --scale",
            "x = (value - mean) * scale for values 0..255: imagenet, or mean and scale (2 numbers, or 3 and 3)",
            _normalisation,
        ),
        "upsample": (
            "--upsample",
            f"the model's own way to image size: {', '.join(CONVENTIONS)} (PyTorch: half_pixel)",
            _one_of(CONVENTIONS),
        ),
    }


def _given(options: argparse.Namespace, found: Interface) -> dict[str, Any]:
    """Return what the file and the options tell."""
    given: dict[str, Any] = {key: getattr(options, key) for key in ("color", "upsample") if getattr(options, key)}
    if options.classes:
        given["classes"] = _classes(options.classes)
    if found.size and options.size and found.size != options.size:
        raise ConfigError(
            f"--size {options.size[1]}x{options.size[0]}: {options.model} takes {found.size[1]}x{found.size[0]} only"
        )
    if found.size or options.size:
        given["size"] = found.size or options.size
    ports = {port.name: port for port in found.outputs}
    if options.output and options.output not in ports:
        raise ConfigError(f"--output {options.output}: {options.model} has the outputs {', '.join(ports)}")
    if options.output or len(ports) == 1:
        given["output"] = options.output or next(iter(ports))
        if "int" in ports[given["output"]].dtype:
            given.setdefault("upsample", "half_pixel")  # labels are not interpolated
    if options.imagenet and (options.mean or options.scale):
        raise ConfigError("--imagenet is a mean and a scale: leave out --mean and --scale")
    if options.imagenet:
        given["normalisation"] = (None, None)
    elif options.mean and options.scale:
        given["normalisation"] = (_triple(options.mean), _triple(options.scale))
    return given


def _ask(question: str, parse: Parse) -> Any:
    """Ask on the terminal until there is an answer that can be read."""
    answer = None
    while answer is None:
        answer = _answer(question, parse)
    return answer


def _answer(question: str, parse: Parse) -> Any | None:
    try:
        return parse(input(f"{question}\n> ").strip())
    except EOFError:
        raise ConfigError(f"no answer to: {question}") from None
    except (ConfigError, argparse.ArgumentTypeError) as error:
        print(error)
        return None


def _classes(text: str) -> LabelSpace:
    from classaug_ros.convert.classlists import SHIPPED, shipped_classes
    from classaug_ros.models.labels import LabelSpace

    return shipped_classes(text) if text in SHIPPED else LabelSpace.from_csv(Path(text))


def _one_of(choices: tuple[str, ...]) -> Parse:
    def convert(text: str) -> str:
        if text not in choices:
            raise ConfigError(f"expected one of {', '.join(choices)}, found {text!r}")
        return text

    return convert


def _normalisation(text: str) -> tuple[Any, Any]:
    """Read an answer: both None for ImageNet's, whose order depends on that of the channels."""
    if text == "imagenet":
        return None, None
    try:
        numbers = [float(word) for word in text.replace(",", " ").split()]
    except ValueError:
        numbers = []
    if len(numbers) not in (2, 6):
        raise ConfigError(f"expected imagenet, 2 or 6 numbers, found {text!r}")
    half = len(numbers) // 2
    return _triple(numbers[:half]), _triple(numbers[half:])


def _triple(numbers: list[float]) -> tuple[float, ...]:
    if len(numbers) not in (1, 3):
        raise ConfigError(f"mean and scale: expected one number or three, found {len(numbers)}")
    return tuple(numbers * 3 if len(numbers) == 1 else numbers)


def _imagenet(color: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    from classaug_ros.convert.cards import IMAGENET_MEAN, IMAGENET_SCALE

    step = 1 if color == "rgb" else -1
    return IMAGENET_MEAN[::step], IMAGENET_SCALE[::step]
