"""H.264 in MP4, by PyAV."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Final

import av

from classaug_ros.errors import ConfigError
from classaug_ros.imaging.drawing import Picture

ENCODER: Final = "libx264"
OPTIONS = {"preset": "veryfast", "crf": "20"}
"""A hundred frames of 640 x 480 a second, and losses that are hardly seen."""


class H264File:
    """An MP4 file of pictures of one size."""

    def __init__(self, path: Path, rate: float, size: tuple[int, int]) -> None:
        """Begin the file.

        Args:
            path: of the file.
            rate: frames per second.
            size: (W, H) of every picture, both even.

        Raises:
            ConfigError: the file cannot be written.
            ImportError: the FFmpeg that PyAV brings cannot encode H.264.
        """
        self._path = path
        try:
            self._file = av.open(str(path), "w")
        except av.FFmpegError as error:
            raise self._failed(error) from error
        pace = Fraction(rate).limit_denominator(1001)  # as in 30000/1001
        try:
            self._stream = self._file.add_stream(ENCODER, pace, options=OPTIONS)
        except ValueError as error:
            self._file.close()
            raise ImportError(f"PyAV has no {ENCODER}") from error
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"

    def write(self, picture: Picture) -> None:
        """Add a picture, H x W x 3 uint8 RGB; ConfigError where the file cannot be written."""
        self._encode(av.VideoFrame.from_ndarray(picture, format="rgb24"))

    def release(self) -> None:
        """Finish the file; ConfigError where it cannot be written."""
        self._encode(None)
        try:
            self._file.close()
        except av.FFmpegError as error:
            raise self._failed(error) from error

    def _encode(self, frame: av.VideoFrame | None) -> None:
        try:
            self._file.mux(self._stream.encode(frame))
        except av.FFmpegError as error:
            raise self._failed(error) from error

    def _failed(self, error: av.FFmpegError) -> ConfigError:
        return ConfigError(f"{self._path}: cannot be written: {error.strerror}")
