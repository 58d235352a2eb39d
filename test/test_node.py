"""The node as its own process, over real DDS, with real models."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, get_args

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters, ListParameters, SetParameters, SetParametersAtomically
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String
from std_srvs.srv import Trigger
from support.programs import PATIENCE, PROJECT
from support.ros import Gathered, Peer, Process, eventually, own_domain
from support.tinymodels import random_evidence, write_model

from classaug_ros.imaging.images import decode_compressed, decode_image
from classaug_ros.models.card import Model, load_model
from classaug_ros.models.labels import LabelSpace
from classaug_ros.node.framelog import LOG_PERIOD
from classaug_ros.pipeline.cpu import Pipeline
from classaug_ros.rules import Kind, Prefer, Provenance, Rules, RuleSet
from classaug_ros.rules.decision import Decision
from classaug_ros.running.fastdds import profiles_variable

pytestmark = pytest.mark.ros

NODE = "classaug_ros.node"
HEIGHT, WIDTH = 120, 160
LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
MODEL_FOLDERS = (
    (PROJECT / "demo/models/main", PROJECT / "demo/models/sub"),
    (PROJECT.parent / "shared/models/ade20k31", PROJECT.parent / "shared/models/cityscapes19"),
)

Start = Callable[..., Process]


def random_rules(main: Model, sub: Model, seed: int, kind: Kind = "table") -> Rules:
    """Rules with a random table and evidence: wrong as rules, but every entry shows in the labels."""
    names = main.card.classes.names
    added = [i for i, name in enumerate(sub.card.classes.names) if name not in names]
    random = np.random.default_rng(seed)
    colors = random.integers(0, 256, (len(names) + len(added), 3)).tolist()
    output = LabelSpace(names + tuple(sub.card.classes.names[i] for i in added), tuple((r, g, b) for r, g, b in colors))
    table = random.integers(0, len(output), (len(names), len(sub.card.classes))).astype(output.dtype)
    provenance = Provenance(
        "0" * 64, main.fingerprint, sub.fingerprint, ("random",), 1, 1, 1, "0.0", "2026-01-01T00:00:00+00:00"
    )
    sources = ("main",) * len(names) + ("added",) * len(added)
    confidence = np.round(random.random(table.shape), 3).astype(np.float32)
    evidence = random_evidence(range(len(output)), len(names), len(sub.card.classes), seed)
    # Faint, lest confidence be 0 or 1 everywhere.
    faint = replace(evidence, **{name: getattr(evidence, name) / 8 for name in ("main", "sub", "bias", "boost")})
    return Rules(names, sub.card.classes.names, output, sources, table, confidence, faint, kind, provenance)


@dataclass(frozen=True)
class Chain:
    """Models, rules for them in files, and the same pipeline the node runs."""

    main: Path
    subs: tuple[Path, ...]
    rules: RuleSet
    rules_files: tuple[Path, ...]
    pipeline: Pipeline

    def parameters(self, **others: object) -> list[str]:
        """Arguments that give a node these models and rules, and other parameters."""
        subs, rules = (
            paths[0] if len(paths) == 1 else f"[{', '.join(map(str, paths))}]"
            for paths in (self.subs, self.rules_files)
        )
        given = {"main_model": self.main, "sub_model": subs, "rules_file": rules, **others}
        return ["--ros-args", *(word for name, value in given.items() for word in ("-p", f"{name}:={value}"))]


@contextmanager
def make_chain(folder: Path, main_folder: Path, *sub_folders: Path, kind: Kind = "table") -> Iterator[Chain]:
    main, *subs = map(load_model, (main_folder, *sub_folders))
    rules = [random_rules(main, sub, seed, kind) for seed, sub in enumerate(subs, start=1)]
    files = tuple(folder / f"rules{number}.yaml" for number in range(len(subs)))
    for each, file in zip(rules, files, strict=True):
        each.save(file)
    with Pipeline(main, *subs) as pipeline:
        yield Chain(main_folder, sub_folders, RuleSet(rules), files, pipeline)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    found = [folders for folders in MODEL_FOLDERS if all(folder.is_dir() for folder in folders)]
    if not found:
        pytest.skip("neither the demo's models nor ../shared are here")
    with make_chain(tmp_path_factory.mktemp("chain"), *found[0]) as made:
        yield made


@pytest.fixture(scope="module")
def running(chain: Chain) -> Iterator[Process]:
    """One node for all tests that leave it as it was: cameras front and spare (raw), rear and worst (compressed)."""
    packed = {f"{camera}.image_transport": "compressed" for camera in ("rear", "worst")}
    parameters = chain.parameters(cameras="[front, rear, spare, worst]", **packed)
    with own_domain() as domain, Process(NODE, *parameters, domain=domain) as process:
        process.wait_for_line("rules: ")
        yield process


@pytest.fixture(scope="module")
def front(talker: Peer) -> Camera:
    return Camera(talker, "front")


@pytest.fixture(scope="module")
def diagnostics(talker: Peer) -> Gathered[Any]:
    return talker.subscribe(DiagnosticArray, "/diagnostics")


@pytest.fixture(scope="module")
def talker(running: Process) -> Iterator[Peer]:
    """A peer of the running node."""
    with Peer(running.domain) as peer:
        yield peer


class Outputs(NamedTuple):
    """What a node publishes for one frame."""

    label: Any
    overlay: Any
    color: Any
    confidence: Any


class Camera:
    """The camera of a node: its input to publish to, its outputs gathered."""

    def __init__(self, peer: Peer, name: str, *, packed: bool = False) -> None:
        self._outputs = Outputs(
            *(
                peer.subscribe(Image, f"/classaug_node/{name}/{output}", publishers=1)
                for output in ("label", "overlay", "label_color", "confidence")
            )
        )
        kind, suffix = (CompressedImage, "/compressed") if packed else (Image, "")
        self.publisher = peer.publisher(kind, f"/{name}/image_raw{suffix}")
        self.labels = self._outputs.label.items
        sample = picture(99)
        self.exchange(compressed(sample) if packed else image(sample, "rgb8"))

    def exchange(self, message: Any) -> Outputs:
        """Publish a frame, again while the node has yet to notice the subscriptions; return the outputs."""
        for patience in (2, 4, 8, 16, 32, 64):
            self.publisher.publish(message)
            try:
                return self.outputs_of(message, patience)
            except AssertionError:
                continue
        raise AssertionError("no output")

    def outputs_of(self, message: Any, timeout: float = PATIENCE) -> Outputs:
        """Wait for the outputs that carry the stamp of an input."""

        def same(output: Any) -> bool:
            return bool(output.header.stamp == message.header.stamp)

        return Outputs(*(gathered.wait(same, timeout) for gathered in self._outputs))


def picture(seed: int = 0, size: tuple[int, int] = (HEIGHT, WIDTH)) -> NDArray[np.uint8]:
    """Blotches of colour, so that the models see more than one class."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    # Never quite white: that is for the model that fails on it.
    return np.minimum(cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC), 250).astype(np.uint8)


