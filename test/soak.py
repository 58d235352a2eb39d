"""Runs the node for long under more load than it can answer, disturbs it, and sees that it stays as it was.

    python test/soak.py [--minutes 30] [--cameras 6] [--rate 30]

Rules are exchanged meanwhile, some of them broken; subscribers come and go; some frames cannot be used. The exit status
is 1 when a frame is not accounted for, or memory, files or threads of the node grow.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger
from support.tinymodels import random_rules

from classaug_ros.benchmark.cameras import Cameras, Load, names
from classaug_ros.benchmark.steps import synthetic_frames
from classaug_ros.imaging.images import Frame
from classaug_ros.models.card import load_model
from classaug_ros.node.diagnostics import WINDOW
from classaug_ros.running.nodeprocess import Footprint, NodeProcess, ros_environment

PROJECT = Path(__file__).resolve().parent.parent
DEMO = PROJECT / "demo"
SIZE = (96, 128)
BROKEN_EVERY = 50  # frames
RELOAD_PERIOD = 3.0  # s
SUBSCRIBER_PERIOD = 0.5  # s; one comes, or goes
SAMPLE_PERIOD = 0.5  # s
BURST = 0.5  # s that may be made up for at once; of more the middleware would replace frames, which nobody counts
DEPTH = 100  # frames of a camera that the middleware keeps for the node, at most
UNDER_WAY = 0.9 * DEPTH  # frames sent to a camera that the node has not told of, which it does once a second
KEPT = 0.9  # of the labels published, at least, that come
SETTLE = 2.5  # s until frames under way have come
PATIENCE = 120.0  # s until the first frame is answered, and until what became of a frame is told
WARM = 1.1 * WINDOW  # s; until then the latencies of the diagnostics gather
WARM_SHARE = 0.1  # of the time, at least that long too: a large model's memory settles for minutes
GROWTH = 32  # bytes per frame that memory may grow by; half an hour was measured to take 8
SPARE = 8_000_000  # bytes; what Python and C keep for later still grows in a short run: 3.4 MB were seen
HANDLES, THREADS = 8, 2  # more at one time than at another, by subscribers that come and go


@dataclass
class Summary:
    """What was sent, what became of it, and what the node held of the machine (seconds, frames sent, footprint)."""

    sent: int = 0
    labels: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    samples: list[tuple[float, int, Footprint]] = field(default_factory=list)
    reloads: int = 0
    refusals: int = 0
    subscribers: int = 0
    unfit: list[str] = field(default_factory=list)

    def judge(self) -> list[str]:
        """Return what is not as it must be."""
        return self.unfit + self.unaccounted() + self._growth()

    def unaccounted(self) -> list[str]:
        """Return which frames are not accounted for."""
        counts, faults = self.counts, list[str]()
        if counts["in"] + counts["lost"] != self.sent:
            faults.append(f"{self.sent} frames sent, but {counts['in']} received and {counts['lost']} lost on the way")
        if (known := sum(count for name, count in counts.items() if name not in ("in", "lost"))) != counts["in"]:
            faults.append(f"{counts['in']} frames received, but {known} accounted for")
        # A listener that falls behind is not waited for.
        if not KEPT * counts["out"] < self.labels <= counts["out"]:
            faults.append(f"{counts['out']} labels published, but {self.labels} came")
        if counts["failed"] or counts["waiting"]:
            faults.append(f"{counts['failed']} frames failed, {counts['waiting']} still wait")
        return faults

    def _warm(self) -> list[tuple[float, int, Footprint]]:
        start = max(WARM, WARM_SHARE * self.samples[-1][0])
        return [sample for sample in self.samples if sample[0] >= start]

    def _growth(self) -> list[str]:
        warm = self._warm()
        third = max(len(warm) // 3, 1)
        first, last = warm[:third], warm[-third:]
        frames = last[0][1] - first[0][1]
        faults = []
        bounds = {"memory": GROWTH * frames + SPARE, "handles": HANDLES, "threads": THREADS}
        for name, bound in bounds.items():
            # The least of each: what is only in use for a moment is no growth.
            before, after = (min(getattr(held, name) for _, _, held in part) for part in (first, last))
            if after - before > bound:
                faults.append(
                    f"{name} grew from {before} to {after} in {frames} frames; at most {bound} more are expected"
                )
        return faults

    def lines(self) -> Iterator[str]:
        """Yield what it says, line by line."""
        yield f"{self.samples[-1][0] / 60:.1f} minutes: {self.sent} frames sent, {self.labels} labels came back"
        yield "frames " + ", ".join(f"{count} {name}" for name, count in self.counts.items())
        yield f"{self.reloads} rules exchanged, {self.refusals} broken ones refused; {self.subscribers} visitors"
        for name, (_, _, held) in (("start", self.samples[0]), ("warm", self._warm()[0]), ("end", self.samples[-1])):
            yield f"{name:5}  memory {held.memory / 2**20:.1f} MiB, {held.handles} handles, {held.threads} threads"


class Traffic(Cameras):
    """Cameras, some of whose frames cannot be used, and visitors: subscribers that stay for a while."""

    def __init__(self, load: Load, frames: list[Frame]) -> None:
        super().__init__(load, frames)
        broken = Image(height=SIZE[0], width=SIZE[1], step=3 * SIZE[1], encoding="rgb8", data=bytes(7))
        self._messages = [*(self._messages * BROKEN_EVERY)[: BROKEN_EVERY - 1], broken]
        self._reload = self.node.create_client(Trigger, "/classaug_node/reload_rules")
        self._visits = cycle(
            (f"/classaug_node/{name}/{output}", QoSProfile(depth=depth, reliability=reliability))
            for name in names(load)
            for output in ("label", "confidence", "label_color")
            for depth, reliability in ((1, QoSReliabilityPolicy.BEST_EFFORT), (10, QoSReliabilityPolicy.RELIABLE))
        )
        self._visited = False
        self._visitor: Any = None

    def visit(self) -> bool:
        """Let a subscriber come, or the one that is there go; tell which."""
        self._visited = not self._visited
        # What a thread waits for is not taken from it by another one.
        self.executor.create_task(self._come if self._visited else self._go)
        return self._visited

    def _come(self) -> None:
        topic, qos = next(self._visits)
        self._visitor = self.node.create_subscription(Image, topic, lambda _: None, qos)

    def _go(self) -> None:
        self.node.destroy_subscription(self._visitor)

    def reload(self) -> Any:
        """Ask for the rules to be read again; return the future response."""
        return self._reload.call_async(Trigger.Request())


def soak(seconds: float, load: Load, models: tuple[Path, Path], task: Path) -> Summary:
    """Run the node under a load for some seconds, and return what came of it."""
    summary = Summary()
    with ros_environment(), tempfile.TemporaryDirectory(prefix="classaug-soak-") as folder:
        rules = Path(folder) / "rules.yaml"
        exchange = _exchange(rules, models, task)
        next(exchange)
        parameters = {
            "main_model": models[0],
            "sub_model": models[1],
            "rules_file": rules,
            "cameras": f"[{', '.join(names(load))}]",
            "image_depth": DEPTH,  # what waits while rules are read must not be replaced unseen
        }
        with (
            NodeProcess(parameters, Path(folder) / "node.log") as node,
            Traffic(load, synthetic_frames(SIZE)) as traffic,
        ):
            _wait(load, node, traffic)
            before = len(traffic.arrivals), _counts(traffic)
            _send(seconds, load, node, traffic, exchange, summary)
            time.sleep(SETTLE)
            traffic.publish(0)  # shows that those before it should have come
            summary.sent += load.cameras
            deadline = time.monotonic() + PATIENCE
            while True:
                time.sleep(SAMPLE_PERIOD)
                summary.labels = len(traffic.arrivals) - before[0]
                summary.counts = {name: count - before[1][name] for name, count in _counts(traffic).items()}
                if not summary.unaccounted() or time.monotonic() > deadline:
                    return summary


def _wait(load: Load, node: NodeProcess, traffic: Traffic) -> None:
    """Wait until a frame of every camera was answered: what is lost before that, nobody can count."""
    deadline = time.monotonic() + PATIENCE
    while sum(int(values["frames out"]) > 0 for values in traffic.status.values()) < load.cameras:
        node.check()
        if time.monotonic() > deadline:
            raise RuntimeError(f"the node did not answer every camera within {PATIENCE:.0f} s: {node.last_line()}")
        if traffic.read():
            traffic.publish(0)
        time.sleep(0.1)
    time.sleep(SETTLE)


def _send(
    seconds: float, load: Load, node: NodeProcess, traffic: Traffic, exchange: Iterator[bool], summary: Summary
) -> None:
    start = due = time.monotonic()
    reload_at, visit_at, sample_at = RELOAD_PERIOD, SUBSCRIBER_PERIOD, 0.0
    asked: tuple[bool, Any] | None = None
    for number in range(round(seconds * load.rate)):
        time.sleep(max(0.0, due - time.monotonic()))
        _let_catch_up(summary.sent // load.cameras, node, traffic)
        traffic.publish(number)
        summary.sent += load.cameras
        due = max(due, time.monotonic() - BURST) + 1 / load.rate
        now = time.monotonic() - start
        if now >= sample_at:
            summary.samples.append((now, summary.sent, node.footprint()))
            sample_at = now + SAMPLE_PERIOD
        if now >= visit_at:
            summary.subscribers += traffic.visit()
            visit_at = now + SUBSCRIBER_PERIOD
        if asked and asked[1].done():
            _note(asked[0], asked[1].result(), summary)
            asked = None
        if now >= reload_at and not asked:
            asked = next(exchange), traffic.reload()
            reload_at = now + RELOAD_PERIOD


def _let_catch_up(sent: int, node: NodeProcess, traffic: Traffic) -> None:
    """Wait while more than ``UNDER_WAY`` of the frames sent to a camera are not told of, on a busy machine."""
    deadline = time.monotonic() + PATIENCE
    while (missing := sent - min(_told(values) for values in traffic.status.values())) > UNDER_WAY:
        node.check()
        if time.monotonic() > deadline:
            raise RuntimeError(f"{missing} of {sent} frames of a camera were not told of within {PATIENCE:.0f} s")
        time.sleep(0.05)


def _told(values: dict[str, str]) -> int:
    return int(values["frames in"]) + int(values["lost on the way"])


def _note(good: bool, response: Any, summary: Summary) -> None:
    if response.success != good:
        summary.unfit.append(f"{'good' if good else 'broken'} rules were answered with: {response.message}")
    elif good:
        summary.reloads += 1
    else:
        summary.refusals += 1


def _exchange(path: Path, models: tuple[Path, Path], task: Path) -> Iterator[bool]:
    """Write rules, and others each time, every third of them broken; yield whether they are good."""
    main, sub = map(load_model, models)
    for seed in range(sys.maxsize):
        random_rules(main, sub, task, seed, "probability" if seed % 2 else "table").save(path)
        yield True
        if seed % 2:
            path.write_text(path.read_text(encoding="utf-8")[:-200], encoding="utf-8")
            yield False


def _counts(traffic: Traffic) -> dict[str, int]:
    found: dict[str, int] = {}
    for values in traffic.status.values():
        for key, value in values.items():
            if key.startswith("frames ") or key == "lost on the way":
                name = key.removeprefix("frames ").removesuffix(" on the way")
                found[name] = found.get(name, 0) + int(value)
    return found


def main() -> int:
    """Soak the node with the demo's models."""
    parser = argparse.ArgumentParser(description="Run the node for long under load and see that nothing grows.")
    parser.add_argument("--minutes", type=float, default=30.0, help="how long to send (default %(default)s)")
    parser.add_argument("--cameras", type=int, default=6, help="default %(default)s")
    parser.add_argument("--rate", type=float, default=30.0, help="Hz of each camera (default %(default)s)")
    options = parser.parse_args()
    if 60 * options.minutes < 1.5 * WARM:
        parser.error(
            f"--minutes {options.minutes:g} is too short to tell of growth; expected {1.5 * WARM / 60:.1f} or more"
        )
    models = DEMO / "models/main", DEMO / "models/sub"
    summary = soak(60 * options.minutes, Load(options.cameras, options.rate), models, DEMO / "task.yaml")
    faults = summary.judge()
    print("\n".join([*summary.lines(), *(f"FAULT: {fault}" for fault in faults)]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
