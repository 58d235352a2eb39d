"""Recordings as a source of evaluation: every frame of a bag's cameras, in the order it was recorded."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from classaug_ros.data.bags import COMPRESSED_IMAGE, IMAGE, BagMessage, BagReader, BagTopic, decode_message
from classaug_ros.data.dataset import Annotations
from classaug_ros.data.examples import Example
from classaug_ros.data.groundtruth import Find, Way, by_order, by_stamp, from_topic
from classaug_ros.errors import ConfigError, ImageError
from classaug_ros.imaging.images import decode_compressed, decode_image

ORDER, STAMP = "order", "stamp"


@dataclass(frozen=True)
class GroundTruth:
    """What a user says of a recording's ground truth.

    Attributes:
        annotations: what its values mean.
        files: annotation files, in the order of the data set's images.
        ways: by camera topic ``order``, ``stamp`` or a label topic; under the empty name that of the only camera.
        tolerance: seconds that the stamps of an image and its ground truth may be apart.
    """

    annotations: Annotations
    files: tuple[Path, ...]
    ways: Mapping[str, str]
    tolerance: float


@dataclass(frozen=True, eq=False)
class Recording:
    """The frames of some cameras of a bag; a source.

    Attributes:
        bag: a rosbag2 folder, or a single .mcap or .db3 file.
        cameras: image topics by name.
        truth: what the ground truth means; None without.
        ways: to the ground truth of a camera, by topic.
    """

    bag: Path
    cameras: tuple[BagTopic, ...]
    truth: Annotations | None
    ways: Mapping[str, Way]

    @property
    def name(self) -> str:
        """The bag's name."""
        return self.bag.resolve().name

    def __len__(self) -> int:
        return sum(camera.count for camera in self.cameras)

    def __iter__(self) -> Iterator[Example]:
        """Read every frame, named camera/number, with its ground truth if it has one.

        Raises:
            ConfigError: the bag is cut off, or an annotation cannot be read.
            ImageError: a frame cannot be decoded.
        """
        names = camera_names([camera.name for camera in self.cameras])
        kinds = {camera.name: camera.type for camera in self.cameras}
        numbers: Counter[str] = Counter()
        with ExitStack() as stack:
            finds = {topic: stack.enter_context(way()) for topic, way in self.ways.items()}
            reader = stack.enter_context(BagReader(self.bag))
            for message in reader.messages(list(kinds)):
                topic, number = message.topic, numbers[message.topic]
                numbers[topic] += 1
                try:
                    example = _example(message, kinds[topic], f"{names[topic]}/{number:06}", number, finds.get(topic))
                except ImageError as error:
                    raise ImageError(f"{self.bag}: topic {topic}, image {number + 1}: {error}") from error.__cause__
                yield example


def open_recording(bag: Path, topics: Sequence[str] = (), truth: GroundTruth | None = None) -> Recording:
    """Return a bag's cameras as a source.

    Args:
        bag: a rosbag2 folder, or a single .mcap or .db3 file; its messages or files may be compressed.
        topics: the cameras' topics, Image or CompressedImage; none means every image topic but those of ground truth.
        truth: the ground truth, if there is one.

    Raises:
        ConfigError: the bag cannot be read, a topic is not in it, holds no images or is empty, or the ground truth does
            not fit.
    """
    with BagReader(bag) as reader:
        labels = [way for way in truth.ways.values() if way not in (ORDER, STAMP)] if truth else []
        label_topics = {topic.name: topic for topic in reader.select(labels)} if labels else {}
        cameras = _cameras(bag, reader, topics, label_topics)
    ways = {} if truth is None else _ways(bag, truth, cameras, label_topics)
    return Recording(bag, cameras, truth.annotations if truth else None, ways)


def camera_names(topics: Collection[str]) -> dict[str, str]:
    """Return a name for each image topic, such as the node's cameras have.

    It is the topic without its last part, which names the image (``/front/image_raw`` is ``front``), joined by
    underscores; where two topics would have the same, the whole topic.

    Raises:
        ConfigError: two topics differ in nothing but slashes and underscores.
    """
    short = {topic: _camera_name(topic, whole=False) for topic in topics}
    doubled = Counter(short.values())
    names = {topic: _camera_name(topic, whole=True) if doubled[name] > 1 else name for topic, name in short.items()}
    for topic, name in names.items():
        if sum(other == name for other in names.values()) > 1:
            raise ConfigError(f"topic {topic}: another topic makes the camera name {name!r} too; choose with --topic")
    return names


def _camera_name(topic: str, *, whole: bool) -> str:
    parts = topic.strip("/").split("/")
    if not whole:
        parts = parts[:-1] if len(parts) > 1 and parts[-1] == "compressed" else parts
        parts = parts[:-1] if len(parts) > 1 else parts
    name = re.sub(r"_+", "_", "_".join(parts)).strip("_")
    return name if name[:1].isalpha() else f"camera_{name}"


def _cameras(bag: Path, reader: BagReader, topics: Sequence[str], labels: Collection[str]) -> tuple[BagTopic, ...]:
    for topic in reader.select(set(topics)) if topics else ():
        if topic.type not in (IMAGE, COMPRESSED_IMAGE):
            raise ConfigError(f"{bag}: topic {topic.name} holds {topic.type}, no images")
    chosen = list(dict.fromkeys(topics)) or [
        t.name for t in reader.topics.values() if t.type in (IMAGE, COMPRESSED_IMAGE)
    ]
    cameras = reader.select([name for name in chosen if name not in labels]) if set(chosen) - set(labels) else ()
    if not cameras:
        raise ConfigError(f"{bag}: has no topic of images; it has {', '.join(sorted(reader.topics)) or 'none'}")
    if not any(camera.count for camera in cameras):
        raise ConfigError(f"{bag}: has no images on {', '.join(camera.name for camera in cameras)}")
    return cameras


def _ways(bag: Path, truth: GroundTruth, cameras: Sequence[BagTopic], labels: Mapping[str, BagTopic]) -> dict[str, Way]:
    known = {camera.name: camera for camera in cameras}
    ways = {}
    for name, way in truth.ways.items():
        if not name and len(cameras) > 1:
            raise ConfigError(
                f"ground truth is one camera's, and there are {', '.join(known)}: choose one with --topic, or write "
                f"--truth {cameras[0].name}={way}"
            )
        camera = known.get(name or cameras[0].name)
        if camera is None:
            raise ConfigError(f"ground truth for {name}, which is none of the cameras {', '.join(known)}")
        tolerance = round(truth.tolerance * 1e9)
        if way == ORDER:
            ways[camera.name] = by_order(truth.annotations, truth.files, camera)
        elif way == STAMP:
            ways[camera.name] = by_stamp(truth.annotations, truth.files, tolerance)
        else:
            ways[camera.name] = from_topic(truth.annotations, bag, camera, labels[way], tolerance)
    return ways


def _example(message: BagMessage, kind: str, name: str, number: int, find: Find | None) -> Example:
    try:
        image = decode_message(message.data, kind)
    except ConfigError as error:  # it names neither the bag nor the message
        raise ImageError(str(error)) from error
    stamp = int(image.header.stamp.sec) * 10**9 + int(image.header.stamp.nanosec)
    frame = decode_compressed(image) if kind == COMPRESSED_IMAGE else decode_image(image)
    found = find(number, stamp) if find else None
    truth, apart = found or (None, 0)
    return Example(name, frame, truth, message.topic, stamp, str(image.header.frame_id), message.timestamp, apart=apart)