def image(
    pixels: NDArray[Any], encoding: str, *, padding: int = 0, bigendian: bool = False, frame: str = "cam"
) -> Image:
    """An image message stamped now; every row is followed by ``padding`` bytes of 255."""
    samples = pixels.astype(pixels.dtype.newbyteorder(">")) if bigendian else np.ascontiguousarray(pixels)
    rows: NDArray[np.uint8] = samples.view(np.uint8).reshape(pixels.shape[0], -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
    message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding, step=rows.shape[1])
    message.is_bigendian = int(bigendian)
    message.data = rows.tobytes()
    return stamped(message)


def stamped(message: Any, frame: str = "cam") -> Any:
    now = time.time_ns()
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(now, 10**9)
    message.header.frame_id = frame
    return message


def compressed(pixels: NDArray[np.uint8], suffix: str = ".png") -> CompressedImage:
    data = cv2.imencode(suffix, pixels[:, :, ::-1])[1].tobytes()
    return stamped(CompressedImage(format=f"rgb8; {suffix[1:]} compressed bgr8", data=data))


def pixels_of(message: Any) -> NDArray[Any]:
    dtype, channels = {"mono8": (np.uint8, 1), "16UC1": (np.uint16, 1), "rgb8": (np.uint8, 3)}[message.encoding]
    array = np.frombuffer(message.data, dtype).reshape(message.height, message.width, channels)
    assert message.step == message.width * channels * array.itemsize
    return array[:, :, 0] if channels == 1 else array


def status(
    diagnostics: Gathered[Any], name: str, wanted: Callable[[Any, dict[str, str]], bool], skip: int = 0
) -> tuple[Any, dict[str, str]]:
    """Wait for a new status of that name in which something holds; return it and its values."""

    def find(message: DiagnosticArray) -> Any:
        for entry in message.status:
            if entry.name == f"classaug_node: {name}" and wanted(entry, values_of(entry)):
                return entry
        return None

    since = len(diagnostics.items()) + skip
    wanted_one = diagnostics.wait(lambda message: find(message) is not None, what=f"{name} in diagnostics", since=since)
    entry = find(wanted_one)
    return entry, values_of(entry)


def settled(diagnostics: Gathered[Any], camera: str) -> dict[str, int]:
    """Wait until no frame of a camera is waiting; return its counts of frames."""
    # One is skipped: it may already be under way, with counts of a moment ago.
    _, values = status(diagnostics, f"camera {camera}", lambda _, values: values["frames waiting"] == "0", skip=1)
    return frames(values)


def values_of(entry: Any) -> dict[str, str]:
    return {pair.key: pair.value for pair in entry.values}


def frames(values: dict[str, str]) -> dict[str, int]:
    counted = {key.removeprefix("frames "): int(value) for key, value in values.items() if key.startswith("frames ")}
    assert counted["in"] == sum(count for key, count in counted.items() if key != "in")
    return counted


def reload_rules(peer: Peer) -> Trigger.Response:
    return peer.call(Trigger, "/classaug_node/reload_rules", Trigger.Request())


def set_parameters(peer: Peer, **values: ParameterValue) -> list[Any]:
    request = SetParameters.Request(parameters=[Parameter(name=name, value=value) for name, value in values.items()])
    results: list[Any] = peer.call(SetParameters, "/classaug_node/set_parameters", request).results
    return results


def text(value: str) -> ParameterValue:
    return ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=value)


def truth(value: bool) -> ParameterValue:
    return ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=value)


def stamp_of(message: Any) -> float:
    return float(message.header.stamp.sec + message.header.stamp.nanosec * 1e-9)


def number(value: float) -> ParameterValue:
    return ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)


RGB = picture()
MONO = cv2.cvtColor(RGB, cv2.COLOR_RGB2GRAY)
YUYV = np.stack([MONO, np.resize(np.array([110, 150], np.uint8), MONO.shape)], axis=2)
INPUTS = {
    "rgb8": image(RGB, "rgb8"),
    "bgr8": image(RGB[:, :, ::-1], "bgr8"),
    "rgba8": image(np.dstack([RGB, MONO]), "rgba8"),
    "bgra8": image(np.dstack([RGB[:, :, ::-1], MONO]), "bgra8"),
    "mono8": image(MONO, "mono8"),
    "yuv422": image(YUYV[:, :, ::-1], "yuv422"),
    "yuv422_yuy2": image(YUYV, "yuv422_yuy2"),
    "bayer_rggb8": image(MONO, "bayer_rggb8"),
    "bayer_grbg8": image(MONO, "bayer_grbg8"),
    "padded step": image(RGB, "rgb8", padding=13),
    "big-endian mono16": image(MONO.astype(np.uint16) << 8, "mono16", bigendian=True),
    "odd size": image(picture(3, (97, 131)), "rgb8"),
    "larger than the models' input": image(picture(4, (600, 800)), "rgb8"),
}


