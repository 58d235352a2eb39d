"""Rosbag2 recordings: made from images, written and read without a ROS installation."""

from __future__ import annotations

import re
import shutil
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.rosbag2.reader import DirectoryReader
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from classaug_ros.errors import ConfigError, quoted
from classaug_ros.imaging.images import JPEG_SUFFIXES, Frame, image_files, read_image
from classaug_ros.io.files import kind_of

Storage = Literal["mcap", "sqlite3"]

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
STRING = "std_msgs/msg/String"
JPEG_QUALITY = 95
MIN_RATE, MAX_RATE = 0.001, 1e6  # Hz: stamps stay within a message's range, and apart
FOLDER_RATE = 10.0  # Hz, of a folder of images, which has no rate of its own
START_NS = 1_700_000_000 * 10**9  # fixed, so that the same images make the same bag

_STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
_TOPIC_NAME = re.compile(r"(/[A-Za-z_][A-Za-z0-9_]*)+")
_MOST_MESSAGES = 2**40
_NEVER = QosTime(9223372036, 854775807)  # how ROS writes an infinite duration


@dataclass(frozen=True)
class BagTopic:
    """A topic of a bag.

    Attributes:
        name: absolute name.
        type: message type, as in ``sensor_msgs/msg/Image``.
        count: number of messages.
        latched: whether those who subscribe late get the last message.
    """

    name: str
    type: str
    count: int
    latched: bool


@dataclass(frozen=True)
class BagMessage:
    """One recorded message: topic, time of recording in ns since the epoch, CDR bytes."""

    topic: str
    timestamp: int
    data: bytes


def make_bag(
    images: Path,
    output: Path,
    *,
    topic: str,
    rate: float | None = None,
    compressed: bool = False,
    storage: Storage = "mcap",
    frame_id: str = "camera",
    start_ns: int = START_NS,
) -> int:
    """Write images as a camera's recording and return how many there are.

    Image i is stamped and recorded at ``start_ns + i / rate``, rounded to whole ns once, so nothing adds up.

    Args:
        images: a folder of PNG and JPEG files, taken in order of their names, or a video file.
        output: the bag's folder, which must not exist yet.
        topic: the camera's topic, absolute; compressed images go to ``<topic>/compressed``, as image_transport's do.
        rate: images per second; None is a video's own, or FOLDER_RATE for a folder.
        compressed: write CompressedImage: JPEG files as they are, anything else as JPEG of JPEG_QUALITY.
        storage: the bag's file format.
        frame_id: coordinate frame of the camera.
        start_ns: time of the first image in ns since the epoch.

    Raises:
        ConfigError: an argument is wrong, there is no image, or ``output`` exists or cannot be written.
        ImageError: an image file cannot be read; then there is no bag.
    """
    if rate is not None and not MIN_RATE <= rate <= MAX_RATE:
        raise ConfigError(f"rate {rate}: expected {MIN_RATE} to {MAX_RATE:.0f} Hz")
    source = _Video(images) if images.is_file() else _Folder(images)
    hertz = Fraction(str(rate or source.rate))  # by its decimals: 29.97 means 2997/100
    if compressed:
        topic = f"{topic.removesuffix('/compressed')}/compressed"
    count = 0
    with BagWriter(output, storage) as bag:
        bag.add_topic(topic, COMPRESSED_IMAGE if compressed else IMAGE)
        for count, (frame, path) in enumerate(source, start=1):
            stamp = start_ns + round((count - 1) * 10**9 / hertz)
            if compressed:
                data = _compressed_cdr(_header(stamp, frame_id), frame, path)
            else:
                data = image_message(stamp, frame_id, frame.pixels, f"{frame.order}8")
            bag.write(topic, stamp, data)
    return count


@dataclass(frozen=True)
class _Folder:
    """The images of a folder and their files."""

    path: Path
    rate: float = FOLDER_RATE

    def __iter__(self) -> Iterator[tuple[Frame, Path | None]]:
        return ((read_image(file), file) for file in image_files(self.path))


