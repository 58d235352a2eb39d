"""The node with tiny models as a process, a camera beside it, and what the node tells of that."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image

from classaug_ros.models.card import load_model
from support.programs import PATIENCE
from support.ros import Gathered, Peer, Process, own_domain
from support.tinymodels import SUB_CLASSES, Trap, random_rules, write_model, write_world

NODE = "classaug_ros.node"
LASTING = 10  # times longer a trap takes than in the tests' own process
SOON = 40.0  # s: less than one then takes, and enough on a busy machine for what does not wait for it


def tiny_node(folder: Path, trap: Trap | None = None, **parameters: object) -> list[str]:
    """Write models, the sub model with a trap if one is named, and rules; return arguments of a node with these."""
    world = write_world(folder / "world", images=1, size=(24, 32))
    if trap:
        write_model(world.sub, SUB_CLASSES, (24, 32), weights=world.sub_weights, trap=trap, lasting=LASTING)
    rules = folder / "rules.yaml"
    random_rules(load_model(world.main), load_model(world.sub), world.task).save(rules)
    given = {"main_model": world.main, "sub_model": world.sub, "rules_file": rules, **parameters}
    return ["--ros-args", *(word for name, value in given.items() for word in ("-p", f"{name}:={value}"))]


class CameraStatus:
    """What the diagnostics tell of one camera."""

    def __init__(self, entry: Any) -> None:
        self.level = int.from_bytes(entry.level, "little")
        self.message = str(entry.message)
        self.values = {pair.key: pair.value for pair in entry.values}

    @property
    def counts(self) -> dict[str, int]:
        """Frames by what became of them; those that came are always all of the others."""
        found = {key[7:]: int(value) for key, value in self.values.items() if key.startswith("frames ")}
        assert found["in"] == sum(count for key, count in found.items() if key != "in")
        return found


@dataclass(frozen=True)
class Rig:
    """A running node, a peer beside it, and a camera whose labels are gathered."""

    node: Process
    peer: Peer
    publisher: Any
    labels: Gathered[Any]
    diagnostics: Gathered[Any]

    def publish(
        self,
        stamp: Time,
        *,
        publisher: Any = None,
        frame_id: str = "cam",
        size: tuple[int, int] = (24, 32),
        encoding: str = "rgb8",
    ) -> Image:
        """Publish a frame, by the camera if nobody else is named, and return it."""
        message = Image(height=size[0], width=size[1], step=size[1] * (3 if encoding == "rgb8" else 1))
        message.encoding, message.data = encoding, bytes(size[0] * message.step)
        message.header.stamp, message.header.frame_id = stamp, frame_id
        (publisher or self.publisher).publish(message)
        return message

    def exchange(self, stamp: Time, **how: Any) -> Any:
        """Publish a frame, again where it got lost, as a best-effort subscription allows; return its label."""
        since, deadline = len(self.labels.items()), time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            sent = self.publish(stamp, **how)
            with suppress(AssertionError):
                return self.labels.wait(partial(_same_header, sent), 1.0, "its label", since)
        raise AssertionError(f"no label of {stamp} in {PATIENCE} s")

    @contextmanager
    def streaming(self, stamp: Time | None = None) -> Iterator[None]:
        """Publish frames meanwhile, stamped now if nothing else is said."""
        ended = threading.Event()

        def stream() -> None:
            while not ended.wait(0.05):
                self.publish(stamp or at(time.time()))

        with ThreadPoolExecutor(1) as pool:
            streamed = pool.submit(stream)
            try:
                yield
            finally:
                ended.set()
            streamed.result()

    def told(self) -> CameraStatus:
        """What is told of the camera after all that was done so far."""

        def camera(message: Any) -> Any:
            return next((entry for entry in message.status if entry.name == "classaug_node: camera camera"), None)

        # One is skipped: it may already be under way.
        since = len(self.diagnostics.items()) + 1
        told = self.diagnostics.wait(lambda each: camera(each) is not None, what="the camera's status", since=since)
        return CameraStatus(camera(told))


def _same_header(one: Any, other: Any) -> bool:
    return bool(one.header == other.header)


def at(seconds: float) -> Time:
    return Time(sec=math.floor(seconds), nanosec=int(seconds % 1 * 1e9))


@contextmanager
def running(folder: Path, **parameters: Any) -> Iterator[Rig]:
    """Run a node of these parameters."""
    arguments = tiny_node(folder, **parameters)
    with own_domain() as domain, Process(NODE, *arguments, domain=domain) as node, Peer(domain) as peer:
        labels = peer.subscribe(Image, "/classaug_node/camera/label", publishers=1)
        publisher = peer.publisher(Image, "/camera/image_raw")
        yield Rig(node, peer, publisher, labels, peer.subscribe(DiagnosticArray, "/diagnostics", publishers=1))
