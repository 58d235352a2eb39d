"""Samples: what both models say, in scores, at some pixels of every image, for fitting the probability rule."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from classaug_ros.fusion import Scores
from classaug_ros.fusion.geometry import source_coordinates
from classaug_ros.models.labels import LabelMap

MOST_PER_CLASS = 32
LEAST_PER_CLASS = 4
PER_CLASS_IN_ALL = 6000
"""Pixels of a class that are aimed at over all images, if each has it, so that fitting takes about a minute."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Some pixels of each image, as many of rare classes as of frequent ones.

    Attributes:
        main: S x m float16, scores of the main model, interpolated at the pixel, less their mean.
        sub: S x n float16, of the sub model.
        truth: S uint16, sub class ids.
        weight: S float32, how many pixels of the image each stands for: all of its class, shared evenly.
        image: S int32, which of the images counted it is from.
    """

    main: NDArray[np.float16]
    sub: NDArray[np.float16]
    truth: NDArray[np.uint16]
    weight: NDArray[np.float32]
    image: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.truth)

    def sound(self, images: int) -> bool:
        """Return whether all values are such as ``of`` gives, for so many images."""
        return bool(
            all(np.isfinite(scores).all() for scores in (self.main, self.sub, self.weight))
            and (self.truth < self.sub.shape[1]).all()
            and (self.weight >= 1).all()
            and (self.image >= 0).all()
            and (self.image < images).all()
        )

    @classmethod
    def none(cls, m: int, n: int) -> Samples:
        """Return no samples, of models with m and n classes."""
        empty = np.empty(0)
        main, sub = np.empty((0, m), np.float16), np.empty((0, n), np.float16)
        return cls(main, sub, empty.astype(np.uint16), empty.astype(np.float32), empty.astype(np.int32))

    @classmethod
    def joined(cls, parts: Sequence[Samples]) -> Samples:
        """Return all samples of the parts, at least one."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    @classmethod
    def of(cls, name: str, number: int, scores: Sequence[Scores], truth: LabelMap, most: int) -> Samples:
        """Take samples of one image, the same ones each time.

        Args:
            name: the image's name, which chance follows.
            number: its number among the images counted.
            scores: of the main and of the sub model.
            truth: H x W sub class ids; ids past the classes are unlabelled.
            most: pixels of each class.
        """
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        random = np.random.default_rng(seed)
        classes = len(scores[1].values)
        chosen, weights = [], []
        for number_of_class in np.unique(truth[truth < classes]).tolist():
            pixels = np.flatnonzero(truth == number_of_class)
            taken = random.choice(pixels, min(most, len(pixels)), replace=False)
            chosen.append(np.sort(taken))
            weights.append(np.full(len(taken), len(pixels) / len(taken), np.float32))
        if not chosen:
            return cls.none(len(scores[0].values), classes)
        pixels = np.concatenate(chosen)
        main, sub = (_at(each, pixels, (truth.shape[0], truth.shape[1])) for each in scores)
        image = np.full(len(pixels), number, np.int32)
        return cls(main, sub, truth.ravel()[pixels].astype(np.uint16), np.concatenate(weights), image)


def per_class(images: int) -> int:
    """Return how many pixels of each class to take from each of so many images."""
    return int(np.clip(PER_CLASS_IN_ALL // max(images, 1), LEAST_PER_CLASS, MOST_PER_CLASS))


def _at(scores: Scores, pixels: NDArray[np.intp], size: tuple[int, int]) -> NDArray[np.float16]:
    """Return scores at single pixels of an image of ``size``, pixels x classes, bilinear as for label maps."""
    values = scores.values
    _, h, w = values.shape
    row, down = source_coordinates(size[0], h, scores.convention)
    column, right = source_coordinates(size[1], w, scores.convention)
    y, x = np.divmod(pixels, size[1])
    r, c, v, u = row[y], column[x], down[y], right[x]
    below, beside = np.minimum(r + 1, h - 1), np.minimum(c + 1, w - 1)
    top = values[:, r, c] * (1 - u) + values[:, r, beside] * u
    bottom = values[:, below, c] * (1 - u) + values[:, below, beside] * u
    found = (top * (1 - v) + bottom * v).T
    # Half precision keeps three digits, of what is left without a part that all scores have in common; beyond its range
    # logits would say the same at its end.
    return np.asarray((found - found.mean(axis=1, keepdims=True)).clip(-6e4, 6e4), np.float16)
