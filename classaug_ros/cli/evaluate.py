"""``classaug evaluate``."""

from __future__ import annotations

import argparse
from pathlib import Path

from classaug_ros.cli.options import Commands, add_models, add_serial, at_least, load_pipeline


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("evaluate", help="score main model, sub model and rules on a data set")
    parser.set_defaults(run=_run)
    add_models(parser, required=True)
    parser.add_argument("--rules", type=Path, required=True, help="rules file of `classaug learn`")
    parser.add_argument("--dataset", type=Path, required=True, help="data set file (YAML)")
    parser.add_argument("--task", type=Path, required=True, help="task file the rules were learned for")
    parser.add_argument("--report", type=Path, required=True, help="folder for report.json and report.md")
    parser.add_argument("--save-labels", action="store_true", help="write label images to REPORT/labels as well")
    parser.add_argument("--limit", type=at_least(1), help="score the first so many images only")
    add_serial(parser)


def _run(options: argparse.Namespace) -> None:
    from classaug_ros.dataset import load_dataset
    from classaug_ros.evaluate import evaluate, label_files
    from classaug_ros.files import writable
    from classaug_ros.report import build_report, table_2, write_report
    from classaug_ros.rules import Rules
    from classaug_ros.task import Task

    task, rules, dataset = Task.load(options.task), Rules.load(options.rules), load_dataset(options.dataset)
    writable(options.report / "report.json")
    watchers = [label_files(options.report / "labels")] if options.save_labels else []
    with load_pipeline(options) as pipeline:
        evaluation = evaluate(pipeline, dataset, task, rules, limit=options.limit, watchers=watchers)
        report = build_report(evaluation, pipeline, dataset, rules)
    write_report(report, options.report)
    print(table_2(report))
    print(f"report: {options.report / 'report.md'}")
