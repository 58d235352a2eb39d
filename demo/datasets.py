"""Writes rendered scenes as data sets: images, ground truth in the sub class set, and the YAML that names them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from classaug_ros.models.labels import LabelSpace
from demo import parts
from demo.scenes import Frame, render, render_scene
from demo.street import Street

_YAML = """\
# Data set: images with ground truth, its bytes mapped to class names.
name: {name}
images: images                  # folder of images, relative to this file
labels: labels                  # folder of one-channel PNGs with the same file names
classes: classes.csv
map: {{{mapping}}}
ignore: [{ignore}]
"""


def write_dataset(folder: Path, seeds: Iterable[int], *, name: str) -> Path:
    """Render one scene per seed into a data set.

    Args:
        folder: created where needed; gets `images/`, `labels/`, `classes.csv` and `dataset.yaml`.
        seeds: of the scenes; the files are named after them.
        name: of the data set.

    Returns:
        The data set's YAML file.
    """
    return _write(folder, ((f"{seed:07d}", render_scene(seed)) for seed in seeds), name)


def write_drive(folder: Path, seed: int, frames: int, rate_hz: float) -> Path:
    """Render a drive of `frames` frames at `rate_hz` into a data set whose file names sort in time order.

    Returns:
        The data set's YAML file.
    """
    street = Street(seed, duration=frames / rate_hz)
    rendered = ((f"{i:06d}", render(street, i / rate_hz)) for i in range(frames))
    return _write(folder, rendered, f"drive-{seed}")


def _write(folder: Path, frames: Iterable[tuple[str, Frame]], name: str) -> Path:
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for stem, frame in frames:
        _write_png(folder / "images" / f"{stem}.png", frame.image[..., ::-1])
        _write_png(folder / "labels" / f"{stem}.png", frame.sub)
    classes = LabelSpace(parts.SUB_CLASSES, parts.SUB_COLORS)
    (folder / "classes.csv").write_text(classes.to_csv(), encoding="utf-8")
    mapping = ", ".join(f"{i}: {label}" for i, label in enumerate(parts.SUB_CLASSES))
    path = folder / "dataset.yaml"
    path.write_text(_YAML.format(name=name, mapping=mapping, ignore=parts.UNLABELLED), encoding="utf-8")
    return path


def _write_png(path: Path, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    """Write BGR or one-channel pixels; OpenCV reports failure by its return value alone."""
    quick = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    if not cv2.imwrite(str(path), np.ascontiguousarray(pixels), quick):
        raise OSError(f"{path}: OpenCV could not write this file; expected a writable folder")
