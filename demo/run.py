"""The demo: learn rules on drawn street scenes, then play a drive to the node over ROS 2 and score what it publishes.

``python -m demo.run``; needs rclpy, no GPU and no data.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from classaug_ros.data.bags import BagReader, BagWriter, decode_message, make_bag
from classaug_ros.data.dataset import Dataset, load_dataset
from classaug_ros.errors import ClassaugError, ConfigError
from classaug_ros.evaluation.evaluate import Watcher, evaluate, label_files
from classaug_ros.evaluation.report import ClassChanges, Pictures, build_report, table_2, write_report
from classaug_ros.evaluation.report.pictures import truth_palette
from classaug_ros.evaluation.video import VideoFile, above, legend_strip
from classaug_ros.imaging.drawing import blend
from classaug_ros.imaging.images import decode_image
from classaug_ros.learning.inspection import summarise
from classaug_ros.learning.learn import count, derive_rules
from classaug_ros.models.card import load_model
from classaug_ros.pipeline.cpu import Pipeline
from classaug_ros.rules import RuleSet
from classaug_ros.rules.task import Task
from classaug_ros.running.nodeprocess import NodeProcess, ros_environment
from demo.datasets import write_dataset, write_drive
from demo.saying import Saying
from demo.sheet import contact_sheet, sheet_width, write_picture

HERE = Path(__file__).resolve().parent
MARKER = ".classaug-demo"  # says that a folder is ours to empty

CAMERA = "front"
NODE = "/classaug_node"
IMAGE_TOPIC = f"/{CAMERA}/image_raw"
LABEL_TOPIC = f"{NODE}/{CAMERA}/label"
OVERLAY_TOPIC = f"{NODE}/{CAMERA}/overlay"
INFO_TOPIC = f"{NODE}/label_info"

RATE = 5.0  # Hz, of the drive
FASTER = 2.0  # than it was driven, it is played: what the node answers at 5 Hz it answers at 10 as well
LEARNING_SEEDS = range(5000, 5060)  # neither trained on nor driven through
DRIVE_SEED = 22
START_TIMEOUT = 60.0  # s
END_TIMEOUT = 5.0


@dataclass(frozen=True)
class Drive:
    """What came back over ROS.

    Attributes:
        sent: frames played.
        labels: label images received.
        overlays: overlay images received.
        identical: label images equal, pixel for pixel, to those computed without ROS.
        latency: ms from the image's arrival to its label's arrival in the recorder, one per label.
    """

    sent: int
    labels: int
    overlays: int
    identical: int
    latency: list[float]

    def figures(self) -> dict[str, Any]:
        """Return the figures as the report takes them."""
        dropped = self.sent - self.labels
        return {"latency_ms": self.latency, "sent": self.sent, "answered": self.labels, "dropped": dropped}

    def in_short(self) -> str:
        """Return the figures in a few lines."""
        p50, p95, p99 = np.percentile(self.latency, (50, 95, 99)) if self.latency else (np.nan,) * 3
        return (
            f"{self.sent} frames sent, {self.labels} labels and {self.overlays} overlays received, "
            f"{self.sent - self.labels} dropped\n"
            f"{self.identical} of {self.labels} label images identical to those computed without ROS\n"
            f"latency p50 / p95 / p99: {p50:.0f} / {p95:.0f} / {p99:.0f} ms, from image to label at a subscriber"
        )


def main() -> int:
    """Run the demo; return 0, or 1 when frames were lost or differ."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="folder for all results")
    parser.add_argument("--frames", type=int, default=60, help="length of the drive (default %(default)s)")
    options = parser.parse_args()
    logging.basicConfig(format="  %(message)s", stream=sys.stdout)
    logging.getLogger("classaug_ros").setLevel(logging.INFO)
    start = time.monotonic()
    try:
        drive = run(options.output, options.frames)
    except ClassaugError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    print(f"\n{time.monotonic() - start:.0f} s in all")
    return 0 if drive.sent == drive.labels == drive.overlays == drive.identical else 1


