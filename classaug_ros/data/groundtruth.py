"""Where the frames of a recording have their ground truth: by their order, by their stamp, or in the bag itself."""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from classaug_ros.data.bags import COMPRESSED_IMAGE, IMAGE, BagReader, BagTopic, decode_message
from classaug_ros.data.dataset import Annotations
from classaug_ros.errors import ConfigError, ImageError, quoted
from classaug_ros.imaging.codecs import decode_label
from classaug_ros.models.labels import LabelMap

Find: TypeAlias = Callable[[int, int], tuple[LabelMap, int] | None]
"""Takes a frame's number among its camera's and its stamp in ns; returns ground truth and how far its stamp is off."""

Way: TypeAlias = Callable[[], AbstractContextManager[Find]]
"""A way to the ground truth of one camera, opened for one pass over the recording."""

_logger = logging.getLogger(__name__)

_STAMP = re.compile(r"(?P<seconds>\d+)\.(?P<fraction>\d{1,9})|(?P<ns>\d+)")
_ENCODINGS = {"mono8": "u1", "8UC1": "u1", "mono16": "u2", "16UC1": "u2"}


def by_order(annotations: Annotations, files: Sequence[Path], topic: BagTopic) -> Way:
    """Give the i-th frame of a camera the i-th annotation, as in a bag that ``make-bag`` wrote.

    Raises:
        ConfigError: there are not as many of the one as of the other.
    """
    if len(files) != topic.count:
        raise ConfigError(
            f"topic {topic.name} has {topic.count} images, data set {annotations.name!r} has {len(files)} annotations; "
            "to go by their order there must be as many; else name the annotations after stamps (--truth stamp)"
        )
    return lambda: nullcontext(lambda number, _: (annotations.read_label(files[number]), 0))


def by_stamp(annotations: Annotations, files: Sequence[Path], tolerance: int) -> Way:
    """Give a frame the annotation whose file name is the nearest stamp: ``1700000000.25.png``, or whole ns.

    Args:
        annotations: what the files mean.
        files: the annotations, in any order.
        tolerance: ns the stamps may be apart.

    Raises:
        ConfigError: a file name is no stamp, two are the same one, or there are no files.
    """
    if not files:
        raise ConfigError(f"data set {annotations.name!r}: has no annotation files; give `labels`, their folder")
    by_time: dict[int, Path] = {}
    for file in files:
        stamp = _stamp_of(file)
        if stamp in by_time:
            raise ConfigError(f"{file}: has the same stamp as {by_time[stamp].name}; keep one of them")
        by_time[stamp] = file
    stamps = np.array(sorted(by_time), np.int64)

    @contextmanager
    def opened() -> Iterator[Find]:
        seen: set[int] = set()

        def find(_: int, stamp: int) -> tuple[LabelMap, int] | None:
            found = _nearest(stamps, stamp, tolerance)
            if found is None:
                return None
            _see_once(seen, stamp, str(by_time[found].parent))
            return annotations.read_label(by_time[found]), abs(found - stamp)

        yield find

    return opened


def from_topic(annotations: Annotations, bag: Path, camera: BagTopic, topic: BagTopic, tolerance: int) -> Way:
    """Give a frame the label image of the bag with the nearest stamp.

    Where several label images have one stamp, as in a recording that is looped or whose stamps are all 0, the k-th of
    them belongs to the k-th frame of that stamp, if there are as many frames; a warning says so.

    Args:
        annotations: what the label images' values mean.
        bag: the recording.
        camera: its frames.
        topic: its label images: mono8, mono16, 8UC1 or 16UC1, or PNG in CompressedImage.
        tolerance: ns the stamps may be apart.

    Raises:
        ConfigError: the topic holds no images; or, once opened, the bag cannot be read, or stamps do not tell which
            label image belongs to which frame.
    """
    if topic.type not in (IMAGE, COMPRESSED_IMAGE):
        raise ConfigError(f"{bag}: topic {topic.name} holds {topic.type}, no label images")

    @contextmanager
    def opened() -> Iterator[Find]:
        with BagReader(bag) as reader:
            # Labels may be recorded long after their frames, so all stamps are known before the first frame is.
            recorded: dict[int, list[int]] = defaultdict(list)
            for message in reader.messages([topic.name]):
                recorded[_stamp(message.data, topic.type)].append(message.timestamp)
            stamps = np.array(sorted(recorded), np.int64)
            if any(len(times) > 1 for times in recorded.values()):
                frames = (_stamp(m.data, camera.type) for m in reader.messages([camera.name]))
                nearest = Counter(_nearest(stamps, stamp, tolerance) for stamp in frames)
                _check_repeated(recorded, nearest, f"{bag}: topic {topic.name}")
            served: Counter[int] = Counter()
            seen: set[int] = set()

            def find(_: int, stamp: int) -> tuple[LabelMap, int] | None:
                found = _nearest(stamps, stamp, tolerance)
                if found is None:
                    return None
                times, number = recorded[found], 0
                if len(times) > 1:
                    number = served[found]
                    served[found] += 1
                else:
                    _see_once(seen, stamp, f"topic {topic.name}")
                messages = reader.messages_at(topic.name, times[number])
                same = [m.data for m in messages if _stamp(m.data, topic.type) == found]
                data = same[times[:number].count(times[number])]
                where = f"{bag}: topic {topic.name}, stamp {found / 1e9:.9f}"
                return annotations.translate(label_image(data, topic.type, where), where), abs(found - stamp)

            yield find

    return opened