class _Video:
    """The frames of a video file, which have no files of their own."""

    def __init__(self, path: Path) -> None:
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise ConfigError(f"{path}: cannot be read as a video; give a video file or a folder of images")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = round(rate, 3) if MIN_RATE <= rate <= MAX_RATE else FOLDER_RATE
        self._path = path

    def __iter__(self) -> Iterator[tuple[Frame, Path | None]]:
        frames = 0
        while True:
            more, pixels = self._capture.read()
            if not more:
                break
            frames += 1
            yield Frame(np.asarray(pixels, np.uint8), "bgr"), None
        self._capture.release()
        if not frames:
            raise ConfigError(f"{self._path}: no frame of this video can be decoded")


class BagWriter:
    """A new bag, which appears under its name only once it is whole.

    Use as a context manager: leaving it with an exception leaves nothing behind.
    """

    def __init__(self, output: Path, storage: Storage = "mcap") -> None:
        """Check the name and the storage.

        Raises:
            ConfigError: ``output`` exists, or the storage is unknown.
        """
        if storage not in _STORAGES:
            raise ConfigError(f"storage {storage!r}: expected one of {', '.join(_STORAGES)}")
        if output.exists() or output.is_symlink():
            raise ConfigError(f"{output}: exists already; remove it or name another output")
        self._output = output
        self._storage = _STORAGES[storage]
        self._connections: dict[str, Connection] = {}
        self._stack = ExitStack()

    def __enter__(self) -> BagWriter:
        with ExitStack() as stack, _writing(self._output):
            self._output.parent.mkdir(parents=True, exist_ok=True)
            # Beside the output, so that the last step is a rename; rosbags names its files after the folder.
            scratch = tempfile.mkdtemp(prefix=f".{self._output.name}.", dir=self._output.parent)
            stack.callback(shutil.rmtree, scratch, ignore_errors=True)
            self._written = Path(scratch, self._output.name)
            self._writer = Writer(self._written, version=Writer.VERSION_LATEST, storage_plugin=self._storage)
            self._writer.open()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._stack, _writing(self._output):
            self._writer.__exit__(kind, error, traceback)  # its file is closed then, even on a full disk
            if kind is None:
                self._written.rename(self._output)

    def add_topic(self, topic: str, kind: str, *, latched: bool = False) -> None:
        """Announce a topic of message type ``kind``, such as ``std_msgs/msg/String``.

        ``latched``: those who subscribe later get the last message (transient local durability).

        Raises:
            ConfigError: the name is no absolute topic name, is given twice, or the type is not one of ROS's own.
        """
        if not _TOPIC_NAME.fullmatch(topic):
            raise ConfigError(f"topic {topic!r}: expected an absolute name such as /camera/image_raw")
        if topic in self._connections:
            raise ConfigError(f"topic {topic} is already in {self._output}")
        if kind not in _typestore().fielddefs:
            raise ConfigError(f"topic {topic}: message type {kind!r} is not one of ROS's common interfaces")
        self._connections[topic] = self._writer.add_connection(
            topic, kind, typestore=_typestore(), offered_qos_profiles=[_qos(latched)]
        )

    def write(self, topic: str, timestamp: int, data: bytes | memoryview) -> None:
        """Append one message of an added topic: its CDR bytes, received at ``timestamp`` ns since the epoch.

        Raises:
            ConfigError: the disk is full.
        """
        with _writing(self._output):
            self._writer.write(self._connections[topic], timestamp, data)


