"""Sky, ground, and what a real lens and sensor add."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from demo.camera import Floats
from demo.canvas import Canvas
from demo.noise import octaves
from demo.parts import Part
from demo.scenery import KERB

FAR = 210.0  # metres: where the ground ends in haze


@lru_cache(maxsize=1)
def _foliage() -> NDArray[np.uint8]:
    """Leaf texture (512, 1024): 128 is plain."""
    rng = np.random.default_rng(12)
    leaves = cv2.GaussianBlur(rng.normal(0, 74, (512, 1024)).astype(np.float32), (0, 0), 1.3)
    return np.clip(128 + leaves, 60, 200).astype(np.uint8)


@lru_cache(maxsize=1)
def _sensor_noise() -> NDArray[np.int16]:
    """Unit-free noise (512, 1024, 3) of standard deviation 16, mostly the same in all three channels."""
    rng = np.random.default_rng(13)
    both = rng.normal(0, 13, (512, 1024, 1)) + rng.normal(0, 9, (512, 1024, 3))
    return np.rint(both).astype(np.int16)


@lru_cache(maxsize=4)
def _clouds(seed: int) -> NDArray[np.float32]:
    """Cloud thickness (256, 2048), about ±1."""
    enlarged = cv2.resize(octaves(seed, 64, 512, 2, 4), (2048, 256), interpolation=cv2.INTER_CUBIC)
    return np.asarray(enlarged, np.float32)


@dataclass(frozen=True)
class Layout:
    """The street's cross section and markings; metres from the centre line, positive z positions."""

    kerb: float
    front: float
    parking: bool
    asphalt: Floats
    paving: Floats
    crossings: tuple[float, ...]
    cloud_seed: int
    skyline: NDArray[np.float64]

    @classmethod
    def random(cls, rng: np.random.Generator, length: float) -> Layout:
        """A two-way street, with or without parked cars, with a zebra crossing now and then."""
        parking = rng.random() < 0.7
        kerb = rng.uniform(5.9, 6.3) if parking else rng.uniform(4.5, 5.2)
        crossings = tuple(float(z) for z in np.arange(rng.uniform(9, 50), length + 80, 65) if rng.random() < 0.75)
        return cls(
            kerb,
            kerb + rng.uniform(2.8, 4.6),
            bool(parking),
            rng.uniform(74, 108) * np.array((1, 1, 1.03)),
            rng.uniform(140, 182) * np.array((1.02, 1, 0.96)),
            crossings,
            int(rng.integers(1 << 30)),
            rng.uniform(0.3, 1, 64),
        )


def draw_sky(canvas: Canvas, layout: Layout) -> None:
    """Gradient, clouds, and a hazy skyline at the end of the street."""
    camera, light = canvas.camera, canvas.light
    level = int(camera.horizon + camera.pitch * camera.focal)
    rows = max(8, min(camera.height, level + 12))
    height = np.clip((level - np.arange(rows)) / 260, 0, 1)[:, None, None].astype(np.float32) ** 0.75
    haze, zenith = light.haze.astype(np.float32), light.zenith.astype(np.float32)
    sky = haze + (zenith - haze) * height
    clouds = _clouds(layout.cloud_seed)
    left = int(700 + camera.yaw * camera.focal + layout.cloud_seed % 500)
    patch = clouds[30 : 30 + rows, left : left + camera.width]
    cover = np.clip((patch - np.float32(0.9 - 1.5 * light.clouds)) * 0.9, 0, 1)[..., None]
    cover *= np.clip(height * 3.2, 0.12, 1) * 0.85
    white = np.minimum(haze * 0.6 + 102, 252) - 26 * np.clip(patch[..., None], -0.5, 1)
    canvas.image[:rows] = sky + (white - sky) * cover
    far = light.through_air(light.lit((120, 124, 118), (0, 0, -1)), 150)
    step = 26
    for i, size in enumerate(layout.skyline):
        x0 = i * step - 400 - camera.yaw * camera.focal
        outline = np.array(
            [(x0, level + 6), (x0 + step, level + 6), (x0 + step, level - 26 * size), (x0, level - 26 * size)]
        )
        canvas.fill(outline, far * (0.97 + 0.06 * size), Part.BUILDING if size > 0.5 else Part.TREE)


