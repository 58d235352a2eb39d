"""``classaug evaluate``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classaug_ros.cli.options import Commands, add_models, add_serial, at_least, load_pipeline, needs_ros
from classaug_ros.errors import ConfigError

if TYPE_CHECKING:
    from classaug_ros.data.recordings import GroundTruth, Recording
    from classaug_ros.evaluation.evaluate import Evaluation, Watcher
    from classaug_ros.pipeline import Pipeline
    from classaug_ros.rules import Rules

TOLERANCE = 0.02
ONLY_WITH_BAG = ("topic", "truth", "tolerance", "write_bag", "live")
NOT_LIVE = ("save_labels", "video", "limit", "write_bag", "main_card", "sub_card")


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("evaluate", help="score main model, sub model and rules on a data set or a recording")
    parser.set_defaults(run=lambda options: (_run_live if options.live else _run)(options))
    add_models(parser, required=True)
    parser.add_argument("--rules", type=Path, required=True, help="rules file of `classaug learn`")
    parser.add_argument("--task", type=Path, required=True, help="task file the rules were learned for")
    parser.add_argument("--report", type=Path, required=True, help="folder for report.html, report.md, report.json")
    parser.add_argument("--dataset", help="data set file (YAML), or cityscapes:FOLDER, ade20k:FOLDER, camvid:FOLDER")
    parser.add_argument("--save-labels", action="store_true", help="write label images to REPORT/labels as well")
    parser.add_argument("--video", action="store_true", help="write overlays as a video, REPORT/overlay.mp4, as well")
    parser.add_argument("--limit", type=at_least(1), help="run the first so many images only")
    add_serial(parser)
    _add_recording(parser)


def _add_recording(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("recordings", "with --bag, --dataset says what its ground truth means")
    group.add_argument("--bag", type=Path, help="run on a rosbag2: its folder, or a .mcap or .db3 file")
    group.add_argument("--topic", nargs="+", action="extend", help="image topics (default: all of the bag)")
    group.add_argument(
        "--truth",
        nargs="+",
        action="extend",
        metavar="[TOPIC=]WAY",
        help="how frames find ground truth: order (the default), stamp (annotation files named by stamps), or a label "
        "topic of the bag; of several cameras, each by its image topic",
    )
    group.add_argument(
        "--tolerance", type=float, metavar="S", help=f"seconds stamps may be apart (default {TOLERANCE})"
    )
    group.add_argument("--write-bag", type=Path, metavar="FOLDER", help="write labels and overlays as a bag")
    group.add_argument(
        "--live",
        action="store_true",
        default=None,
        help="play the bag to a node of its own in real time and score what comes back: latency, dropped frames, mIoU",
    )


def _run(options: argparse.Namespace) -> None:
    from classaug_ros.data.layouts import open_dataset
    from classaug_ros.evaluation.evaluate import evaluate
    from classaug_ros.evaluation.kept import discard
    from classaug_ros.files import writable
    from classaug_ros.report import Pictures, Turned, build_report, table_2, write_report
    from classaug_ros.rules import Rules
    from classaug_ros.task import Task

    _check(options)
    source = _recording(options) if options.bag else open_dataset(options.dataset)
    task, rules = Task.load(options.task), Rules.load(options.rules)
    kept = options.report / ".predictions"
    writable(options.report / "report.json")
    with load_pipeline(options) as pipeline:
        turned, pictures = Turned(rules), Pictures(source, task, rules)
        with _watchers(options, pipeline, rules) as watchers:
            watching: list[Watcher] = [*watchers, turned, pictures]
            evaluation = evaluate(pipeline, source, task, rules, limit=options.limit, watchers=watching, kept=kept)
        report = build_report(evaluation, pipeline, source, rules, turned=turned)
    write_report(report, options.report, pictures)
    discard(kept)  # not before: what failed to be written can be made again from it
    print(table_2(report) if evaluation.scoring.names else _shares(report))
    if options.bag:
        print(_matched(evaluation))
    print(f"report: {options.report / 'report.html'}")


def _run_live(options: argparse.Namespace) -> None:
    from classaug_ros.files import writable
    from classaug_ros.report import Pictures, Turned, build_report, table_2, write_report
    from classaug_ros.rules import Rules
    from classaug_ros.task import Task

    with needs_ros():
        from classaug_ros.evaluation.live import evaluate_live
    _check(options)
    recording = _recording(options)
    task, rules = Task.load(options.task), Rules.load(options.rules)
    writable(options.report / "report.json")
    with load_pipeline(options) as pipeline:
        pipeline.check(rules)  # a mistake is told here, not by the node
    parameters = {
        "main_model": str(options.main),
        "sub_model": str(options.sub),
        "rules_file": str(options.rules),
        "threads": options.threads,
        "concurrent": not options.serial,
    }
    log, turned, pictures = options.report / "node.log", Turned(rules), Pictures(recording, task, rules)
    live = evaluate_live(
        lambda: load_pipeline(options), recording, task, rules, parameters, log, watchers=[turned, pictures]
    )
    report = build_report(live.evaluation, pipeline, recording, rules, turned=turned, live=live.report())
    write_report(report, options.report, pictures)
    print(table_2(report) if live.evaluation.scoring.names else _shares(report))
    print(f"{_matched(live.evaluation)}\n{live.in_short()}\nreport: {options.report / 'report.html'}")


def _check(options: argparse.Namespace) -> None:
    """Refuse options that do not go together."""
    for name in ONLY_WITH_BAG:
        if not options.bag and getattr(options, name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')} is for recordings: give --bag too, or leave it out")
    for name in NOT_LIVE:
        if options.live and getattr(options, name):
            raise ConfigError(f"--live goes without --{name.replace('_', '-')}: leave one of them out")
    if not (options.bag or options.dataset):
        raise ConfigError("give --dataset, --bag, or both")


def _recording(options: argparse.Namespace) -> Recording:
    from classaug_ros.data.recordings import open_recording

    return open_recording(options.bag, options.topic or (), _truth(options))


def _truth(options: argparse.Namespace) -> GroundTruth | None:
    from classaug_ros.data.layouts import open_annotations
    from classaug_ros.data.recordings import ORDER, STAMP, GroundTruth

    if not options.dataset:
        if options.truth:
            raise ConfigError("--truth: give --dataset too, which says what the values of the ground truth mean")
        return None
    ways = {}
    for text in options.truth or [ORDER]:
        topic, _, way = text.rpartition("=")
        if way not in (ORDER, STAMP) and not way.startswith("/"):
            raise ConfigError(f"--truth {text}: expected order, stamp or a label topic such as /front/label")
        ways[topic] = way
    tolerance = TOLERANCE if options.tolerance is None else options.tolerance
    if not 0 <= tolerance <= 3600:
        raise ConfigError(f"--tolerance {tolerance}: expected 0 to 3600 seconds")
    return GroundTruth(*open_annotations(options.dataset), ways, tolerance)


@contextmanager
def _watchers(options: argparse.Namespace, pipeline: Pipeline, rules: Rules) -> Iterator[list[Watcher]]:
    from classaug_ros.evaluation.evaluate import label_files

    with ExitStack() as stack:
        watchers: list[Watcher] = []
        if options.save_labels:
            watchers.append(label_files(options.report / "labels"))
        if options.video:
            from classaug_ros.evaluation.video import OverlayVideo

            watchers.append(stack.enter_context(OverlayVideo(options.report, rules)))
        if options.write_bag:
            from classaug_ros.evaluation.labelbag import LabelBag

            watchers.append(stack.enter_context(LabelBag(options.write_bag, pipeline, rules)))
        yield watchers


def _matched(evaluation: Evaluation) -> str:
    """Return how many frames had ground truth, in words."""
    found = [frame.apart for frame in evaluation.frames if frame.apart is not None]
    away = f", their stamps up to {max(found) / 1e6:.3f} ms apart" if any(found) else ""
    return f"{evaluation.images} frames, {len(found)} with ground truth{away}"


def _shares(report: Mapping[str, Any]) -> str:
    """Return the share of each output class over all frames, the largest first."""
    from classaug_ros.report.markdown import mean_shares

    rows = sorted(zip(mean_shares(report), report["output"], strict=True), key=lambda row: row[0], reverse=True)
    return "\n".join(f"{share:7.2%}  {shown['name']} ({shown['source']})" for share, shown in rows if share)
