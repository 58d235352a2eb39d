"""Data sets: folders of images with ground truth, read one sample at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classaug_ros.data.examples import Example
from classaug_ros.errors import ConfigError, ImageError, listed, quoted
from classaug_ros.imaging.codecs import decode_file, decode_label
from classaug_ros.imaging.images import Frame, image_files, read_image
from classaug_ros.io.files import read_whole
from classaug_ros.io.yamlfile import Section, fingerprint, read_mapping
from classaug_ros.models.labels import LabelMap, LabelSpace

IGNORED = -1  # an annotation value that means unlabelled
UNKNOWN = -2  # an annotation value the data set file does not mention


@dataclass(frozen=True)
class Sample:
    """An image with its ground truth.

    Attributes:
        name: unique name, ``data set/file stem``.
        image: path of the image.
        label: path of its annotation, a one-channel image file of the same stem.
    """

    name: str
    image: Path
    label: Path


@dataclass(frozen=True, eq=False)
class Annotations:
    """What the values in annotation images mean.

    Attributes:
        name: the data set's name.
        classes: the classes its ground truth is given in.
        values: for each value of the annotations (0..65535, or a colour 0xRRGGBB) its class id, or ``IGNORED``; other
            values are mistakes.
        colors: whether the annotations are pictures, H x W x 3, whose colours are the values.
    """

    name: str
    classes: LabelSpace
    values: Mapping[int, int]
    colors: bool = field(default=False, kw_only=True)

    @property
    def present(self) -> tuple[int, ...]:
        """Ids of the classes the ground truth can hold, ascending."""
        return tuple(sorted({number for number in self.values.values() if number >= 0}))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the name, the classes and the meaning of the values."""
        values: list[object] = [self.name, self.classes.names, sorted(self.values.items())]
        return fingerprint([*values, "colors"] if self.colors else values)

    def read_label(self, path: Path) -> LabelMap:
        """Read an annotation file: H x W class ids, ``classes.unlabelled`` where not annotated.

        Raises:
            ConfigError: it cannot be read, or has a value that is not among ``values``.
        """
        try:
            data = np.frombuffer(read_whole(path), np.uint8)
            annotation = decode_file(data) if self.colors else decode_label(data)
        except ImageError as error:
            raise ConfigError(f"{path}: cannot be read as an image: {error}") from error
        return self.translate(annotation, str(path))

    def translate(self, annotation: NDArray[Any], where: str) -> LabelMap:
        """Return the H x W class ids (uint8 or uint16) of an annotation, ``classes.unlabelled`` where not annotated.

        Args:
            annotation: H x W uint8 or uint16; H x W x 3 uint8 in BGR order where the values are colours.
            where: the file or message it comes from, for errors.

        Raises:
            ConfigError: it is of another form, or has a value that is not among ``values``.
        """
        if not self.colors and (annotation.ndim != 2 or annotation.dtype not in (np.uint8, np.uint16)):
            raise ConfigError(
                f"{where}: expected one channel of 8 or 16 bits, found shape {annotation.shape} "
                f"{annotation.dtype}; convert colours to class values first"
            )
        translated = self._by_color(annotation) if self.colors else self._by_value(annotation)
        if translated.min() == UNKNOWN:
            first = annotation[translated == UNKNOWN][0]
            value = "#{2:02x}{1:02x}{0:02x}".format(*first) if self.colors else str(int(first))
            raise ConfigError(
                f"{where}: value {value} is in neither `map` nor `ignore` of data set {quoted(self.name)}; "
                f"add it to one"
            )
        translated[translated == IGNORED] = self.classes.unlabelled
        truth: LabelMap = translated.astype(self.classes.dtype)
        return truth

    def _by_value(self, annotation: NDArray[Any]) -> NDArray[np.int32]:
        table = np.full(int(np.iinfo(annotation.dtype).max) + 1, UNKNOWN, np.int32)
        for value, number in self.values.items():
            if value < table.size:
                table[value] = number
        translated: NDArray[np.int32] = table[annotation]
        return translated

    def _by_color(self, annotation: NDArray[np.uint8]) -> NDArray[np.int32]:
        known = np.array(sorted(self.values), np.int32)
        numbers = np.array([self.values[value] for value in sorted(self.values)], np.int32)
        found = annotation.astype(np.int32) @ np.array([1, 1 << 8, 1 << 16], np.int32)  # BGR to 0xRRGGBB
        nearest = np.minimum(np.searchsorted(known, found), known.size - 1)
        return np.where(known[nearest] == found, numbers[nearest], np.int32(UNKNOWN))


