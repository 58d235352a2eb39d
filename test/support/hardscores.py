"""Scores that tempt a fast form into mistakes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

KINDS = (
    "noise",
    "smooth",
    "ties",
    "mostly ties",
    "constant",
    "ulp apart",
    "ulps of smooth",
    "shared, an ulp apart",
    "each an ulp better",
    "huge",
    "tiny",
    "denormal",
    "denormal and negative",
    "almost certain",
    "far from zero",
    "last wins",
    "first wins",
)


def above(values: NDArray[np.float32], ulps: int) -> NDArray[np.float32]:
    """Return the float32 values so many steps greater."""
    for _ in range(ulps):
        values = np.nextafter(values, np.float32(np.inf))
    return values


def scores_of(kind: str, shape: tuple[int, int, int], seed: int) -> NDArray[np.float32]:
    """Return classes x h x w scores of one of ``KINDS``."""
    random = np.random.default_rng(seed)
    noise = random.standard_normal(shape).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(plane, (0, 0), 3) for plane in noise]).reshape(shape)
    few = random.integers(0, 3, shape).astype(np.float32)
    one = np.float32(1)
    by_kind: dict[str, Callable[[], NDArray[Any]]] = {
        "noise": lambda: noise,
        "smooth": lambda: 10 * smooth,
        "ties": lambda: few,
        "mostly ties": lambda: np.where(random.random(shape) < 0.05, few, one),
        "constant": lambda: np.full(shape, random.standard_normal(), np.float32),
        "ulp apart": lambda: np.nextafter(one, few - 1, dtype=np.float32),  # 1 - ulp, 1, or 1 + ulp
        "ulps of smooth": lambda: np.nextafter(smooth, smooth + few - 1, dtype=np.float32)[:1] + 0 * noise,
        "shared, an ulp apart": lambda: np.nextafter(
            np.broadcast_to(smooth[:1], shape), few * 1e9 - 1e9, dtype=np.float32
        ),
        "each an ulp better": lambda: np.stack([above(smooth[0], k) for k in range(shape[0])]),
        "huge": lambda: np.sign(noise) * np.float32(3e38),
        "tiny": lambda: noise * np.float32(1e-38),
        "denormal": lambda: few * np.float32(1e-45),
        "denormal and negative": lambda: (few - 1) * np.float32(3e-45),
        "almost certain": lambda: np.exp(40 * (noise - noise.max(axis=0))),
        "far from zero": lambda: (noise + np.float32(1e6)).astype(np.float32),
        "last wins": lambda: np.linspace(0, 1, shape[0], dtype=np.float32)[:, None, None] + 0 * noise,
        "first wins": lambda: np.linspace(1, 0, shape[0], dtype=np.float32)[:, None, None] + 0 * noise,
    }
    with np.errstate(under="ignore"):
        return by_kind[kind]().astype(np.float32)