@pytest.mark.parametrize("name", INPUTS)
def test_every_encoding_gives_the_pipelines_result_under_the_inputs_header(
    chain: Chain, front: Camera, name: str
) -> None:
    message = stamped(INPUTS[name], frame=f"optical frame of {name}")
    outputs = front.exchange(message)
    expected = chain.pipeline.augment(decode_image(message), chain.rules, confidence=True, color=True, overlay=True)
    for output in outputs:
        assert output.header == message.header
        assert (output.height, output.width) == (message.height, message.width)
    assert [output.encoding for output in outputs] == ["mono8", "rgb8", "rgb8", "mono8"]
    for attribute, output in outputs._asdict().items():
        np.testing.assert_array_equal(pixels_of(output), getattr(expected, attribute))


def test_compressed_and_raw_cameras_at_once(chain: Chain, talker: Peer, front: Camera) -> None:
    rear = Camera(talker, "rear", packed=True)
    for seed, suffix in enumerate((".png", ".jpg", ".png")):
        raw, packed = image(picture(seed), "rgb8"), compressed(picture(seed + 10), suffix)
        front.publisher.publish(raw)
        rear.publisher.publish(packed)
        for camera, message, frame in ((front, raw, decode_image(raw)), (rear, packed, decode_compressed(packed))):
            label = camera.outputs_of(message).label
            np.testing.assert_array_equal(pixels_of(label), chain.pipeline.augment(frame, chain.rules).label)


def test_a_camera_is_read_only_while_somebody_subscribes_to_its_outputs(
    talker: Peer, diagnostics: Gathered[Any]
) -> None:
    publisher = talker.publisher(Image, "/spare/image_raw", subscribers=0)
    entry, values = status(diagnostics, "camera spare", lambda *_: True, skip=1)
    assert (entry.level, frames(values)["in"]) == (DiagnosticStatus.OK, 0)
    assert "nobody subscribes" in entry.message
    assert publisher.get_subscription_count() == 0
    for output in ("overlay", "confidence"):
        listener = talker.node.create_subscription(Image, f"/classaug_node/spare/{output}", lambda _: None, 1)
        eventually(lambda: publisher.get_subscription_count() == 1, "the node to read the camera")
        talker.node.destroy_subscription(listener)
        eventually(lambda: publisher.get_subscription_count() == 0, "the node to read it no more")


def test_a_burst_keeps_latency_bounded_and_every_frame_accounted_for(
    chain: Chain, talker: Peer, front: Camera, diagnostics: Gathered[Any]
) -> None:
    arrivals = Gathered[tuple[float, float]]()  # when each label's frame was sent, and when the label came
    talker.node.create_subscription(
        Image, "/classaug_node/front/label", lambda label: arrivals.add((stamp_of(label), time.time())), 10
    )
    before, labels = settled(diagnostics, "front"), len(front.labels())
    pixels = picture(0, (480, 640))
    start = time.monotonic()
    chain.pipeline.augment(decode_image(image(pixels, "rgb8")), chain.rules, color=True, overlay=True)
    period = min(1 / 30, (time.monotonic() - start) / 4)  # 30 Hz, and faster than any model is
    start = time.monotonic()
    for number in range(60):
        last = image(pixels, "rgb8")
        front.publisher.publish(last)
        time.sleep(max(0.0, start + (number + 1) * period - time.monotonic()))
    front.outputs_of(last)  # the newest frame is never the one that is dropped
    counted = {key: count - before[key] for key, count in settled(diagnostics, "front").items()}
    assert 1 < counted["in"] <= 60  # the middleware keeps five and may replace some of those
    assert counted["out"] == len(front.labels()) - labels
    assert counted["dropped"] == counted["in"] - counted["out"] > 0
    # A frame waits for those that are worked on and no longer: three, and the few whose labels are on their way.
    since = [sum(sent < when < came for _, when in arrivals.items()) for sent, came in arrivals.items()]
    assert max(since) <= 8


def short() -> Image:
    message = image(RGB, "rgb8")
    message.data = message.data[:-7]
    return message


UNUSABLE = {
    "short data": (short, "expected height 120 x step 480"),
    "no size": (lambda: stamped(Image(encoding="rgb8")), "height 0, width 0"),
    "unknown encoding": (lambda: image(RGB, "rgb42"), "rgb42"),
}


def test_an_unusable_frame_is_refused_and_the_next_one_served(
    talker: Peer, running: Process, front: Camera, diagnostics: Gathered[Any]
) -> None:
    before = settled(diagnostics, "front")
    labels = len(front.labels())
    for make, _ in UNUSABLE.values():
        front.publisher.publish(make())
        time.sleep(0.5)  # lest the next one takes its place
    front.exchange(image(RGB, "rgb8"))
    after = settled(diagnostics, "front")
    assert after["refused"] - before["refused"] == len(UNUSABLE)
    assert len(front.labels()) == labels + 1
    entry, _ = status(diagnostics, "camera front", lambda entry, _: "refused" in entry.message)
    assert entry.level == DiagnosticStatus.WARN
    assert UNUSABLE["unknown encoding"][1] in entry.message
    # One line for the three: they came within the log's period.
    lines = [line for line in running.output.splitlines() if "camera front" in line and "refused" in line]
    assert len(lines) == 1
    assert UNUSABLE["short data"][1] in lines[0]


def changed(**fields: Any) -> Callable[[], Image]:
    """Return a way to a good image but for these fields."""

    def make() -> Image:
        message = image(RGB, "rgb8")
        for name, value in fields.items():
            setattr(message, name, value)
        return message

    return make