@dataclass(frozen=True, eq=False)
class Dataset(Annotations):
    """Images with ground truth, whose values are mapped to classes.

    Attributes:
        samples: every image, by name.
    """

    samples: tuple[Sample, ...]

    @property
    def truth(self) -> Annotations:
        """The data set itself says what its ground truth means."""
        return self

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Example]:
        """Read every image with its ground truth, in order; raises as ``read`` does."""
        for sample in self.samples:
            yield Example(sample.name.removeprefix(f"{self.name}/"), *self.read(sample))

    def read(self, sample: Sample) -> tuple[Frame, LabelMap]:
        """Read an image and its ground truth.

        Returns:
            The image, and H x W class ids (uint8 or uint16; ``classes.unlabelled`` where not annotated). The two
            may differ in size: the ground truth's counts.

        Raises:
            ConfigError: the annotation cannot be read, or has a value the data set does not mention.
            ImageError: the image cannot be read.
        """
        return read_image(sample.image), self.read_label(sample.label)


def load_dataset(path: Path) -> Dataset:
    """Read a data set file (YAML).

    Its keys: ``name``, ``images`` and ``labels`` (folders, relative to it), ``classes`` (a classes.csv), ``map``
    (annotation value: class name; left out, the values are the class ids) and ``ignore`` (values not annotated).

    Raises:
        ConfigError: the file is malformed, a class is unknown, a value is both mapped and ignored, there is no
            image, or an image has no annotation.
    """
    section, annotations = _annotations(path)
    images, labels = (path.parent / section.get(key, str) for key in ("images", "labels"))
    samples = _samples(annotations.name, images, labels)
    return Dataset(annotations.name, annotations.classes, annotations.values, samples)


def load_annotations(path: Path) -> tuple[Annotations, tuple[Path, ...]]:
    """Read what a data set file says of its annotations alone, for images that are in a recording.

    ``images`` and ``labels`` may be left out. Files of annotations come in the order of their images' names; where
    there are no ``images``, in the order of their own; where there are no ``labels`` either there are none.

    Raises:
        ConfigError: as ``load_dataset``.
    """
    section, annotations = _annotations(path)
    if section.get("images", str, ""):
        dataset = load_dataset(path)
        return dataset, tuple(sample.label for sample in dataset.samples)
    labels = section.get("labels", str, "")
    return annotations, tuple(image_files(path.parent / labels)) if labels else ()


def _annotations(path: Path) -> tuple[Section, Annotations]:
    section = Section(read_mapping(path), str(path), {"name", "images", "labels", "classes", "map", "ignore"})
    classes = LabelSpace.from_csv(path.parent / section.get("classes", str))
    return section, Annotations(section.get("name", str), classes, _values(section, classes, str(path)))


def _values(section: Section, classes: LabelSpace, where: str) -> dict[int, int]:
    ignored = section.list_of("ignore", int)
    identity = {number: name for number, name in enumerate(classes.names) if number not in ignored}
    names = section.get("map", dict, identity)
    values = {}
    for key, given in (("map", names), ("ignore", ignored)):
        for value in given:
            if type(value) is not int or not 0 <= value <= 65535:  # True is an int too
                raise ConfigError(f"{where}: {key}: expected annotation values 0..65535, found {quoted(value)}")
    for value, name in names.items():
        if name not in classes.names:
            raise ConfigError(
                f"{where}: map: {value}: no class {quoted(name)}; expected one of: {listed(classes.names)}"
            )
        values[value] = classes.index(name)
    for value in ignored:
        if value in names:
            raise ConfigError(f"{where}: value {value} is both in `map` and in `ignore`; keep it in one of them")
        values[value] = IGNORED
    return values


def _samples(name: str, images: Path, labels: Path) -> tuple[Sample, ...]:
    annotations = {file.stem: file for file in image_files(labels)}
    samples = []
    for image in image_files(images):
        if image.stem not in annotations:
            raise ConfigError(f"{image}: no annotation named {image.stem}.png in {labels}")
        samples.append(Sample(f"{name}/{image.stem}", image, annotations[image.stem]))
    if len({sample.name for sample in samples}) != len(samples):
        raise ConfigError(f"{images}: two images have the same name but for the ending; rename one")
    return tuple(samples)
