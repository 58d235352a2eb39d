"""Evaluation of a running node: it is started, a recording is played to it in real time, what comes back is scored."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from classaug_ros import fusion
from classaug_ros.data.bags import COMPRESSED_IMAGE, BagMessage, decode_message
from classaug_ros.data.examples import Example
from classaug_ros.data.recordings import Recording, camera_names
from classaug_ros.errors import ConfigError
from classaug_ros.evaluation.evaluate import Evaluation, Scorer, Watcher, check_tasks, scored_size
from classaug_ros.evaluation.methods import Methods, Predicted
from classaug_ros.evaluation.scoring import scoring_for
from classaug_ros.models.labels import LabelMap
from classaug_ros.pipeline.cpu import Pipeline
from classaug_ros.rules import RuleSet
from classaug_ros.rules.decision import Decision
from classaug_ros.rules.task import Task
from classaug_ros.running.listener import Listener
from classaug_ros.running.nodeprocess import NodeProcess
from classaug_ros.running.player import play
from classaug_ros.running.usage import Usage, UsageSampler

START_TIMEOUT = 120.0  # s: the first start on a machine compiles the fusion
END_TIMEOUT = 30.0  # s for the frames still in work when the recording has ended
PATIENCE = 4  # times the node tells of its frames, once a second, until those that never came count as lost
ARRIVAL_TIMEOUT = 2.0

_FATES = ("dropped", "refused", "skipped", "failed")


@dataclass(frozen=True)
class Account:
    """What became of the frames of one camera.

    Attributes:
        sent: frames published.
        answered: those whose label came back.
        fates: by the node's own count frames ``dropped``, ``refused``, ``skipped`` and ``failed``.
    """

    sent: int
    answered: int
    fates: Mapping[str, int]

    @property
    def lost(self) -> int:
        """Frames nobody accounts for: lost on their way to the node, or their labels on the way back."""
        return self.sent - self.answered - sum(self.fates.values())


@dataclass(frozen=True, eq=False)
class Live:
    """What was measured.

    Attributes:
        evaluation: scores of the labels that came back; a frame's ``seconds`` are from its publication to its label.
        accounts: of the frames, by camera name.
        usage: what the node took of the machine while the recording was played.
    """

    evaluation: Evaluation
    accounts: Mapping[str, Account]
    usage: tuple[Usage, ...]

    def total(self, what: str) -> int:
        """Return ``sent``, ``answered``, ``lost`` or one of the fates, of all cameras."""
        return sum(a.fates[what] if what in a.fates else getattr(a, what) for a in self.accounts.values())

    def report(self) -> dict[str, Any]:
        """Return what ``build_report`` takes as ``live``."""
        return {
            "latency_ms": [1000 * frame.seconds for frame in self.evaluation.frames],
            **{what: self.total(what) for what in ("sent", "answered", *_FATES, "lost")},
            "cpu_percent": [[sample.seconds, sample.cpu] for sample in self.usage],
            "memory_mib": [[sample.seconds, sample.memory] for sample in self.usage],
        }

    def in_short(self) -> str:
        """Return the figures in a few lines."""
        others = [f"{self.total(what)} {what}" for what in (*_FATES[1:], "lost") if self.total(what)]
        counts = ", ".join([f"{self.total(what)} {what}" for what in ("answered", "dropped")] + others)
        lines = [f"{self.total('sent')} frames sent: {counts}"]
        latencies = [1000 * frame.seconds for frame in self.evaluation.frames]
        if latencies:
            p50, p95, p99 = np.percentile(latencies, (50, 95, 99))
            lines.append(
                f"latency p50 / p95 / p99 / max: {p50:.1f} / {p95:.1f} / {p99:.1f} / {max(latencies):.1f} ms, "
                "from an image's publication to its label at a subscriber"
            )
        if self.usage:
            cpu, memory = np.mean([s.cpu for s in self.usage]), max(s.memory for s in self.usage)
            lines.append(f"node: {cpu:.0f} % of a core on average, {memory:.0f} MiB at most")
        return "\n".join(lines)


def evaluate_live(
    load: Callable[[], Pipeline],
    recording: Recording,
    tasks: Sequence[Task],
    rules: RuleSet,
    parameters: Mapping[str, Any],
    log: Path,
    decision: Decision = Decision(),  # noqa: B008 (frozen)
    *,
    watchers: Sequence[Watcher] = (),
) -> Live:
    """Play a recording to a node of its own, in real time, and score the labels that come back.

    The other methods are scored on the same frames, and the confidence of the node's is taken there; all that is run
    once the node has ended.

    Args:
        load: loads all models, those of the node.
        recording: the frames; only these topics of the bag are played.
        tasks: the task of each sub model that its rules were learned for.
        rules: the rules.
        parameters: of the node: models, rules files and what else it is to have; its cameras are added.
        log: takes the node's output.
        decision: how the node decides, as its parameters say.
        watchers: see every frame that was answered, with the node's labels as output.

    Raises:
        ConfigError: rules, tasks and decision do not fit each other, the node does not start or answer, two frames of a
            camera have the same stamp, or the recording is damaged.
        ImageError: a frame cannot be decoded.
        EngineError: a model cannot be loaded or run.
        KeyboardInterrupt: on Ctrl-C, after the node has ended.
    """
    check_tasks(rules, tasks)
    methods = Methods(rules, decision)
    scorer = Scorer(scoring_for(recording.truth, tasks), methods)
    names = camera_names([camera.name for camera in recording.cameras])
    name = f"classaug_live_{os.getpid()}"
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="classaug-live-")))
        listener = stack.enter_context(Listener(f"/{name}", names.values(), scratch / "labels"))
        given = {**parameters, **_cameras(recording, names)}
        # JSON is YAML, which ROS takes the values for: a path is a string whatever is in it.
        with NodeProcess({key: json.dumps(value) for key, value in given.items()}, log, name) as node:
            _wait_for_start(node, listener, names)
            with UsageSampler(node) as sampler:
                published = _play(recording, names)
            _wait_for_end(node, listener, Counter(camera for camera, _ in published))
        arrivals = listener.arrivals
        latencies = {key: arrivals[key] - when for key, when in published.items() if key in arrivals}
        if not latencies:
            raise ConfigError(f"none of {len(published)} frames was answered; see {log}")
        answered = ((example, (names[example.camera], example.stamp)) for example in recording)
        with load() as pipeline:
            for example, key in tqdm(answered, total=len(recording), desc="score", unit="frame", disable=None):
                if key in latencies:
                    predicted = _predicted(methods, pipeline, example, listener.label(*key), latencies[key])
                    prediction = scorer.add(example, predicted)
                    for watcher in watchers:
                        watcher(example, prediction)
        accounts = _accounts(names.values(), published, latencies, listener)
    return Live(scorer.evaluation(), accounts, sampler.samples)


def _cameras(recording: Recording, names: Mapping[str, str]) -> dict[str, str | int | list[str]]:
    """Return the node's parameters that name its cameras and their topics."""
    # What is measured is the node: an image is not to be lost on the way, for want of a larger buffer.
    parameters: dict[str, str | int | list[str]] = {
        "cameras": list(names.values()),
        "image_reliability": "reliable",
        "image_depth": 100,
    }
    for camera in recording.cameras:
        compressed = camera.type == COMPRESSED_IMAGE
        topic = camera.name.removesuffix("/compressed") if compressed else camera.name
        if compressed and topic == camera.name:
            raise ConfigError(
                f"topic {topic} holds compressed images; the node reads them on topics that end in /compressed"
            )
        parameters[f"{names[camera.name]}.image_topic"] = topic
        parameters[f"{names[camera.name]}.image_transport"] = "compressed" if compressed else "raw"
    return parameters