def packed(data: bytes, form: str = "jpeg") -> Callable[[], CompressedImage]:
    return lambda: stamped(CompressedImage(format=form, data=data))


PNG_START = compressed(RGB).data.tobytes()[:33]  # up to the end of its header
RAW_FAULTS = {
    "no height": changed(height=0, data=b""),
    "no width": changed(width=0, step=0, data=b""),
    "no data": changed(data=b""),
    "data too short": changed(height=HEIGHT + 1),
    "data too long": changed(height=HEIGHT - 1),
    "no step": changed(step=0, data=b""),
    "step too small": changed(width=WIDTH + 1),
    "sizes of 32 bits": changed(height=2**32 - 1, width=2**32 - 1, step=2**32 - 1),
    "sizes whose product is 0 in 32 bits": changed(height=2**16, width=2**16, step=2**16),
    "no encoding": changed(encoding=""),
    "megabytes of encoding": changed(encoding="rgb8\n" * 2**18),
    "odd width of pairs": changed(encoding="yuv422", width=1, step=WIDTH * 3),
    "mosaic too small": changed(encoding="bayer_rggb8", width=2),
}
PACKED_FAULTS = {
    "nothing": packed(b""),
    "text": packed(b"no image at all"),
    "JPEG cut off": packed(compressed(RGB, ".jpg").data.tobytes()[:-2]),
    "PNG cut off": packed(compressed(RGB).data.tobytes()[:-1], "png"),
    "JPEG said to be 65535 x 65535": packed(
        re.sub(rb"(?s)(\xff\xc0...)....", rb"\1" + b"\xff" * 4, compressed(RGB, ".jpg").data.tobytes(), count=1)
    ),
    "PNG without rows": packed(PNG_START, "png"),
    "mosaic": packed(compressed(RGB).data.tobytes(), "bayer_rggb8; png compressed bayer_rggb8"),
    "megabytes of format": packed(b"", "jpeg\n" * 2**18),
}


@pytest.mark.parametrize("name", ["front", "rear"])
def test_after_every_faulty_message_the_next_good_one_is_served(
    talker: Peer, running: Process, front: Camera, diagnostics: Gathered[Any], name: str
) -> None:
    faults = RAW_FAULTS if name == "front" else PACKED_FAULTS
    camera = front if name == "front" else Camera(talker, "rear", packed=True)
    before, start = settled(diagnostics, name), time.monotonic()
    for make in faults.values():
        answered = len(camera.labels())
        camera.publisher.publish(make())
        time.sleep(0.3)  # lest the next one takes its place
        good = image(RGB, "rgb8") if name == "front" else compressed(RGB, ".jpg")
        label = camera.exchange(good).label
        assert (label.height, label.width) == (HEIGHT, WIDTH)
        assert [each.header.stamp for each in camera.labels()[answered:]] == [good.header.stamp]
    counted = {key: count - before[key] for key, count in settled(diagnostics, name).items()}
    assert (counted["refused"], counted["out"], counted["failed"]) == (len(faults), len(faults), 0)
    lines = [line for line in running.output.splitlines() if f"camera {name}: frame refused" in line]
    assert len(lines) <= 2 + (time.monotonic() - start) / LOG_PERIOD  # and one of the test before this
    assert all(len(line) < 1000 for line in lines)


