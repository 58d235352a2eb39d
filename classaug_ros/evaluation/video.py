"""Videos: overlays with a legend, as an evaluation goes, or of pictures made elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import cv2
import numpy as np

from classaug_ros import fusion
from classaug_ros.data.examples import Example
from classaug_ros.errors import ConfigError
from classaug_ros.evaluation.evaluate import Prediction
from classaug_ros.imaging.drawing import PAPER, Picture, blank, blend, legend, shrunk
from classaug_ros.io.files import writable
from classaug_ros.rules import RuleSet

CODECS = ("avc1", "vp09", "mp4v")
"""H.264, VP9, MPEG-4 Part 2, the best first: all browsers play the first, nearly all the second, none the third.

They are asked of OpenCV where there is no PyAV. OpenCV from PyPI has no H.264, and is slow at VP9.
"""

SIDE = 1280  # longest side of a frame, pixels: larger ones are scaled down
NARROWEST = 480  # pixels of a video's width: narrower frames have no room for the legend
OPACITY = 0.5  # of the class colours
RATE = 5.0  # frames per second where stamps do not tell
RATES = (1.0, 60.0)
WAITING = 10  # frames looked at to find the rate
MARGIN = 8  # pixels around the legend

_NAME = "overlay.mp4"


class VideoFile:
    """An MP4 file, written under another name until it is finished; use as a context manager.

    Frames that differ in size are stretched to the first one's, made even as the codecs want it.
    """

    def __init__(self, path: Path, rate: float) -> None:
        """Name the file and its frames per second.

        Raises:
            ConfigError: the file cannot be written.
        """
        writable(path)
        self._path, self._rate = path, rate
        self._temporary = path.with_name(f".{path.stem}.{os.getpid()}.mp4")
        self._writer: _Writer | None = None
        self._size = (0, 0)

    def write(self, picture: Picture) -> None:
        """Add a frame, H x W x 3 uint8 RGB.

        Raises:
            ConfigError: there is no codec for it, or the file cannot be written.
        """
        if self._writer is None:
            self._size = picture.shape[1] + picture.shape[1] % 2, picture.shape[0] + picture.shape[0] % 2
            self._writer = self._open()
        self._writer.write(_sized(picture, self._size))

    def close(self, *, keep: bool) -> None:
        """Finish the file; without ``keep``, or without a frame, there will be none.

        Raises:
            ConfigError: the file cannot be written.
        """
        try:
            if self._writer is not None:
                self._writer.release()
                if keep:
                    self._temporary.replace(self._path)
        finally:
            self._writer = None
            self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(keep=kind is None)

    def _open(self) -> _Writer:
        try:
            from classaug_ros.evaluation.h264 import H264File

            return H264File(self._temporary, self._rate, self._size)
        except ImportError:  # it is not installed, or without an encoder
            pass
        with _quiet():
            for codec in CODECS:
                writer = cv2.VideoWriter(str(self._temporary), cv2.VideoWriter.fourcc(*codec), self._rate, self._size)
                if writer.isOpened():
                    return _OpenCvFile(writer)
        raise ConfigError(f"{self._path}: OpenCV cannot write it with any of the codecs {', '.join(CODECS)}")


class _Writer(Protocol):
    def write(self, picture: Picture) -> None: ...

    def release(self) -> None: ...


class _OpenCvFile:
    """OpenCV's writer, for pictures in RGB."""

    def __init__(self, writer: cv2.VideoWriter) -> None:
        self._writer = writer

    def write(self, picture: Picture) -> None:
        self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

    def release(self) -> None:
        self._writer.release()