def run(output: Path, frames: int) -> Drive:
    """Run every step of the demo, telling what it does.

    Args:
        output: folder for the results; emptied if an earlier demo made it.
        frames: length of the drive.

    Raises:
        ClassaugError: a step failed.
    """
    _prepare(output)
    with ExitStack() as later:
        say = later.enter_context(Saying())
        learning, driven = _drawn(output, frames, say)
        task = Task.load(HERE / "task.yaml")
        main_model, sub_model = load_model(HERE / "models/main"), load_model(HERE / "models/sub")
        with Pipeline(main_model, sub_model) as pipeline:
            say("\n2/5 learning rules from both models on the scenes")
            counts = count(pipeline, [learning], task, output / "rules.counts.npz")
            learned = derive_rules(counts, task)
            learned.save(output / "rules.yaml")
            say(summarise(counts, learned))

            later.enter_context(ros_environment())
            node = later.enter_context(_node(output))  # it starts while the drive is scored
            say("\n3/5 scoring main model, sub model and rules on the drive, without ROS")
            rules = RuleSet([learned])
            class_changes, pictures = ClassChanges(rules), Pictures(driven, [task], rules)
            watchers: list[Watcher] = [label_files(output / "labels"), class_changes, pictures]
            evaluation = evaluate(pipeline, driven, [task], rules, watchers=watchers)

        say(
            f"\n4/5 playing the drive at {FASTER * RATE:g} Hz, {FASTER:g} times as fast as it was driven, "
            "to classaug_node, a process of its own, over ROS 2 topics"
        )
        make_bag(driven.samples[0].image.parent, output / "drive_bag", topic=IMAGE_TOPIC, rate=RATE)
        drive = _play_to_node(output, frames, node)

        say("\n5/5 drawing the results")
        with Pipeline(main_model, sub_model) as pipeline:
            _draw(output, driven, task, rules, pipeline)
            report = build_report(evaluation, pipeline, driven, class_changes=class_changes, live=drive.figures())
        write_report(report, output / "report", pictures)
        say(f"\n{table_2(report)}\n\n{drive.in_short()}\n\nto look at, in {output}:")
        for name, what in _RESULTS.items():
            say(f"  {name:<20} {what}")
    return drive


def _drawn(output: Path, frames: int, say: Saying) -> tuple[Dataset, Dataset]:
    """Draw the scenes and the drive, while another process compiles what is needed then."""
    say(f"1/5 drawing {len(LEARNING_SEEDS)} street scenes to learn from and a drive of {frames} frames")
    told = output / "compiling.log"
    with told.open("wb") as log:
        command = [sys.executable, "-m", "demo.compiling"]
        compiling = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        learning = write_dataset(output / "learning", LEARNING_SEEDS, name="demo-learning")
        drive = write_drive(output / "drive", DRIVE_SEED, frames, RATE)
        if compiling.poll() is None:
            say("  waiting for the fusion to be compiled for this machine, which is done at the first start")
        if compiling.wait():
            raise ClassaugError(f"the fusion could not be compiled; see {told}")
    finally:
        compiling.kill()
        compiling.wait()
    told.unlink()
    return load_dataset(learning), load_dataset(drive)


_RESULTS = {
    "contact_sheet.png": "images, main model alone, augmented, truth",
    "overlay.mp4": "the overlay as the node published it",
    "report/report.html": "scores, classes, frames, latency",
    "recorded_bag": "rosbag2 of images, labels and overlays",
    "rules.yaml": "the learned rules, a ROS parameter file, with rules.*.arrays.npz",
}


def _prepare(output: Path) -> None:
    if output.exists():
        if not (output / MARKER).exists() and any(output.iterdir()):
            raise ConfigError(f"{output}: is not empty and not of an earlier demo; name another folder with --output")
        shutil.rmtree(output)
    output.mkdir(parents=True)
    (output / MARKER).touch()