def test_a_camera_of_nothing_but_broken_jpegs_is_an_error(
    talker: Peer, running: Process, diagnostics: Gathered[Any]
) -> None:
    talker.subscribe(Image, "/classaug_node/worst/label")
    publisher = talker.publisher(CompressedImage, "/worst/image_raw/compressed")
    good = compressed(RGB, ".jpg")

    def refused(entry: Any, _: dict[str, str]) -> bool:
        publisher.publish(stamped(CompressedImage(format="jpeg", data=good.data[: len(good.data) // 2])))
        return bool(entry.level == DiagnosticStatus.ERROR)

    entry, values = status(diagnostics, "camera worst", refused)
    assert "every frame" in entry.message
    assert frames(values)["out"] == 0
    running.wait_for_line("camera worst: frame refused")


def arrays_of(file: Path) -> Path:
    """The arrays file that a rules file names; others may lie beside it, of rules that were overwritten by hand."""
    (name,) = re.findall(r'[^\s"]+\.arrays\.npz', file.read_text())
    return file.with_name(name)


def test_rules_are_exchanged_while_it_runs(chain: Chain, talker: Peer, front: Camera) -> None:
    info = talker.subscribe(String, "/classaug_node/label_info", LATCHED)
    assert json.loads(info.wait_for(1)[0].data) == chain.rules.label_info()
    (kept,), (file,) = chain.rules.rules, chain.rules_files
    message = image(RGB, "rgb8")
    other = random_rules(chain.pipeline.main, chain.pipeline.subs[0], seed=2, kind="probability")
    expected = chain.pipeline.augment(decode_image(message), RuleSet([other]), confidence=True)
    assert expected.confidence is not None
    assert len(np.unique(expected.confidence)) > 10

    def in_use() -> None:
        outputs = front.exchange(stamped(message))
        np.testing.assert_array_equal(pixels_of(outputs.label), expected.label)
        np.testing.assert_array_equal(pixels_of(outputs.confidence), expected.confidence)

    try:
        other.save(file)
        response = reload_rules(talker)
        assert response.success
        assert f"rules: {file}, probability (gamma 0.5, temperature 1.25)" in response.message
        in_use()
        assert json.loads(info.wait_for(2)[1].data) == RuleSet([other]).label_info()

        foreign = replace(other, provenance=replace(other.provenance, sub_model="f" * 64))
        spoilers: tuple[tuple[Callable[[], object], str], ...] = (
            (partial(file.write_text, "nothing: here\n"), "no rules in it"),
            (partial(foreign.save, file), "another sub"),
            (lambda: arrays_of(file).unlink(), "it was written beside the rules"),
        )
        for spoil, reason in spoilers:
            other.save(file)
            spoil()
            response = reload_rules(talker)
            assert not response.success
            assert reason in response.message
            in_use()
    finally:
        kept.save(file)
        assert reload_rules(talker).success


def test_overlay_alpha_changes_while_it_runs(talker: Peer, front: Camera) -> None:
    message = image(RGB, "rgb8")
    try:
        assert set_parameters(talker, overlay_alpha=number(0.0))[0].successful
        np.testing.assert_array_equal(pixels_of(front.exchange(stamped(message)).overlay), RGB)
        assert set_parameters(talker, overlay_alpha=number(1.0))[0].successful
        outputs = front.exchange(stamped(message))
        np.testing.assert_array_equal(pixels_of(outputs.overlay), pixels_of(outputs.color))
        refused = set_parameters(talker, overlay_alpha=number(1.5))[0]
        assert not refused.successful
    finally:
        set_parameters(talker, overlay_alpha=number(0.5))


def test_how_labels_are_decided_for_changes_while_frames_come(
    tmp_path: Path, chain: Chain, peer: Peer, start: Start
) -> None:
    """Every frame is wholly of one set of values, none fails, and what the last set asks for holds."""
    decisions = [
        Decision(prefer, least, contours)
        for prefer in get_args(Prefer)
        for least in (0.0, 0.4, 0.7)
        for contours in (False, True)
    ]
    with make_chain(tmp_path, chain.main, *chain.subs, kind="probability") as probable:
        start(NODE, *probable.parameters())
        diagnostics = peer.subscribe(DiagnosticArray, "/diagnostics")
        camera = Camera(peer, "camera")
        message = image(RGB, "rgb8")
        frame = decode_image(message)
        expected = {each: probable.pipeline.augment(frame, probable.rules, each, confidence=True) for each in decisions}
        assert len({result.label.tobytes() for result in expected.values()}) == len(decisions)
        unlabelled, first = probable.rules.output.unlabelled, len(camera.labels())
        for each in decisions:
            for _ in range(3):  # in work while the values change
                camera.publisher.publish(stamped(message))
            assert set_at_once(peer, each).successful
            outputs = camera.exchange(stamped(message))
            label, confidence = pixels_of(outputs.label), pixels_of(outputs.confidence)
            np.testing.assert_array_equal(label, expected[each].label)
            np.testing.assert_array_equal(confidence, expected[each].confidence)
            np.testing.assert_array_equal(label == unlabelled, confidence < 255 * each.min_confidence)
        possible = {result.label.tobytes() for result in expected.values()}
        assert {pixels_of(label).tobytes() for label in camera.labels()[first:]} <= possible
        _, values = status(diagnostics, "camera camera", lambda _, values: values["frames waiting"] == "0", skip=1)
        assert (values["frames failed"], values["frames refused"]) == ("0", "0")


def set_at_once(peer: Peer, decision: Decision) -> Any:
    """Set all that a decision consists of in one call."""
    values = {
        "prefer": text(decision.prefer),
        "min_confidence": number(decision.min_confidence),
        "contours": truth(decision.contours),
    }
    parameters = [Parameter(name=name, value=value) for name, value in values.items()]
    request = SetParametersAtomically.Request(parameters=parameters)
    return peer.call(SetParametersAtomically, "/classaug_node/set_parameters_atomically", request).result


def test_what_the_rules_cannot_do_is_refused(chain: Chain, talker: Peer, front: Camera) -> None:
    (kept,), (file,) = chain.rules.rules, chain.rules_files
    asked = set_parameters(talker, contours=truth(True))[0]
    assert not asked.successful
    assert asked.reason == "contours need rules of kind probability; leave contours off, or choose that kind"
    assert set_parameters(talker, contours=truth(False))[0].successful
    message = image(RGB, "rgb8")
    other = random_rules(chain.pipeline.main, chain.pipeline.subs[0], seed=3, kind="probability")
    followed = chain.pipeline.augment(decode_image(message), RuleSet([other]), Decision(contours=True))
    try:
        other.save(file)
        assert reload_rules(talker).success
        assert set_parameters(talker, contours=truth(True))[0].successful
        kept.save(file)
        response = reload_rules(talker)
        assert not response.success
        assert response.message == f"the old rules stay in use: {asked.reason}"
        np.testing.assert_array_equal(pixels_of(front.exchange(stamped(message)).label), followed.label)
    finally:
        kept.save(file)
        assert set_parameters(talker, contours=truth(False))[0].successful
        assert reload_rules(talker).success


def test_several_sub_models_publish_the_classes_of_all(tmp_path: Path, peer: Peer, start: Start) -> None:
    main = write_model(tmp_path / "main", ["road", "car"], (24, 32), seed=1)
    first = write_model(tmp_path / "first", ["car", "pole", "sign"], (24, 32), seed=2)
    second = write_model(tmp_path / "second", ["sign", "bin", "road", "bench"], (24, 32), seed=3)
    with make_chain(tmp_path, main, first, second, kind="probability") as chain:
        node = start(NODE, *chain.parameters())
        for number, model, rules in zip((1, 2), (first, second), chain.rules_files, strict=True):
            assert str(model) in node.wait_for_line(f"sub model {number}: ")
            assert f"{rules}, probability (gamma" in node.wait_for_line(f"rules {number}: ")
        info = peer.subscribe(String, "/classaug_node/label_info", LATCHED)
        names = [each["name"] for each in json.loads(info.wait_for(1)[0].data)["classes"]]
        assert names == ["road", "car", "pole", "sign", "bin", "bench"]
        camera = Camera(peer, "camera")
        diagnostics = peer.subscribe(DiagnosticArray, "/diagnostics")
        pairs: tuple[tuple[Kind, Kind], ...] = (
            ("probability", "probability"),
            ("table", "probability"),
            ("table", "table"),
        )
        for kinds in pairs:
            used = [replace(each, kind=kind) for each, kind in zip(chain.rules.rules, kinds, strict=True)]
            for each, file in zip(used, chain.rules_files, strict=True):
                each.save(file)
            assert reload_rules(peer).success
            message = image(picture(5), "rgb8")
            outputs = camera.exchange(message)
            expected = chain.pipeline.augment(decode_image(message), RuleSet(used), confidence=True)
            assert expected.label.max() >= names.index("bin")
            np.testing.assert_array_equal(pixels_of(outputs.label), expected.label)
            np.testing.assert_array_equal(pixels_of(outputs.confidence), expected.confidence)
        _, values = status(diagnostics, "node", lambda *_: True, skip=1)
        assert [values[f"rules {number} kind"] for number in (1, 2)] == ["table", "table"]
        assert "second" in values["sub model 2"]
        assert re.search(r"all at once, \d+ \+ \d+ \+ \d+ threads", values["engines"])
        assert not set_parameters(peer, contours=truth(True))[0].successful
        assert set_parameters(peer, rules_file=text(str(chain.rules_files[0])))[0].successful
        response = reload_rules(peer)
        assert not response.success
        assert "the old rules stay in use: sub_model names 2 models and rules_file 1 file" in response.message
        label = camera.exchange(stamped(message)).label
        np.testing.assert_array_equal(pixels_of(label), expected.label)


def dumped(peer: Peer) -> dict[str, ParameterValue]:
    """All parameters of the node in one request, as `ros2 param dump` asks for them."""
    names = peer.call(ListParameters, "/classaug_node/list_parameters", ListParameters.Request()).result.names
    values = peer.call(GetParameters, "/classaug_node/get_parameters", GetParameters.Request(names=names)).values
    return dict(zip(names, values, strict=True))


def test_parameters_can_be_dumped_and_loaded_again(chain: Chain, peer: Peer, start: Start, tmp_path: Path) -> None:
    node = start(NODE, *chain.parameters(cameras="[front]", min_confidence="0.25"))
    node.wait_for_line("rules: ")
    before = dumped(peer)
    assert before["min_confidence"].double_value == 0.25
    file = tmp_path / "dump.yaml"
    values = {name: parameter_value_to_python(value) for name, value in before.items()}
    file.write_text(json.dumps({"/classaug_node": {"ros__parameters": values}}))
    assert node.stop()[0] == 0
    again = start(NODE, "--ros-args", "--params-file", file)
    again.wait_for_line("rules: ")
    assert dumped(peer) == before


def test_rules_are_no_parameters_until_they_are_given(talker: Peer) -> None:
    assert not any(name.startswith("rules.") for name in dumped(talker))
    wrong = set_parameters(talker, **{"rules.kind": truth(True)})[0]
    assert (wrong.successful, wrong.reason) == (False, "parameter rules.kind is True; expected a string")
    assert not any(name.startswith("rules.") for name in dumped(talker))


def test_an_unknown_parameter_cannot_be_set(talker: Peer) -> None:
    refused = set_parameters(talker, min_confidenze=ParameterValue(type=ParameterType.PARAMETER_DOUBLE))[0]
    assert not refused.successful
    assert refused.reason == "unknown parameter min_confidenze; did you mean min_confidence?"


def test_a_read_only_parameter_is_fixed_while_configured(talker: Peer) -> None:
    result = set_parameters(talker, main_model=text("/elsewhere"))[0]
    assert not result.successful
    assert "main_model is fixed while the node is configured" in result.reason


def test_a_subscriber_that_asks_for_more_is_told_with_both_sides_settings(talker: Peer, running: Process) -> None:
    talker.subscribe(Image, "/classaug_node/spare/overlay", LATCHED)
    line = running.wait_for_line("incompatible QoS")
    assert "on /classaug_node/spare/overlay" in line
    assert "/classaug_node offers reliability reliable, durability volatile" in line
    assert "/peer asks for reliability reliable, durability transient_local" in line


def test_a_camera_that_offers_less_is_told_with_both_sides_settings(chain: Chain, peer: Peer, start: Start) -> None:
    node = start(NODE, *chain.parameters(image_reliability="reliable"))
    best_effort = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
    peer.publisher(Image, "/camera/image_raw", best_effort, subscribers=0)
    peer.subscribe(Image, "/classaug_node/camera/label", publishers=1)
    line = node.wait_for_line("incompatible QoS")
    assert "on /camera/image_raw" in line
    assert "/classaug_node asks for reliability reliable, durability volatile" in line
    assert "/peer offers reliability best_effort, durability volatile" in line


def test_diagnostics_tell_models_and_rules(chain: Chain, diagnostics: Gathered[Any]) -> None:
    entry, values = status(diagnostics, "node", lambda *_: True)
    assert entry.level == DiagnosticStatus.OK
    assert entry.message == "active"
    assert chain.pipeline.main.card.name in values["main model"]
    assert chain.pipeline.subs[0].card.name in values["sub model"]
    assert "ONNX Runtime" in values["engines"]
    assert values["rules"] == str(chain.rules_files[0])
    assert values["rules kind"] == "table"
    assert values["rules sub model"] == chain.rules.rules[0].provenance.sub_model
    assert values["output classes"] == str(len(chain.rules.output))
    assert values["decision"] == "prefer evidence, min_confidence 0, contours off"


def test_latency_since_the_stamp_follows_simulated_time(chain: Chain, peer: Peer, start: Start) -> None:
    start(NODE, *chain.parameters(use_sim_time=True, stale_after=1.0))
    diagnostics = peer.subscribe(DiagnosticArray, "/diagnostics")
    clock = peer.publisher(Clock, "/clock")
    now = Clock()
    now.clock.sec = 1000
    camera = Camera(peer, "camera")
    clock.publish(now)
    for _ in range(3):  # more than those of today's stamp before them
        message = image(RGB, "rgb8")
        message.header.stamp.sec, message.header.stamp.nanosec = 997, 0
        camera.exchange(message)

    def from_stamp(_: Any, values: dict[str, str]) -> bool:
        clock.publish(now)
        camera.publisher.publish(message)
        return values.get("latency from stamp p50 (ms)") == "3000.0"

    _, values = status(diagnostics, "camera camera", from_stamp)
    assert 0 < float(values["latency from arrival p50 (ms)"]) < 3000
    entry, _ = status(diagnostics, "camera camera", lambda entry, _: entry.level == DiagnosticStatus.WARN)
    assert "no frame for" in entry.message


def test_images_lost_on_the_way_are_counted(
    chain: Chain, start: Start, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without shared memory a large image comes in many pieces, of which best effort loses some.
    monkeypatch.delenv(profiles_variable())
    monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4")
    start(NODE, *chain.parameters())
    diagnostics = peer.subscribe(DiagnosticArray, "/diagnostics")
    peer.subscribe(Image, "/classaug_node/camera/label", publishers=1)
    publisher = peer.publisher(Image, "/camera/image_raw")
    large, small = image(picture(0, (1024, 2048)), "rgb8"), image(RGB, "rgb8")

    def accounted(values: dict[str, str]) -> int:
        return int(values["frames in"]) + int(values["lost on the way"])

    def noticed(_: Any, values: dict[str, str]) -> bool:
        publisher.publish(small)
        return "frames in" in values and values["frames in"] != "0"

    status(diagnostics, "camera camera", noticed)
    _, values = status(diagnostics, "camera camera", lambda *_: True, skip=1)
    before = accounted(values)
    for _ in range(10):
        publisher.publish(large)
        time.sleep(0.03)
    publisher.publish(small)  # shows that the ones before it should have come
    entry, values = status(diagnostics, "camera camera", lambda _, values: accounted(values) == before + 11)
    assert (entry.level == DiagnosticStatus.WARN) == (values["lost on the way"] != "0")


def test_past_255_classes_labels_have_16_bits(tmp_path: Path, peer: Peer, start: Start) -> None:
    main = write_model(tmp_path / "main", [f"main {i}" for i in range(200)], (24, 32), seed=1)
    sub = write_model(tmp_path / "sub", [f"sub {i}" for i in range(100)], (24, 32), seed=2)
    with make_chain(tmp_path, main, sub) as chain:
        start(NODE, *chain.parameters())
        message = image(RGB, "rgb8")
        outputs = Camera(peer, "camera").exchange(message)
        expected = chain.pipeline.augment(decode_image(message), chain.rules, color=True)
        assert outputs.label.encoding == "16UC1"
        assert expected.label.max() > 255
        np.testing.assert_array_equal(pixels_of(outputs.label), expected.label)
        np.testing.assert_array_equal(pixels_of(outputs.color), expected.color)


def test_a_model_that_fails_on_a_frame_is_an_error_and_the_next_frame_is_served(
    tmp_path: Path, peer: Peer, start: Start
) -> None:
    main = write_model(tmp_path / "main", ["a", "b"], (24, 32), trap="fails on white")
    sub = write_model(tmp_path / "sub", ["b", "c"], (24, 32), seed=2)
    with make_chain(tmp_path, main, sub) as chain:
        node = start(NODE, *chain.parameters())
        diagnostics = peer.subscribe(DiagnosticArray, "/diagnostics")
        camera = Camera(peer, "camera")
        camera.publisher.publish(image(np.full_like(RGB, 255), "rgb8"))
        node.wait_for_line("camera camera: frame failed: ")
        camera.exchange(image(RGB // 2, "rgb8"))
        entry, values = status(diagnostics, "camera camera", lambda _, values: values["frames failed"] == "1")
        assert entry.level == DiagnosticStatus.ERROR
        assert str(main) in entry.message
        assert frames(values)["out"] >= 2


def change_state(peer: Peer, transition: int) -> bool:
    request = ChangeState.Request(transition=Transition(id=transition))
    return bool(peer.call(ChangeState, "/classaug_node/change_state", request).success)


def unsubscribed(camera: Camera) -> bool:
    return bool(camera.publisher.get_subscription_count() == 0)


def state(peer: Peer) -> int:
    return int(peer.call(GetState, "/classaug_node/get_state", GetState.Request()).current_state.id)


def test_a_lifecycle_manager_leads_it_through_all_states_twice(chain: Chain, peer: Peer, start: Start) -> None:
    node = start(NODE, *chain.parameters(autostart="false"))
    assert state(peer) == State.PRIMARY_STATE_UNCONFIGURED
    for _ in range(2):
        assert change_state(peer, Transition.TRANSITION_CONFIGURE)
        assert state(peer) == State.PRIMARY_STATE_INACTIVE
        assert change_state(peer, Transition.TRANSITION_ACTIVATE)
        camera = Camera(peer, "camera")
        assert change_state(peer, Transition.TRANSITION_DEACTIVATE)
        eventually(partial(unsubscribed, camera), "the subscription to end")
        assert change_state(peer, Transition.TRANSITION_CLEANUP)
        assert state(peer) == State.PRIMARY_STATE_UNCONFIGURED
    assert change_state(peer, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert state(peer) == State.PRIMARY_STATE_FINALIZED
    assert node.stop()[0] == 0
    assert "Traceback" not in node.output


def test_bad_parameters_stop_configuration_with_one_line_and_can_be_put_right(
    chain: Chain, peer: Peer, start: Start
) -> None:
    node = start(NODE, *chain.parameters(threads="many", sub_model="/nowhere"))
    diagnostics = peer.subscribe(DiagnosticArray, "/diagnostics")
    line = node.wait_for_line("ERROR")
    assert "parameter threads is 'many'; expected an integer from 0 to 256" in line
    assert state(peer) == State.PRIMARY_STATE_UNCONFIGURED
    entry, _ = status(diagnostics, "node", lambda *_: True)
    assert entry.level == DiagnosticStatus.ERROR
    assert "threads" in entry.message

    whole = ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=1)
    assert set_parameters(peer, threads=whole)[0].successful
    assert not change_state(peer, Transition.TRANSITION_CONFIGURE)
    node.wait_for_line("/nowhere: no such model file or folder")
    several = ParameterValue(type=ParameterType.PARAMETER_STRING_ARRAY, string_array_value=["/nowhere", "/nowhere"])
    assert set_parameters(peer, sub_model=several)[0].successful
    assert not change_state(peer, Transition.TRANSITION_CONFIGURE)
    node.wait_for_line("sub_model names 2 models and rules_file 1 file")
    assert not set_parameters(peer, sub_model=ParameterValue())[0].successful
    assert set_parameters(peer, sub_model=text(str(chain.subs[0])))[0].successful
    assert change_state(peer, Transition.TRANSITION_CONFIGURE)
    assert change_state(peer, Transition.TRANSITION_ACTIVATE)
    Camera(peer, "camera")
    assert len(re.findall("ERROR", node.output)) == 3


@pytest.mark.parametrize(
    ("given", "line"),
    [
        pytest.param({"main_modle": "/x"}, "unknown parameter main_modle; did you mean main_model?", id="unknown"),
        pytest.param({"camera.image_topic": "'a b'"}, "parameter camera.image_topic makes 'a b', which is", id="topic"),
        pytest.param({"rules.format": "1"}, "rules_file and rules.* parameters are both given", id="rules twice"),
        # test_parameters.py and test_loaded.py hold these lines to what is given, without a node.
        *(
            pytest.param(given, line, marks=pytest.mark.slow, id=name)
            for name, given, line in (
                ("camera", {"cameras": "[front]", "rear.image_topic": "/x"}, "cameras does not name 'rear'"),
                ("autostart", {"autostart": "perhaps"}, "parameter autostart is 'perhaps'; expected true or false"),
                ("rules file", {"sub_model": "[/a, /b]"}, "sub_model names 2 models and rules_file 1 file; give one"),
                ("sub models", {"sub_model": "[1, 2]"}, "parameter sub_model is [1, 2]; expected a string, or a list"),
                ("contours", {"contours": "true"}, "contours need rules of kind probability; leave contours off"),
            )
        ),
    ],
)
def test_a_wrong_parameter_is_named(chain: Chain, start: Start, given: dict[str, str], line: str) -> None:
    node = start(NODE, *chain.parameters(**given))
    assert line in node.wait_for_line("ERROR")
    assert node.stop()[0] == 0
    assert len(node.output.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--params-file", "/nowhere.yaml"], "Couldn't parse params file: '--params-file /nowhere.yaml'"),
        (["-p", "cameras:=[]"], "a parameter given is an empty list"),
    ],
    ids=["no file", "empty list"],
)
def test_arguments_ros_cannot_use_end_it_with_one_line(start: Start, arguments: list[str], line: str) -> None:
    node = start(NODE, "--ros-args", *arguments)
    assert node.wait() == 2
    last = node.output.splitlines()[-1]
    assert line in last
    assert "FATAL" in last
    assert "Traceback" not in node.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_it_cleanly_while_frames_come(
    chain: Chain, peer: Peer, start: Start, number: signal.Signals
) -> None:
    # The rules come as a parameter file here, as a launch file gives them.
    arguments = chain.parameters(image_reliability="reliable")
    (file,) = chain.rules_files
    at = arguments.index(f"rules_file:={file}")
    node = start(NODE, *arguments[: at - 1], *arguments[at + 1 :], "--params-file", str(file), cwd=file.parent)
    camera = Camera(peer, "camera")
    label = camera.exchange(image(RGB, "rgb8")).label
    expected = chain.pipeline.augment(decode_image(image(RGB, "rgb8")), chain.rules)
    np.testing.assert_array_equal(pixels_of(label), expected.label)
    for _ in range(3):
        camera.publisher.publish(image(RGB, "rgb8"))
    assert node.stop(number)[0] == 0
    assert "left without waiting" not in node.output
    assert "Traceback" not in node.output


def test_signals_that_follow_do_not_spoil_a_clean_end(chain: Chain, peer: Peer, start: Start) -> None:
    node = start(NODE, *chain.parameters())
    node.wait_for_line("active")
    while node.running:
        node.send(signal.SIGINT)
        time.sleep(0.002)
    assert node.wait() == 0
    assert "Traceback" not in node.output


def test_a_gpu_that_is_not_there_is_refused_in_one_line(chain: Chain, peer: Peer, start: Start) -> None:
    """Not the CPU in its place, and no traceback. It can be put right while the node runs."""
    if find_spec("torch") and shutil.which("nvidia-smi"):
        pytest.skip("there may be a GPU")
    node = start(NODE, *chain.parameters(device="cuda"))
    line = node.wait_for_line("ERROR")
    assert re.search(r"device (is )?cuda.*(set device to|use device) cpu", line)
    assert state(peer) == State.PRIMARY_STATE_UNCONFIGURED
    diagnostics = peer.subscribe(DiagnosticArray, "/diagnostics")
    entry, _ = status(diagnostics, "node", lambda *_: True)
    assert (entry.level, "device" in entry.message) == (DiagnosticStatus.ERROR, True)
    assert set_parameters(peer, device=text("cpu"))[0].successful
    assert change_state(peer, Transition.TRANSITION_CONFIGURE)
    assert len(re.findall("ERROR|Traceback|WARN", node.output)) == 1