class BagReader:
    """A bag's topics and messages; use as a context manager."""

    def __init__(self, bag: Path) -> None:
        self._bag = bag
        self._stack = ExitStack()
        self.topics: dict[str, BagTopic] = {}

    def __enter__(self) -> BagReader:
        """Open the bag.

        Raises:
            ConfigError: it is not there, is no rosbag2, or is damaged.
        """
        if kind_of(self._bag) == "nothing":
            raise ConfigError(f"{self._bag}: there is no such bag")
        with ExitStack() as stack, _reading(self._bag):
            self._reader = stack.enter_context(Reader(self._bag))
            self._stored = _stored(self._reader)
            self._counts = _counts(self._reader.connections) | _counts(self._stored)  # the larger of each
            self.topics = _topics(self._stored, self._counts)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def select(self, topics: Collection[str] = ()) -> tuple[BagTopic, ...]:
        """Return these topics of the bag (none: every one) in the order of their names.

        Raises:
            ConfigError: the bag has no such topic.
        """
        for topic in topics:
            if topic not in self.topics:
                raise ConfigError(
                    f"{self._bag}: has no topic {topic}; it has {', '.join(sorted(self.topics)) or 'none'}"
                )
        return tuple(self.topics[name] for name in sorted(topics or self.topics))

    def messages(self, topics: Collection[str] = ()) -> Iterator[BagMessage]:
        """Return the messages of ``topics`` (none: of every topic) in the order of their timestamps.

        Raises:
            ConfigError: the bag has no such topic; or, while iterating, it ends before its last message.
        """
        return self._messages(self._connections(topics))

    def messages_at(self, topic: str, timestamp: int) -> Iterator[BagMessage]:
        """Return the messages of a topic that were recorded at ``timestamp``, found without reading the others.

        Raises:
            ConfigError: the bag has no such topic, or cannot be read there.
        """
        with _reading(self._bag):
            for _, recorded, data in self._reader.messages(self._connections([topic]), timestamp, timestamp + 1):
                yield BagMessage(topic, recorded, data)

    def _connections(self, topics: Collection[str]) -> list[Connection]:
        names = {topic.name for topic in self.select(topics)}
        return [connection for connection in self._stored if connection.topic in names]

    def _messages(self, connections: Collection[Connection]) -> Iterator[BagMessage]:
        if not connections:
            return  # to rosbags, none would mean all
        count = 0
        with _reading(self._bag):
            for connection, timestamp, data in self._reader.messages(connections):
                count += 1
                yield BagMessage(connection.topic, timestamp, data)
        expected = sum(self._counts[topic] for topic in {connection.topic for connection in connections})
        if count < expected:
            raise ConfigError(f"{self._bag}: is cut off: it has {count} of {expected} messages")


def decode_message(data: bytes, kind: str) -> Any:
    """Return the message of type ``kind`` in CDR bytes, its fields named as in ROS; arrays are views of ``data``.

    Raises:
        ConfigError: the type is not one of ROS's own, or the bytes hold no such message.
    """
    if kind not in _typestore().fielddefs:
        raise ConfigError(f"message type {kind!r} is not one of ROS's common interfaces")
    with _reading(f"a {kind} message of {len(data)} bytes"):
        return _typestore().deserialize_cdr(data, kind)


def image_message(stamp: int, frame_id: str, pixels: NDArray[np.unsignedinteger[Any]], encoding: str) -> memoryview:
    """Return a sensor_msgs/Image as CDR bytes.

    Args:
        stamp: ns since the epoch.
        frame_id: coordinate frame.
        pixels: (H, W) uint8 for mono8, (H, W) uint16 for 16UC1, (H, W, 3) uint8 for rgb8 and bgr8.
        encoding: one of these four.
    """
    height, width = pixels.shape[:2]
    row = pixels.size // height * pixels.itemsize
    message = _typestore().types[IMAGE](
        header=_header(stamp, frame_id),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=int(sys.byteorder == "big"),
        step=row,
        data=np.ascontiguousarray(pixels).reshape(-1).view(np.uint8),
    )
    return _typestore().serialize_cdr(message, IMAGE)


def text_message(text: str) -> memoryview:
    """Return a std_msgs/String as CDR bytes."""
    return _typestore().serialize_cdr(_typestore().types[STRING](data=text), STRING)


