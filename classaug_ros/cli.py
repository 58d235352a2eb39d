"""``classaug``: learning, evaluation and bags on the command line. Each command calls one function of the package."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from classaug_ros import __version__
from classaug_ros.errors import ClassaugError, ConfigError

if TYPE_CHECKING:
    from classaug_ros.pipeline import Pipeline

EXIT_MISTAKE = 2
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``classaug``; return its exit status: 0, 2 for a user's mistake, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        options.run(options)
    except ClassaugError as error:
        if options.debug:
            raise
        print(f"classaug {options.command}: {error}", file=sys.stderr)
        return EXIT_MISTAKE
    except KeyboardInterrupt:
        print(f"classaug {options.command}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("classaug", description="Class augmentation for semantic segmentation.")
    parser.add_argument("--version", action="version", version=f"classaug_ros {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_learn(commands)
    _add_evaluate(commands)
    _add_bench(commands)
    _add_make_bag(commands)
    _add_play(commands)
    return parser


_Commands = argparse._SubParsersAction  # noqa: SLF001 (argparse has no public name for it)


def _add_learn(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("learn", help="learn fusion rules from a sub data set")
    parser.set_defaults(run=_learn)
    _add_models(parser, required=False)
    parser.add_argument("--dataset", type=Path, nargs="+", action="extend", default=[], help="data set file(s) (YAML)")
    parser.add_argument("--task", type=Path, required=True, help="task file (YAML): similar and added classes")
    parser.add_argument("--output", type=Path, required=True, help="rules file to write, a ROS parameter file")
    parser.add_argument("--counts", type=Path, help="counts file to write and resume from (default: beside the output)")
    parser.add_argument("--from-counts", type=Path, nargs="+", default=[], help="merge these counts; run no model")
    parser.add_argument("--min-support", type=_at_least(1), default=1, help="pixels a rule must rest on (default 1)")
    parser.add_argument("--limit", type=_at_least(1), help="stop at so many images, those counted before included")
    _add_serial(parser)


def _add_evaluate(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("evaluate", help="score main model, sub model and rules on a data set")
    parser.set_defaults(run=_evaluate)
    _add_models(parser, required=True)
    parser.add_argument("--rules", type=Path, required=True, help="rules file of `classaug learn`")
    parser.add_argument("--dataset", type=Path, required=True, help="data set file (YAML)")
    parser.add_argument("--task", type=Path, required=True, help="task file the rules were learned for")
    parser.add_argument("--report", type=Path, required=True, help="folder for report.json and report.md")
    parser.add_argument("--save-labels", action="store_true", help="write label images to REPORT/labels as well")
    parser.add_argument("--limit", type=_at_least(1), help="score the first so many images only")
    _add_serial(parser)


def _add_serial(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--serial", action="store_true", help="run the models one after the other, not at once")


def _add_bench(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("bench", help="measure where a frame's time goes on this machine")
    parser.set_defaults(run=_bench)
    _add_models(parser, required=True)
    parser.add_argument("--rules", type=Path, required=True, help="rules file of `classaug learn`")
    parser.add_argument("--images", type=Path, help="folder of PNG or JPEG images to run (default: synthetic ones)")
    parser.add_argument("--size", type=_size, default=(720, 1280), help="WIDTHxHEIGHT of the frames (default 1280x720)")
    parser.add_argument(
        "--rounds", type=_at_least(1), default=50, help="measurements of each step (default %(default)s)"
    )
    parser.add_argument("--json", type=Path, help="file to write the figures to as well")


def _add_models(parser: argparse.ArgumentParser, *, required: bool) -> None:
    for role in ("main", "sub"):
        parser.add_argument(f"--{role}", type=Path, required=required, help=f"{role} model: its file or folder")
        parser.add_argument(f"--{role}-card", type=Path, help="model card (default: model.yaml beside the model)")
    parser.add_argument("--threads", type=_at_least(0), default=0, help="CPU threads in all (default: one per core)")


def _add_make_bag(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("make-bag", help="write a rosbag2 from images or a video")
    parser.set_defaults(run=_make_bag)
    parser.add_argument("images", type=Path, help="folder of images, in name order, or a video file")
    parser.add_argument("--output", type=Path, required=True, help="bag folder to write")
    parser.add_argument("--topic", default="/camera/image_raw", help="image topic (default %(default)s)")
    parser.add_argument("--rate", type=float, help="frames per second (default: the video's own, or 10)")
    parser.add_argument("--compressed", action="store_true", help="write sensor_msgs/CompressedImage")
    parser.add_argument("--storage", choices=("mcap", "sqlite3"), default="mcap", help="default %(default)s")


def _add_play(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("play", help="publish a rosbag2 at its own rate")
    parser.set_defaults(run=_play)
    parser.add_argument("bag", type=Path, help="bag folder or file")
    parser.add_argument("--rate", type=float, default=1.0, help="speed, 1 is the recording's own (default)")
    parser.add_argument("--loop", action="store_true", help="start over at the end until interrupted")
    parser.add_argument("--topics", nargs="+", default=[], help="publish these topics only")
    parser.add_argument("--clock", action="store_true", help="publish /clock for nodes with use_sim_time")
    parser.add_argument(
        "--wait-matching-subscriptions",
        type=_at_least(1),
        default=1,
        metavar="N",
        help="wait a few seconds for N subscribers of each topic (default %(default)s)",
    )


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return _at_least(1)(height), _at_least(1)(width)


def _at_least(least: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected a whole number, found {text!r}") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"expected at least {least}, found {value}")
        return value

    return convert


def _learn(options: argparse.Namespace) -> None:
    from classaug_ros.counts import Counts, merge
    from classaug_ros.files import writable
    from classaug_ros.learn import count, derive_rules, summarise
    from classaug_ros.task import Task

    task = Task.load(options.task)
    writable(options.output)
    if options.from_counts:
        if options.main or options.sub or options.dataset or options.counts or options.limit:
            raise ConfigError("--from-counts runs no model: leave out --main, --sub, --dataset, --counts and --limit")
        counts = merge((str(path), Counts.load(path)) for path in options.from_counts)
    else:
        if not (options.dataset and options.main and options.sub):
            raise ConfigError("give --main, --sub and --dataset, or --from-counts")
        path = options.counts or options.output.with_suffix(".counts.npz")
        from classaug_ros.dataset import load_dataset

        datasets = [load_dataset(dataset) for dataset in options.dataset]
        with _pipeline(options) as pipeline:
            counts = count(pipeline, datasets, task, path, options.limit)
    rules = derive_rules(counts, task, options.min_support)
    rules.save(options.output)
    print(summarise(counts, rules))
    print(f"rules: {options.output}")


def _evaluate(options: argparse.Namespace) -> None:
    from classaug_ros.dataset import load_dataset
    from classaug_ros.evaluate import evaluate
    from classaug_ros.files import writable
    from classaug_ros.report import build_report, table_2, write_report
    from classaug_ros.rules import Rules
    from classaug_ros.task import Task

    task, rules, dataset = Task.load(options.task), Rules.load(options.rules), load_dataset(options.dataset)
    writable(options.report / "report.json")
    labels = options.report / "labels" if options.save_labels else None
    with _pipeline(options) as pipeline:
        evaluation = evaluate(pipeline, dataset, task, rules, limit=options.limit, labels=labels)
        report = build_report(evaluation, pipeline, dataset, rules)
    write_report(report, options.report)
    print(table_2(report))
    print(f"report: {options.report / 'report.md'}")


def _bench(options: argparse.Namespace) -> None:
    from classaug_ros.bench import bench, frames_of, synthetic_frames, to_text
    from classaug_ros.files import write_whole
    from classaug_ros.models import load_model
    from classaug_ros.rules import Rules

    frames = frames_of(options.images, options.size) if options.images else synthetic_frames(options.size)
    main, sub = load_model(options.main, options.main_card), load_model(options.sub, options.sub_card)
    result = bench(main, sub, Rules.load(options.rules), frames, options.rounds, options.threads)
    if options.json:
        write_whole(options.json, json.dumps(result, indent=1).encode())
    print(to_text(result))


def _pipeline(options: argparse.Namespace) -> Pipeline:
    from classaug_ros.models import load_model
    from classaug_ros.pipeline import Pipeline

    main = load_model(options.main, options.main_card)
    sub = load_model(options.sub, options.sub_card)
    return Pipeline(main, sub, threads=options.threads, concurrent=not options.serial)


def _make_bag(options: argparse.Namespace) -> None:
    from classaug_ros.bags import make_bag

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
    try:
        from classaug_ros.player import play
    except ModuleNotFoundError as error:
        raise ConfigError(f"there is no Python module {error.name!r} here: source your ROS 2 installation") from error
    play(
        options.bag,
        rate=options.rate,
        loop=options.loop,
        topics=options.topics,
        clock=options.clock,
        subscribers=options.wait_matching_subscriptions,
    )


if __name__ == "__main__":
    sys.exit(main())
