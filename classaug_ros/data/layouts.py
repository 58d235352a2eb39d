"""Data sets by name: the folders Cityscapes, ADE20K and CamVid come in, with their own ids and classes.

A data set is written ``NAME:FOLDER`` or ``NAME/SPLIT:FOLDER``; any other text is a data set file (YAML).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from classaug_ros.data.dataset import IGNORED, Annotations, Dataset, Sample, load_annotations, load_dataset
from classaug_ros.errors import ConfigError
from classaug_ros.imaging.images import image_files
from classaug_ros.io.files import kind_of
from classaug_ros.io.shipped import shipped
from classaug_ros.models.labels import LabelSpace

_BY_NAME = re.compile(r"(?P<name>[A-Za-z0-9]+)(?:/(?P<split>[A-Za-z0-9_-]+))?:(?P<folder>.+)")

# Source: cityscapesScripts, helpers/labels.py; train ids 0..18 in this order.
_CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_CITYSCAPES_LAST_ID = 33
_ADE20K_SPLITS = {"val": "validation", "train": "training"}


def open_dataset(text: str) -> Dataset:
    """Return the data set a user named: ``cityscapes:FOLDER``, ``ade20k/train:FOLDER``, or a data set file.

    Raises:
        ConfigError: there is no such data set or split, its folder is not laid out as its authors do, or an image has
            no annotation.
    """
    named = _BY_NAME.fullmatch(text)
    if named is None or kind_of(Path(text)) != "nothing":
        return load_dataset(Path(text))
    name, split, folder = named["name"], named["split"], Path(named["folder"]).expanduser()
    if name not in LAYOUTS:
        raise ConfigError(f"{text}: no data set {name!r} is known; expected {', '.join(LAYOUTS)}, or a file (YAML)")
    if kind_of(folder) != "folder":
        raise ConfigError(f"{text}: there is no folder {folder}")
    return LAYOUTS[name](folder, split)


def open_annotations(text: str) -> tuple[Annotations, tuple[Path, ...]]:
    """Return what the annotations of a data set mean, and their files in the order of its images.

    Raises:
        ConfigError: as ``open_dataset``.
    """
    if _BY_NAME.fullmatch(text) is None or kind_of(Path(text)) != "nothing":
        return load_annotations(Path(text))
    dataset = open_dataset(text)
    return dataset, tuple(sample.label for sample in dataset.samples)


def cityscapes(folder: Path, split: str | None) -> Dataset:
    """Return Cityscapes, ``leftImg8bit/SPLIT/CITY`` and ``gtFine/SPLIT/CITY``, in its 19 classes; ``val`` by default.

    Annotations are ``*_gtFine_labelIds.png``, or ``*_gtFine_labelTrainIds.png`` where there are none of those. Ids that
    are not evaluated are ignored.
    """
    split = split or "val"
    images = _split(folder / "leftImg8bit", split)
    labels = _split(folder / "gtFine", split)
    by_id = any(labels.glob("*/*_gtFine_labelIds.png"))
    ending = "_gtFine_labelIds.png" if by_id else "_gtFine_labelTrainIds.png"
    files = [file for city in sorted(images.iterdir()) if city.is_dir() for file in image_files(city)]
    if not files:
        raise ConfigError(f"{images}: expected a folder per city with images in it, found none")
    pairs = {
        file: labels / file.parent.name / f"{file.stem.removesuffix('_leftImg8bit')}{ending}"
        for file in sorted(files, key=lambda file: file.name)
    }
    ids = {number: train_id for train_id, number in enumerate(_CITYSCAPES_IDS)}
    values = {number: ids.get(number, IGNORED) for number in range(_CITYSCAPES_LAST_ID + 1)}
    train_ids = {**{number: number for number in range(len(ids))}, 255: IGNORED}
    return _dataset(f"cityscapes-{split}", "cityscapes", values if by_id else train_ids, pairs)


def ade20k(folder: Path, split: str | None) -> Dataset:
    """Return ADE20K as the scene parsing challenge has it, in its 150 classes; ``validation`` by default.

    ``images/SPLIT`` and ``annotations/SPLIT``, in the folder or its ``ADEChallengeData2016``; 0 is ignored.
    """
    split = _ADE20K_SPLITS.get(split or "val", split or "val")
    inner = folder / "ADEChallengeData2016"
    root = inner if inner.is_dir() else folder
    images, labels = _split(root / "images", split), _split(root / "annotations", split)
    pairs = {file: labels / f"{file.stem}.png" for file in image_files(images)}
    values = {0: IGNORED, **{number: number - 1 for number in range(1, 151)}}
    return _dataset(f"ade20k-{split}", "ade20k", values, pairs)


def camvid(folder: Path, split: str | None) -> Dataset:
    """Return CamVid in one of the two forms it comes in.

    With ``val`` and ``valannot`` beside each other, as the SegNet tutorial has it: 11 classes, 11 is ignored; ``val``
    by default. With ``701_StillsRaw_full`` and ``LabeledApproved_full``, as the authors have it: 31 classes by their
    colours, black (Void) is ignored, and all images in one.
    """
    stills, colors = folder / "701_StillsRaw_full", folder / "LabeledApproved_full"
    if stills.is_dir() and colors.is_dir():
        if split is not None:
            raise ConfigError(f"camvid/{split}: {stills} has no splits; write camvid:{folder} for all images")
        classes = LabelSpace.from_csv(shipped("classes/camvid32.csv"))
        values = {(r << 16) + (g << 8) + b: number for number, (r, g, b) in enumerate(classes.colors)}
        pairs = {file: colors / f"{file.stem}_L.png" for file in image_files(stills)}
        return _dataset("camvid32", "camvid32", {**values, 0: IGNORED}, pairs, colors=True)
    split = split or "val"
    images = _split(folder, split)
    labels = _split(folder, f"{split}annot")
    pairs = {file: labels / f"{file.stem}.png" for file in image_files(images)}
    return _dataset(f"camvid-{split}", "camvid", {**{number: number for number in range(11)}, 11: IGNORED}, pairs)


LAYOUTS: Mapping[str, Callable[[Path, str | None], Dataset]] = {
    "cityscapes": cityscapes,
    "ade20k": ade20k,
    "camvid": camvid,
}
"""Data sets by name; each takes its folder and the split, None for its own default."""


def _split(folder: Path, split: str) -> Path:
    if kind_of(folder) != "folder":
        raise ConfigError(f"{folder}: there is no such folder; name the folder that the data set unpacks to")
    if kind_of(folder / split) != "folder":
        found = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir()))
        raise ConfigError(f"{folder}: has no {split!r}; it has {found or 'no folders'}")
    return folder / split


def _dataset(
    name: str, classes: str, values: Mapping[int, int], pairs: Mapping[Path, Path], *, colors: bool = False
) -> Dataset:
    for image, label in pairs.items():
        if not label.is_file():
            raise ConfigError(f"{image}: has no annotation {label}")
    samples = tuple(Sample(f"{name}/{image.stem}", image, label) for image, label in pairs.items())
    space = LabelSpace.from_csv(shipped(f"classes/{classes}.csv"))
    return Dataset(name, space, values, samples, colors=colors)