class OverlayVideo:
    """A watcher of an evaluation that writes a video of overlays for each camera; use as a context manager.

    The files are ``overlay.mp4`` in the folder, or ``overlay-CAMERA.mp4`` where there are several cameras. They play
    at the pace of the stamps, where there are any.
    """

    def __init__(self, folder: Path, rules: RuleSet) -> None:
        """Name the folder, made if need be, and the rules that are evaluated.

        Raises:
            ConfigError: the folder cannot be written.
        """
        writable(folder / _NAME)
        self._folder = folder
        self._rules = rules
        self._palette = rules.output.palette()
        self._tracks: dict[str, _Track] = {}

    def __call__(self, example: Example, prediction: Prediction) -> None:
        """Add a frame; raises ConfigError where its video cannot be written."""
        image = shrunk(example.frame.rgb(), SIDE)
        color = self._palette[fusion.nearest(prediction.output, (image.shape[0], image.shape[1]))]
        picture = blend(image, color, OPACITY)
        if example.camera not in self._tracks:
            name = re.sub(r"\W", "-", example.camera.strip("/"))
            file = self._folder / f"overlay-{name}.mp4"
            self._tracks[example.camera] = _Track(file, legend_strip(self._rules, picture.shape[1]))
        self._tracks[example.camera].add(picture, example.stamp)

    def __enter__(self) -> OverlayVideo:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for track in self._tracks.values():
            track.close(keep=kind is None)
        if kind is None and len(self._tracks) == 1:
            (track,) = self._tracks.values()
            track.file.replace(self._folder / _NAME)

    @property
    def files(self) -> list[Path]:
        """The videos, once it is closed."""
        files = [track.file for track in self._tracks.values()]
        return [self._folder / _NAME] if len(files) == 1 else files


class _Track:
    """The video of a camera, begun once its first stamps told its rate."""

    def __init__(self, file: Path, strip: Picture) -> None:
        self.file = file
        self._strip = strip
        self._size: tuple[int, int] | None = None
        self._waiting: list[Picture] = []
        self._stamps: list[int] = []
        self._video: VideoFile | None = None

    def add(self, picture: Picture, stamp: int) -> None:
        self._size = self._size or (picture.shape[1], picture.shape[0])
        frame = above(_sized(picture, self._size), self._strip)
        if self._video is not None:
            self._video.write(frame)
            return
        self._waiting.append(frame)
        self._stamps.append(stamp)
        if len(self._waiting) == WAITING:
            self._begin()

    def close(self, *, keep: bool) -> None:
        if self._video is None and keep:
            self._begin()
        if self._video is not None:
            self._video.close(keep=keep)

    def _begin(self) -> None:
        self._video = VideoFile(self.file, frame_rate(self._stamps))
        for frame in self._waiting:
            self._video.write(frame)
        self._waiting = []


def frame_rate(stamps: Sequence[int]) -> float:
    """Return the frames per second of frames with stamps (ns): the middle one of their distances tells."""
    gaps = [later - stamp for stamp, later in pairwise(stamps) if later > stamp]
    return float(np.clip(1e9 / median(gaps), *RATES)) if gaps else RATE


def legend_strip(rules: RuleSet, width: int) -> Picture:
    """Return the legend of the classes that the rules can give; wider than ``width`` where that is too narrow."""
    width = max(width, NARROWEST)
    lines = []
    possible = _possible(rules)
    for source in ("main", "added"):
        numbers = [k for k in possible if rules.sources[k] == source]
        entries = [(rules.output.names[k], rules.output.colors[k]) for k in numbers]
        lines.append(legend(f"{source}:", entries, width - 2 * MARGIN))
    return np.pad(np.concatenate(lines), ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), constant_values=PAPER)


def _possible(rules: RuleSet) -> list[int]:
    """Return the output ids that rules can give: those in tables, or all of a kind that weighs evidence."""
    found: set[int] = set()
    for each, ids in zip(rules.rules, rules.ids, strict=True):
        found.update((ids[np.unique(each.table)] if each.kind == "table" else ids).tolist())
    return sorted(found)


def above(picture: Picture, strip: Picture) -> Picture:
    """Return a picture in the middle above a strip that is as wide or wider."""
    height, width = picture.shape[:2]
    frame = blank(height + strip.shape[0], strip.shape[1])
    left = (strip.shape[1] - width) // 2
    frame[:height, left : left + width] = picture
    frame[height:] = strip
    return frame


def _sized(picture: Picture, size: tuple[int, int]) -> Picture:
    """Return a picture stretched to (W, H)."""
    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep OpenCV from telling of codecs it does not have, and so FFmpeg, which takes its level at its first use."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    log: Any = getattr(cv2.utils, "logging", cv2)  # OpenCV 4 keeps its log level in cv2 itself, OpenCV 5 there
    before = log.getLogLevel()
    log.setLogLevel(0)
    try:
        yield
    finally:
        log.setLogLevel(before)