@cache
def _typestore() -> Typestore:
    # Every later distribution has the same definitions of the types used here.
    return get_typestore(Stores.ROS2_JAZZY)


def _stored(reader: Reader) -> list[Connection]:
    """Return a bag's connections as its files have them.

    metadata.yaml, which those of a folder are read from, may say something else of QoS and counts: it is edited by
    hand, for players that cannot read the QoS. rosbags finds no message of a connection whose QoS is another there.
    """
    folder = reader.storage
    if not isinstance(folder, DirectoryReader):
        return list(reader.connections)
    listed = {connection.topic for connection in reader.connections}
    stored = [connection for file in folder.storages for connection in file.connections]
    unknown = listed - {connection.topic for connection in stored}
    return stored + [connection for connection in reader.connections if connection.topic in unknown]


def _counts(connections: Collection[Connection]) -> Counter[str]:
    """Return how many messages there are of each topic."""
    counts: Counter[str] = Counter()
    for connection in connections:
        if not 0 <= connection.msgcount < _MOST_MESSAGES:
            raise ConfigError(
                f"topic {connection.topic} has {quoted(connection.msgcount)} messages, so its metadata says"
            )
        counts[connection.topic] += connection.msgcount
    return counts


def _topics(connections: Collection[Connection], counts: Mapping[str, int]) -> dict[str, BagTopic]:
    topics: dict[str, BagTopic] = {}
    for connection in connections:
        known = topics.get(connection.topic)
        if known is not None and known.type != connection.msgtype:
            raise ConfigError(f"topic {known.name} has two types, {known.type} and {connection.msgtype}")
        profiles = connection.ext.offered_qos_profiles if isinstance(connection.ext, ConnectionExtRosbag2) else []
        topics[connection.topic] = BagTopic(
            connection.topic,
            connection.msgtype,
            counts[connection.topic],
            (known is not None and known.latched)
            or any(qos.durability is QosDurability.TRANSIENT_LOCAL for qos in profiles),
        )
    return topics


def _qos(latched: bool) -> Qos:
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else 10,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=_NEVER,
        lifespan=_NEVER,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_NEVER,
        avoid_ros_namespace_conventions=False,
    )


def _header(stamp_ns: int, frame_id: str) -> Any:
    types = _typestore().types
    seconds, nanoseconds = divmod(stamp_ns, 10**9)
    time = types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds)
    return types["std_msgs/msg/Header"](stamp=time, frame_id=frame_id)


def _compressed_cdr(header: Any, frame: Frame, path: Path | None) -> memoryview:
    if path is not None and path.suffix.lower() in JPEG_SUFFIXES:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    else:
        bgr = frame.pixels if frame.order == "bgr" else frame.pixels[..., ::-1]
        ok, encoded = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
        if not ok:
            raise ConfigError(f"{path or 'video'}: an image of {frame.size} pixels does not fit into a JPEG")
        data = np.asarray(encoded, np.uint8).reshape(-1)
    message = _typestore().types[COMPRESSED_IMAGE](header=header, format="jpeg", data=data)
    return _typestore().serialize_cdr(message, COMPRESSED_IMAGE)


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise ConfigError(f"{output}: cannot be written: {getattr(error, 'strerror', None) or error}") from error


@contextmanager
def _reading(what: Path | str) -> Iterator[None]:
    """Say of whatever goes wrong inside that ``what`` is no bag.

    Broken files fail anywhere in rosbags: ReaderError, apsw.Error, struct.error, UnicodeDecodeError, ...
    """
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{what}: {error}") from error.__cause__
    except Exception as error:
        cause = f"{' '.join(str(error).split()):.200}" or type(error).__name__
        raise ConfigError(
            f"{what}: cannot be read as a rosbag2 recording: {cause} (is it cut off, or still being recorded?)"
        ) from error
