"""``classaug learn``."""

from __future__ import annotations

import argparse
from pathlib import Path

from classaug_ros.cli.options import Commands, add_models, add_running, at_least, load_pipeline
from classaug_ros.errors import ConfigError


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("learn", help="learn fusion rules from a sub data set")
    parser.set_defaults(run=_run)
    add_models(parser, required=False)
    parser.add_argument(
        "--dataset",
        nargs="+",
        action="extend",
        default=[],
        help="data set file(s) (YAML), or cityscapes:FOLDER, ade20k:FOLDER, camvid:FOLDER",
    )
    parser.add_argument("--task", type=Path, required=True, help="task file (YAML): similar and added classes")
    parser.add_argument("--output", type=Path, required=True, help="rules file to write, a ROS parameter file")
    parser.add_argument("--counts", type=Path, help="counts file to write and resume from (default: beside the output)")
    parser.add_argument("--from-counts", type=Path, nargs="+", default=[], help="merge these counts; run no model")
    parser.add_argument("--min-support", type=at_least(1), default=1, help="pixels a rule must rest on (default 1)")
    parser.add_argument("--limit", type=at_least(1), help="stop at so many images, those counted before included")
    add_running(parser)


def _run(options: argparse.Namespace) -> None:
    from classaug_ros.io.files import writable
    from classaug_ros.learning.counts import Counts, merge
    from classaug_ros.learning.inspection import summarise
    from classaug_ros.learning.learn import count, derive_rules
    from classaug_ros.rules.task import Task

    task = Task.load(options.task)
    writable(options.output)
    if options.from_counts:
        if options.main or options.sub or options.dataset or options.counts or options.limit:
            raise ConfigError("--from-counts runs no model: leave out --main, --sub, --dataset, --counts and --limit")
        if options.device != "cpu":
            raise ConfigError(f"--from-counts runs no model: leave out --device {options.device}")
        counts = merge((str(path), Counts.load(path)) for path in options.from_counts)
    else:
        if not (options.dataset and options.main and options.sub):
            raise ConfigError("give --main, --sub and --dataset, or --from-counts")
        path = options.counts or options.output.with_suffix(".counts.npz")
        from classaug_ros.data.layouts import open_dataset

        datasets = [open_dataset(dataset) for dataset in options.dataset]
        with load_pipeline(options) as pipeline:
            counts = count(pipeline, datasets, task, path, options.limit)
    rules = derive_rules(counts, task, options.min_support)
    rules.save(options.output)
    print(summarise(counts, rules))
    print(f"rules: {options.output}")
