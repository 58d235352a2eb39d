"""The probability rule: one score for each output class from all scores of both models, learned as one linear map."""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from classaug_ros.errors import ConfigError
from classaug_ros.io.archive import Archive, BrokenArchiveError
from classaug_ros.rules.task import Task

Prefer = Literal["evidence", "main"]
"""Who decides among main classes: the evidence, or the main model."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """A log-linear pool of both models' class scores, over groups of output classes that mean the same.

    With the scores x (m) of the main and y (n) of the sub model at a pixel, logits or logarithms of probabilities,

        log P(group | x, y) = main @ x + sub @ y + bias + constant,

    and the group decided for is that of the greatest log P + boost. Within a group of several main classes the main
    model's own scores decide. The rows of ``main`` all sum up to the same, as those of ``sub`` do, so that what a model
    adds to all its scores, which softmax ignores, is ignored here too.

    Source: a logarithmic opinion pool (Genest and Zidek, Combining Probability Distributions, Statistical Science,
    1986) with a weight for each pair of class and score, fitted by maximum likelihood; docs/method.md derives it.

    Attributes:
        groups: group of each output class, 0..G-1; an added class is a group of its own.
        main: G x m float32.
        sub: G x n float32.
        bias: G float32.
        boost: G float32, what a group's logarithm is raised by before groups are compared, -gamma log P(group).
        gamma: the power of the classes' frequency that the boost takes out, 0..1.
        temperature: what scores were divided by for calibration; above 1 where the fit was too sure of itself.
        penalty: weight of the penalty on distance from plain models.
        samples: pixels fitted to.
        recordings: number of parts that were held out in turn to choose penalty, temperature and gamma.
    """

    groups: NDArray[np.int32]
    main: NDArray[np.float32]
    sub: NDArray[np.float32]
    bias: NDArray[np.float32]
    boost: NDArray[np.float32]
    gamma: float
    temperature: float
    penalty: float
    samples: int
    recordings: int

    def check(self, outputs: int, mains: int, subs: int) -> None:
        """Refuse arrays that do not fit the classes.

        Raises:
            ConfigError: a shape, a type or a value is wrong.
        """
        numbered = self.groups.size and self.groups.dtype == np.int32
        count = int(self.groups.max()) + 1 if numbered else 0
        shapes = {
            "groups": ((outputs,), np.int32),
            "main": ((count, mains), np.float32),
            "sub": ((count, subs), np.float32),
            "bias": ((count,), np.float32),
            "boost": ((count,), np.float32),
        }
        for name, (shape, dtype) in shapes.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != dtype:
                expected = f"{np.dtype(dtype).name} {' x '.join(map(str, shape))}"
                raise ConfigError(f"{name}: expected {expected}, found {array.dtype} {array.shape}")
            if not np.isfinite(array).all():
                raise ConfigError(f"{name}: holds values that are no numbers")
        if set(self.groups.tolist()) != set(range(count)):
            raise ConfigError(f"groups: expected every group of 0..{count - 1} to have a class")

    def to_bytes(self) -> bytes:
        """Return the arrays as a NumPy archive (.npz)."""
        archive = io.BytesIO()
        arrays: dict[str, Any] = {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}
        np.savez(archive, **arrays)
        return archive.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Evidence:
        """Read what ``to_bytes`` returned.

        Raises:
            ConfigError: it is no such archive.
        """
        try:
            archive = Archive(data)
            values: dict[str, Any] = {field.name: archive[field.name] for field in fields(cls)}
            for name, kind in (("gamma", float), ("temperature", float), ("penalty", float), ("samples", int)):
                values[name] = kind(values[name])
            return cls(**{**values, "recordings": int(values["recordings"])})
        except (BrokenArchiveError, KeyError, ValueError, TypeError, OverflowError) as error:
            raise ConfigError("is not an arrays file of `classaug learn`, or broken") from error


def groups_of(task: Task) -> NDArray[np.int32]:
    """Return the group of each output class: main classes that share a similar sub class, directly or through others.

    Groups are numbered in the order of their first class.
    """
    joined = list(range(len(task.main)))
    for sub in sorted(set().union(*task.similar)):
        members = {joined[main] for main, similar in enumerate(task.similar) if sub in similar}
        joined = [min(members) if group in members else group for group in joined]
    names = sorted(set(joined))
    mains = [names.index(group) for group in joined]
    return np.array([*mains, *range(len(names), len(names) + len(task.added))], np.int32)