def _wait_for_start(node: NodeProcess, listener: Listener, topics: Iterable[str]) -> None:
    def ready() -> bool:
        node.check()
        return listener.problem != "" or (listener.active and all(map(listener.reads, topics)))

    if not listener.wait_until(ready, START_TIMEOUT) or listener.problem:
        raise ConfigError(f"the node did not start: {listener.problem or f'nothing came in {START_TIMEOUT:.0f} s'}")


def _play(recording: Recording, names: Mapping[str, str]) -> dict[tuple[str, int], float]:
    """Play the recording; return when (monotonic seconds) each frame was published, by camera and stamp in ns."""
    kinds = {camera.name: camera.type for camera in recording.cameras}
    published: dict[tuple[str, int], float] = {}
    with tqdm(total=len(recording), desc="live", unit="frame", disable=None) as progress:

        def publishing(message: BagMessage) -> None:
            stamp = decode_message(message.data, kinds[message.topic]).header.stamp
            key = names[message.topic], int(stamp.sec) * 10**9 + int(stamp.nanosec)
            if key in published:
                raise ConfigError(
                    f"{recording.bag}: two images on {message.topic} have the stamp {key[1] / 1e9:.9f}, so that their "
                    "labels cannot be told apart"
                )
            progress.update()
            published[key] = time.monotonic()

        play(recording.bag, topics=list(names), publishing=publishing)
    return published


def _wait_for_end(node: NodeProcess, listener: Listener, sent: Mapping[str, int]) -> None:
    """Wait until the node has told of every frame, and its labels have come."""
    before = listener.told

    def told() -> bool:
        node.check()
        counts, times = listener.counts, listener.told - before
        whole = all(counts.get(camera, {}).get("frames in", 0) >= frames for camera, frames in sent.items())
        return times > 0 and (whole or times > PATIENCE) and not any(c["frames waiting"] for c in counts.values())

    listener.wait_until(told, END_TIMEOUT)
    out = sum(counts["frames out"] for counts in listener.counts.values())
    listener.wait_until(lambda: len(listener.arrivals) >= out, ARRIVAL_TIMEOUT)


def _predicted(methods: Methods, pipeline: Pipeline, example: Example, label: LabelMap, latency: float) -> Predicted:
    """Return a label of the node beside what all other methods say, at the size of the ground truth."""
    size = scored_size(example)
    here = methods.predict(pipeline, example.frame, size)
    output = label if label.shape == size else fusion.nearest(label, size)
    return Predicted({**here.labels, methods.in_use: output}, here.confidence, latency)


def _accounts(
    cameras: Iterable[str],
    published: Collection[tuple[str, int]],
    answered: Collection[tuple[str, int]],
    listener: Listener,
) -> dict[str, Account]:
    counts = listener.counts
    accounts = {}
    for name in cameras:
        sent, back = (sum(camera == name for camera, _ in keys) for keys in (published, answered))
        told = counts.get(name, {})
        accounts[name] = Account(sent, back, {fate: told.get(f"frames {fate}", 0) for fate in _FATES})
    return accounts