def label_image(data: bytes, kind: str, where: str) -> NDArray[Any]:
    """Return the H x W values, uint8 or uint16, of a label image.

    Args:
        data: a message in CDR bytes.
        kind: its type, Image or CompressedImage.
        where: what it is, for errors.

    Raises:
        ConfigError: it is no mono8, 8UC1, mono16, 16UC1 or PNG image.
    """
    message = decode_message(data, kind)
    if kind == COMPRESSED_IMAGE:
        if "png" not in message.format:
            raise ConfigError(f"{where}: format {quoted(message.format)}: expected PNG, which changes no label")
        try:
            return decode_label(message.data)
        except ImageError as error:
            raise ConfigError(f"{where}: format {quoted(message.format)}: {error}") from error
    if message.encoding not in _ENCODINGS:
        raise ConfigError(f"{where}: encoding {quoted(message.encoding)}: expected one of {', '.join(_ENCODINGS)}")
    dtype = np.dtype(_ENCODINGS[message.encoding]).newbyteorder(">" if message.is_bigendian else "<")
    height, width, step = int(message.height), int(message.width), int(message.step)
    row = width * dtype.itemsize
    if height < 1 or width < 1 or step < row or message.data.size != height * step:
        raise ConfigError(f"{where}: {message.data.size} bytes, step {step}: no {height} x {width} {message.encoding}")
    rows = message.data.reshape(height, step)[:, :row]
    values: NDArray[Any] = np.ascontiguousarray(rows).view(dtype).astype(dtype.newbyteorder("="))
    return values


def _stamp_of(file: Path) -> int:
    named = _STAMP.fullmatch(file.stem)
    stamp = _nanoseconds(named) if named else 2**63
    if stamp >= 2**63:
        raise ConfigError(
            f"{file}: expected a stamp for its name, such as 1700000000.250000000.png or 1700000000250000000.png"
        )
    return stamp


def _nanoseconds(named: re.Match[str]) -> int:
    if named["ns"]:
        return int(named["ns"])
    return int(named["seconds"]) * 10**9 + int(named["fraction"].ljust(9, "0"))


def _nearest(stamps: NDArray[np.int64], stamp: int, tolerance: int) -> int | None:
    """Return the nearest of ascending stamps, the earlier of two; None past the tolerance."""
    position = int(np.searchsorted(stamps, stamp))
    near = [int(stamps[at]) for at in (position - 1, position) if 0 <= at < stamps.size]
    best = min(near, key=lambda other: abs(other - stamp), default=None)
    return None if best is None or abs(best - stamp) > tolerance else best


def _check_repeated(recorded: Mapping[int, list[int]], frames: Mapping[int | None, int], where: str) -> None:
    """Refuse label images of one stamp that are not as many as their frames."""
    repeated = {stamp: len(times) for stamp, times in recorded.items() if len(times) > 1}
    for stamp, count in repeated.items():
        if frames.get(stamp, 0) not in (0, count):
            raise ConfigError(
                f"{where}: {count} label images have the stamp {stamp / 1e9:.9f} and {frames[stamp]} frames are "
                "nearest to it, so that nothing tells which belong together; record again with a stamp for each image"
            )
    _logger.warning("%s: stamps repeat, so label images of one stamp go with frames in the order of recording", where)


def _see_once(seen: set[int], stamp: int, where: str) -> None:
    """Refuse a second frame of one stamp: one annotation cannot be that of both."""
    if stamp in seen:
        raise ConfigError(
            f"two frames have the stamp {stamp / 1e9:.9f} and one annotation of {where}, so that nothing tells whose "
            "it is; record again with a stamp for each image, or go by --truth order"
        )
    seen.add(stamp)


def _stamp(data: bytes, kind: str) -> int:
    stamp = decode_message(data, kind).header.stamp
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)