def _quads(x0: ArrayLike, x1: ArrayLike, z0: ArrayLike, z1: ArrayLike, y0: float = 0.0, y1: float = 0.0) -> Floats:
    """Rectangles (M, 4, 3) from x0 to x1 and z0 to z1, level at y0 or rising sideways from y0 to y1."""
    sides = np.broadcast_arrays(x0, x1, z0, z1)
    quads = np.empty((sides[0].size, 4, 3))
    quads[:, 0, 0] = quads[:, 3, 0] = sides[0]
    quads[:, 1, 0] = quads[:, 2, 0] = sides[1]
    quads[:, 0, 2] = quads[:, 1, 2] = sides[2]
    quads[:, 2, 2] = quads[:, 3, 2] = sides[3]
    quads[:, (0, 3), 1] = y0
    quads[:, (1, 2), 1] = y1
    return quads


def draw_ground(canvas: Canvas, layout: Layout) -> None:
    """Road, kerbs, sidewalks and markings, each strip cut across so that it can bend and fade into the distance."""
    up = (0.0, 1.0, 0.0)
    lit, start = canvas.light.lit, canvas.camera.z
    cuts = start + np.concatenate(([0.7], np.geomspace(2.2, FAR, 22)))[::-1]
    near, far = cuts[1:], cuts[:-1]
    joints = np.floor(start) + np.arange(1, 27)
    canvas.polygons(_quads(-60, 60, near, far), lit(layout.paving * 0.95, up), Part.SIDEWALK)
    canvas.polygons(_quads(-layout.kerb, layout.kerb, near, far), lit(layout.asphalt, up), Part.ROAD)
    for side in (-1.0, 1.0):
        kerb, front = side * layout.kerb, side * layout.front
        paved = _quads(kerb, side * 60, near, far, KERB, KERB)
        canvas.polygons(paved, lit(layout.paving, up), Part.SIDEWALK)
        canvas.polygons(_quads(kerb, kerb, near, far, 0, KERB), lit(layout.paving * 0.8, (-side, 0, 0)), Part.SIDEWALK)
        stone = _quads(kerb, kerb + side * 0.22, near, far, KERB, KERB)
        canvas.polygons(stone, lit(layout.paving * 1.14, up), Part.SIDEWALK)
        canvas.polygons(_quads(kerb - side * 0.3, kerb, near, far), lit(layout.asphalt * 0.84, up))
        gaps = _quads(kerb + side * 0.2, front, joints, joints + 0.05, KERB, KERB)
        canvas.polygons(gaps, lit(layout.paving * 0.84, up))
    _draw_markings(canvas, layout)


def _draw_markings(canvas: Canvas, layout: Layout) -> None:
    """Dashes on the centre line, lines between parked cars, zebra crossings."""
    start = canvas.camera.z
    paint = canvas.light.lit((222, 222, 216), (0, 1, 0)).clip(0, 245)
    marks = np.floor(start / 6) * 6 + np.arange(0, 72, 6)
    canvas.polygons(_quads(-0.07, 0.07, marks, marks + 2.8), paint)
    if layout.parking:
        for side in (-1, 1):
            ends = side * (layout.kerb - 2.15), side * (layout.kerb - 0.3)
            canvas.polygons(_quads(*ends, marks[:7], marks[:7] + 0.1), paint * 0.9)
    bars = np.arange(-layout.kerb + 0.5, layout.kerb - 0.6, 1.0)
    for crossing in layout.crossings:
        if -3 < crossing - start < 120:
            canvas.polygons(_quads(bars, bars + 0.5, crossing, crossing + 3.2), paint)


def expose(canvas: Canvas, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Leaf texture, slight blur and noise: the picture (H, W, 3) a camera would deliver."""
    height, width = canvas.parts.shape
    leaves = np.where(canvas.parts == Part.TREE, _foliage()[:height, :width], 128).astype(np.uint8)
    image = cv2.multiply(canvas.image, cv2.merge((leaves, leaves, leaves)), scale=1 / 128)
    image = cv2.GaussianBlur(image, (3, 3), 0.55)
    top, left = int(rng.integers(0, 512 - height)), int(rng.integers(0, 1024 - width))
    noise = _sensor_noise()[top : top + height, left : left + width]
    noisy = cv2.addWeighted(image, 1.0, noise, float(rng.uniform(0.08, 0.22)), 0, dtype=cv2.CV_8U)
    return np.asarray(noisy, np.uint8)
