"""Counts: how often each (main prediction, sub prediction, truth) was seen, and samples of the scores behind them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classaug_ros import fusion
from classaug_ros.errors import ConfigError
from classaug_ros.io.archive import DEFLATED, Archive, BrokenArchiveError
from classaug_ros.io.files import read_whole, write_whole
from classaug_ros.learning.score_samples import Samples
from classaug_ros.models.card import Model
from classaug_ros.models.labels import LabelMap
from classaug_ros.rules.task import Task

FORMAT = 2


@dataclass(eq=False)
class Counts:
    """Counted triples, and what they were counted with.

    Attributes:
        main_classes: names of the m main classes.
        sub_classes: names of the n sub classes.
        main_model: fingerprint of the main model.
        sub_model: fingerprint of the sub model.
        triples: m x n x n int64, pixels seen with (main prediction, sub prediction, truth).
        images: names of the images counted, each once.
        datasets: fingerprint of each data set counted, by name.
        parts: samples of the scores, image by image; None where a model returns labels.
    """

    main_classes: tuple[str, ...]
    sub_classes: tuple[str, ...]
    main_model: str
    sub_model: str
    triples: NDArray[np.int64]
    images: list[str] = field(default_factory=list)
    datasets: dict[str, str] = field(default_factory=dict)
    parts: list[Samples] | None = None

    @classmethod
    def empty(cls, main: Model, sub: Model) -> Counts:
        """Return counts of nothing yet, for two models."""
        m, n = main.card.classes.names, sub.card.classes.names
        counts = cls(m, n, main.fingerprint, sub.fingerprint, np.zeros((len(m), len(n), len(n)), np.int64))
        if "labels" not in (main.card.output.kind, sub.card.output.kind):
            counts.parts = []
        return counts

    @property
    def samples(self) -> Samples | None:
        """All samples; None where a model returns labels."""
        if self.parts is None:
            return None
        return Samples.joined([Samples.none(len(self.main_classes), len(self.sub_classes)), *self.parts])

    def add(self, image: str, main: LabelMap, sub: LabelMap, truth: LabelMap) -> None:
        """Count one image.

        Args:
            image: its name.
            main: H x W main predictions.
            sub: H x W sub predictions.
            truth: H x W sub class ids; ids past the classes are unlabelled and not counted.
        """
        fusion.count(main, sub, truth, self.triples)
        self.images.append(image)

    def sample(self, scores: Sequence[fusion.Scores], truth: LabelMap, most: int) -> None:
        """Take samples of the image counted last, where the models have scores.

        Args:
            scores: of the main and of the sub model.
            truth: as for ``add``.
            most: pixels of each class.
        """
        if self.parts is not None:
            self.parts.append(Samples.of(self.images[-1], len(self.images) - 1, scores, truth, most))

    def note_dataset(self, name: str, fingerprint: str) -> None:
        """Note a data set that is counted.

        Raises:
            ConfigError: another data set of that name was counted before.
        """
        if self.datasets.setdefault(name, fingerprint) != fingerprint:
            raise ConfigError(_other_dataset(name))

    def check_datasets(self, named: Mapping[str, str]) -> None:
        """Refuse to go on counting with other data sets.

        Args:
            named: fingerprint of each data set to count now, by name.

        Raises:
            ConfigError: one counted before is not among them, or has other classes or values now.
        """
        for name, fingerprint in self.datasets.items():
            if name not in named:
                raise ConfigError(
                    f"holds data set {name!r} too; name it as well, choose another --counts file, or delete this one"
                )
            if named[name] != fingerprint:
                raise ConfigError(_other_dataset(name))

    def check_models(self, main: Model, sub: Model) -> None:
        """Refuse to go on counting with other models.

        Raises:
            ConfigError: a model is not the one these counts were made with.
        """
        for role, model, mine in (("main", main, self.main_model), ("sub", sub, self.sub_model)):
            if model.fingerprint != mine:
                raise ConfigError(
                    f"counted with another {role} model (fingerprint {mine[:12]}) than {model.path} "
                    f"({model.fingerprint[:12]}); choose another --counts file or delete it"
                )

    def check_task(self, task: Task) -> None:
        """Refuse a task of other classes.

        Raises:
            ConfigError: the task's main or sub classes are not the counted ones.
        """
        for role, space, mine in (("main", task.main, self.main_classes), ("sub", task.sub, self.sub_classes)):
            if space.names != mine:
                raise ConfigError(
                    f"the task's {role} classes ({', '.join(space.names[:3])}, ...) are not the {role} model's "
                    f"({', '.join(mine[:3])}, ...); choose the matching task or model"
                )

    def save(self, path: Path) -> None:
        """Write the counts as a NumPy archive, whole or not at all.

        Raises:
            ConfigError: the file cannot be written.
        """
        arrays: dict[str, Any] = {name: np.array(getattr(self, name), np.str_) for name in _TEXTS if name != "datasets"}
        arrays["datasets"] = np.array([*self.datasets.items()], np.str_).reshape(-1, 2)
        if (samples := self.samples) is not None:
            arrays |= {_SAMPLED + name.name: getattr(samples, name.name) for name in fields(Samples)}
        archive = io.BytesIO()
        np.savez_compressed(archive, format=FORMAT, triples=self.triples, **arrays)
        write_whole(path, archive.getvalue())

    @classmethod
    def load(cls, path: Path) -> Counts:
        """Read counts that ``save`` wrote.

        Raises:
            ConfigError: the file is missing or not such an archive.
        """
        try:
            archive = Archive(read_whole(path), DEFLATED)
            if "triples" in archive and ("format" not in archive or not np.array_equal(archive["format"], FORMAT)):
                raise ConfigError(f"{path}: was counted by another version of this package; count again")
            texts = {name: _text(archive[name], dimensions) for name, dimensions in _TEXTS.items()}
            triples = archive["triples"]
            sampled = {
                name.name: archive[_SAMPLED + name.name] for name in fields(Samples) if _SAMPLED + name.name in archive
            }
        except (BrokenArchiveError, KeyError, ValueError) as error:
            raise ConfigError(f"{path}: is not a counts file of `classaug learn`, or broken") from error
        m, n = len(texts["main_classes"]), len(texts["sub_classes"])
        if triples.shape != (m, n, n) or triples.dtype != np.int64:
            raise ConfigError(f"{path}: expected {m} x {n} x {n} int64 counts, found {triples.shape} {triples.dtype}")
        if triples.size and int(triples.min()) < 0:
            raise ConfigError(f"{path}: holds a count of {int(triples.min())}, expected 0 and more; count again")
        return cls(
            tuple(texts["main_classes"]),
            tuple(texts["sub_classes"]),
            texts["main_model"],
            texts["sub_model"],
            triples,
            texts["images"],
            dict(texts["datasets"]),
            _parts(path, sampled, (m, n), len(texts["images"])),
        )


_TEXTS = {
    "main_classes": 1,
    "sub_classes": 1,
    "main_model": 0,
    "sub_model": 0,
    "images": 1,
    "datasets": 2,
}  # dimensions
_SAMPLED = "samples_"  # before the names of a sample's arrays


def _text(array: NDArray[Any], dimensions: int) -> Any:
    """Return an array of texts as text, list of texts, or list of pairs, by its dimensions; ValueError for another."""
    if array.ndim != dimensions or array.dtype.kind != "U" or array.shape[1:] != (2,) * (dimensions - 1):
        raise ValueError
    return array.tolist()


def _parts(path: Path, arrays: dict[str, Any], classes: tuple[int, int], images: int) -> list[Samples] | None:
    """Return the samples of a file, where there are any.

    Raises:
        ConfigError: an array of theirs is missing, is of another shape or type, or holds what no sample can.
    """
    if not arrays:
        return None
    length = next(iter(arrays.values())).shape[:1]
    for name, like in vars(Samples.none(*classes)).items():
        expected = f"{like.dtype.name} {' x '.join(map(str, (*length, *like.shape[1:])))}"
        found = arrays.get(name)
        if found is None or (found.dtype, found.shape) != (like.dtype, (*length, *like.shape[1:])):
            shape = "none" if found is None else f"{found.dtype.name} {' x '.join(map(str, found.shape))}"
            raise ConfigError(f"{path}: samples: {name}: expected {expected}, found {shape}; count again")
    samples = Samples(**arrays)
    if not samples.sound(images):
        raise ConfigError(f"{path}: samples: hold values that no count gives; count again")
    return [samples]


def _other_dataset(name: str) -> str:
    return (
        f"data set {name!r} has other classes or values than when it was counted before; "
        "give it another name or start with new counts"
    )


def merge(parts: Iterable[tuple[str, Counts]]) -> Counts:
    """Add up counts of the same two models over different images.

    Args:
        parts: the counts with a name each, for messages; at least one.

    Raises:
        ConfigError: models or classes differ, or an image is counted in two parts.
    """
    (_, first), *rest = parts
    keys = ("main_classes", "sub_classes", "main_model", "sub_model")
    total = replace(first, triples=first.triples.copy(), images=[*first.images], datasets=dict(first.datasets))
    total.parts = None if first.parts is None else [*first.parts]
    for name, part in rest:
        for key in keys:
            if getattr(part, key) != getattr(total, key):
                raise ConfigError(f"{name}: its {key.replace('_', ' ')} differ from the first file's; do not mix them")
        twice = set(total.images).intersection(part.images)
        if twice:
            raise ConfigError(f"{name}: image {min(twice)!r} was counted before; give each image to one count only")
        for dataset, fingerprint in part.datasets.items():
            total.note_dataset(dataset, fingerprint)
        total.triples += part.triples
        samples = part.samples
        if total.parts is not None and samples is not None:  # the models are the same, so both have samples or neither
            total.parts.append(replace(samples, image=samples.image + np.int32(len(total.images))))
        total.images += part.images
    return total
