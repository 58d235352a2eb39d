"""What evaluation runs on: images with their ground truth, one at a time, from a data set or a recording."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from classaug_ros.imaging.images import Frame
from classaug_ros.models.labels import LabelMap, LabelSpace


@dataclass(frozen=True, eq=False)
class Example:
    """An image, with its ground truth where there is one.

    Attributes:
        name: unique among those of one source, and a relative path for files written for it, without an ending.
        frame: the image.
        truth: H x W class ids of the source's ``truth`` (uint8 or uint16; its ``unlabelled`` where not annotated);
            None without ground truth. It may differ from the image in size: scores are taken at its size.
        camera: topic of the camera in a recording; empty in a data set.
        stamp: header stamp in ns since the epoch; 0 in a data set.
        frame_id: coordinate frame in the header; empty in a data set.
        recorded: when the recording got it, in ns since the epoch; 0 in a data set.
        apart: ns from the stamp of the image to that of its ground truth, for one that was found by its stamp.
    """

    name: str
    frame: Frame
    truth: LabelMap | None
    camera: str = ""
    stamp: int = 0
    frame_id: str = ""
    recorded: int = 0
    apart: int = 0


class Truth(Protocol):
    """What the ground truth of a source means."""

    @property
    def name(self) -> str:
        """The data set's name."""

    @property
    def classes(self) -> LabelSpace:
        """The classes it is given in."""

    @property
    def present(self) -> tuple[int, ...]:
        """Ids of the classes it can hold, ascending."""


class Source(Protocol):
    """Examples in a fixed order, the same each time."""

    @property
    def name(self) -> str:
        """What reports call it."""

    @property
    def truth(self) -> Truth | None:
        """What the ground truth means; None where no example has one."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Example]: ...
