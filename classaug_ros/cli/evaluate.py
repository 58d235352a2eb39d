"""``classaug evaluate``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classaug_ros.cli.options import Commands, add_models, add_running, at_least, load_pipeline, needs_ros, within
from classaug_ros.errors import ConfigError

if TYPE_CHECKING:
    from classaug_ros.data.recordings import GroundTruth, Recording
    from classaug_ros.evaluation.evaluate import Evaluation, Watcher
    from classaug_ros.pipeline.cpu import Pipeline
    from classaug_ros.rules import RuleSet
    from classaug_ros.rules.decision import Decision
    from classaug_ros.rules.task import Task

TOLERANCE = 0.02
ONLY_WITH_BAG = ("topic", "truth", "tolerance", "write_bag", "live")
NOT_LIVE = ("save_labels", "video", "limit", "write_bag", "main_card", "sub_card")


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("evaluate", help="score main model, sub model and rules on a data set or a recording")
    parser.set_defaults(run=lambda options: (_run_live if options.live else _run)(options))
    add_models(parser, required=True, several=True)
    for name, what in (
        ("--rules", "rules file of `classaug learn`"),
        ("--task", "task file the rules were learned for"),
    ):
        several = f"{what}; one per sub model, in the order of --sub"
        parser.add_argument(name, type=Path, required=True, nargs="+", action="extend", help=several)
    parser.add_argument("--report", type=Path, required=True, help="folder for report.html, report.md, report.json")
    parser.add_argument("--dataset", help="data set file (YAML), or cityscapes:FOLDER, ade20k:FOLDER, camvid:FOLDER")
    parser.add_argument("--save-labels", action="store_true", help="write label images to REPORT/labels as well")
    parser.add_argument("--video", action="store_true", help="write overlays as a video, REPORT/overlay.mp4, as well")
    parser.add_argument("--limit", type=at_least(1), help="run the first so many images only")
    add_running(parser)
    _add_decision(parser)
    _add_recording(parser)


def _add_decision(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "decision", "how the rules in use decide; as the node's parameters of these names"
    )
    group.add_argument(
        "--prefer",
        choices=("evidence", "main"),
        default="evidence",
        help="what decides which main class a pixel has, with rules of kind probability (default: evidence)",
    )
    group.add_argument(
        "--min-confidence",
        type=within(0, 1),
        default=0.0,
        metavar="P",
        help="leave pixels less confident than this unlabelled",
    )
    group.add_argument(
        "--contours", action="store_true", help="let labels follow the image's edges, with rules of kind probability"
    )


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
    from classaug_ros.evaluation.prediction_cache import discard
    from classaug_ros.evaluation.report import ClassChanges, Pictures, build_report, table_2, write_report
    from classaug_ros.io.files import writable

    _check(options)
    source = _recording(options) if options.bag else open_dataset(options.dataset)
    tasks, rules, decision = _rules(options)
    kept = options.report / ".predictions"
    writable(options.report / "report.json")
    with load_pipeline(options) as pipeline:
        class_changes, pictures = ClassChanges(rules), Pictures(source, tasks, rules)
        with _watchers(options, pipeline, rules, decision) as watchers:
            watching: list[Watcher] = [*watchers, class_changes, pictures]
            evaluation = evaluate(
                pipeline, source, tasks, rules, decision, limit=options.limit, watchers=watching, kept=kept
            )
        report = build_report(evaluation, pipeline, source, class_changes=class_changes)
    write_report(report, options.report, pictures)
    discard(kept)  # not before: what failed to be written can be made again from it
    print(table_2(report) if evaluation.scoring.names else _shares(report))
    print(_trust(report), end="")
    if options.bag:
        print(_matched(evaluation))
    print(f"report: {options.report / 'report.html'}")


def _run_live(options: argparse.Namespace) -> None:
    from classaug_ros.evaluation.report import ClassChanges, Pictures, build_report, table_2, write_report
    from classaug_ros.io.files import writable

    with needs_ros():
        from classaug_ros.evaluation.live import evaluate_live
    _check(options)
    recording = _recording(options)
    tasks, rules, decision = _rules(options)
    writable(options.report / "report.json")
    with load_pipeline(options) as pipeline:
        pipeline.check(rules)  # a mistake is told here, not by the node
    parameters = {
        "main_model": str(options.main),
        "sub_model": _one_or_several(options.sub),
        "rules_file": _one_or_several(options.rules),
        "prefer": decision.prefer,
        "min_confidence": decision.min_confidence,
        "contours": decision.contours,
        "threads": options.threads,
        "concurrent": not options.serial,
        "device": options.device,
        "precision": options.precision,
    }
    log, class_changes, pictures = options.report / "node.log", ClassChanges(rules), Pictures(recording, tasks, rules)
    live = evaluate_live(
        *(lambda: load_pipeline(options), recording, tasks, rules, parameters, log, decision),
        watchers=[class_changes, pictures],
    )
    report = build_report(live.evaluation, pipeline, recording, class_changes=class_changes, live=live.report())
    write_report(report, options.report, pictures)
    print(table_2(report) if live.evaluation.scoring.names else _shares(report))
    print(_trust(report), end="")
    print(f"{_matched(live.evaluation)}\n{live.in_short()}\nreport: {options.report / 'report.html'}")


def _rules(options: argparse.Namespace) -> tuple[list[Task], RuleSet, Decision]:
    """Return the tasks, the rules, and how they decide; they fit each other."""
    from classaug_ros.evaluation.evaluate import check_tasks
    from classaug_ros.rules import Rules, RuleSet
    from classaug_ros.rules.decision import Decision
    from classaug_ros.rules.task import Task

    tasks = [Task.load(path) for path in options.task]
    rules = RuleSet([Rules.load(path) for path in options.rules])
    check_tasks(rules, tasks)
    decision = Decision(options.prefer, options.min_confidence, options.contours)
    decision.check(rules)
    return tasks, rules, decision


def _one_or_several(paths: Sequence[Path]) -> str | list[str]:
    """Return a parameter of the node that names one file or several."""
    return str(paths[0]) if len(paths) == 1 else [str(path) for path in paths]


def _check(options: argparse.Namespace) -> None:
    """Refuse options that do not go together."""
    counts = {f"--{name.replace('_', '-')}": getattr(options, name) for name in ("sub", "rules", "task", "sub_card")}
    if len({len(given) for given in counts.values() if given}) > 1:
        found = ", ".join(f"{len(given)} of {name}" for name, given in counts.items() if given)
        raise ConfigError(f"found {found}; give one of each per sub model, in the same order")
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
def _watchers(
    options: argparse.Namespace, pipeline: Pipeline, rules: RuleSet, decision: Decision
) -> Iterator[list[Watcher]]:
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

            watchers.append(stack.enter_context(LabelBag(options.write_bag, pipeline, rules, decision)))
        yield watchers


def _matched(evaluation: Evaluation) -> str:
    """Return how many frames had ground truth, in words."""
    found = [frame.apart for frame in evaluation.frames if frame.apart is not None]
    away = f", their stamps up to {max(found) / 1e6:.3f} ms apart" if any(found) else ""
    return f"{evaluation.images} frames, {len(found)} with ground truth{away}"


def _trust(report: Mapping[str, Any]) -> str:
    """Return the calibration error, and how much was left unlabelled, in lines of their own where there is any."""
    title, error = report["methods"][report["in_use"]]["title"], report["calibration"]["error"]
    lines = []
    if error is not None:
        lines.append(f"expected calibration error of the {title}: {error:.1f} points\n")
    if report["provenance"]["decision"]["min_confidence"]:
        lines.append(f"left unlabelled: {report['unlabelled']:.1f} % of the pixels\n")
    return "".join(lines)


def _shares(report: Mapping[str, Any]) -> str:
    """Return the share of each output class over all frames, the largest first."""
    from classaug_ros.evaluation.report.markdown import mean_shares

    rows = sorted(zip(mean_shares(report), report["output"], strict=True), key=lambda row: row[0], reverse=True)
    return "\n".join(f"{share:7.2%}  {shown['name']} ({shown['source']})" for share, shown in rows if share)