def _play_to_node(output: Path, frames: int, node: NodeProcess) -> Drive:
    from sensor_msgs.msg import Image
    from std_msgs.msg import String

    from classaug_ros.running.player import play
    from demo.recorder import Recorder

    images = {IMAGE_TOPIC: Image, LABEL_TOPIC: Image, OVERLAY_TOPIC: Image}
    bag = output / "recorded_bag"
    with BagWriter(bag) as writer, Recorder(writer, images, {INFO_TOPIC: String}) as recorder:
        if not recorder.wait_for_latched(INFO_TOPIC, START_TIMEOUT):
            node.check()
            raise ClassaugError(f"classaug_node did not become active; see {output}/node.log")
        play(output / "drive_bag", rate=FASTER, subscribers=2)  # both the node and the recorder are to see every frame
        for topic in (LABEL_TOPIC, OVERLAY_TOPIC):
            recorder.wait_for_images(topic, frames, END_TIMEOUT)
        arrivals = recorder.arrivals
    node.stop()
    asked, answered = arrivals[IMAGE_TOPIC], arrivals[LABEL_TOPIC]
    latency = [1000 * (answered[stamp] - asked[stamp]) for stamp in answered if stamp in asked]
    identical = _identical(bag, output / "labels")
    return Drive(frames, len(answered), len(arrivals[OVERLAY_TOPIC]), identical, latency)


def _node(output: Path) -> NodeProcess:
    parameters = {
        "cameras": f"[{CAMERA}]",
        f"{CAMERA}.image_topic": IMAGE_TOPIC,
        "main_model": HERE / "models/main",
        "sub_model": HERE / "models/sub",
        "rules_file": output / "rules.yaml",
        "image_reliability": "reliable",
    }
    return NodeProcess(parameters, output / "node.log")


def _recorded(bag: Path, topic: str) -> Iterator[Any]:
    with BagReader(bag) as reader:
        for message in reader.messages([topic]):
            yield decode_message(message.data, "sensor_msgs/msg/Image")


def _identical(bag: Path, labels: Path) -> int:
    """Count the recorded label images that equal those computed without ROS, matched by header stamp."""
    stamps = [(m.header.stamp.sec, m.header.stamp.nanosec) for m in _recorded(bag, IMAGE_TOPIC)]
    expected = dict(zip(sorted(stamps), sorted(labels.iterdir()), strict=False))
    same = 0
    for message in _recorded(bag, LABEL_TOPIC):
        stamp = (message.header.stamp.sec, message.header.stamp.nanosec)
        label = message.data.reshape(message.height, message.width)
        if stamp in expected:
            same += np.array_equal(label, np.asarray(cv2.imread(str(expected[stamp]), cv2.IMREAD_UNCHANGED)))
    return same


def _draw(output: Path, driven: Dataset, task: Task, rules: RuleSet, pipeline: Pipeline) -> None:
    overlays = (decode_image(message).rgb() for message in _recorded(output / "recorded_bag", OVERLAY_TOPIC))
    with VideoFile(output / "overlay.mp4", RATE) as video:
        for overlay in overlays:
            video.write(above(overlay, legend_strip(rules, overlay.shape[1])))
    palettes = {
        "main": pipeline.main.card.classes.palette(),
        "output": rules.output.palette(),
        "truth": truth_palette(driven, [task], rules),
    }
    rows = []
    for number in np.linspace(0, len(driven.samples) - 1, 5).astype(int)[:4]:
        frame, truth = driven.read(driven.samples[number])
        image = frame.rgb()
        main, _ = pipeline.predict(frame)
        label = pipeline.augment(frame, rules).label
        shown = (("main", main), ("output", label), ("truth", truth))
        rows.append([image, *(blend(image, palettes[name][ids], 0.65) for name, ids in shown)])
    titles = ("camera image", "main model alone", "with added classes", "ground truth")
    strip = legend_strip(rules, sheet_width(len(titles), rows[0][0].shape[1]))
    sheet = contact_sheet(titles, rows, strip)
    write_picture(output / "contact_sheet.png", sheet)


if __name__ == "__main__":
    sys.exit(main())
