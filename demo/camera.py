"""A pinhole camera driving along a street, and the light it drives in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

NEAR = 0.6  # metres: what lies nearer is cut away


@dataclass(frozen=True)
class Camera:
    """Pinhole camera in world coordinates: x right, y up, z along the street, metres; angles in radians.

    The street's bend is part of the projection: the ground curves sideways by `bend` / 2 x z² seen from the camera, so
    that the world itself stays straight and simple.
    """

    x: float
    y: float
    z: float
    yaw: float = 0.0
    pitch: float = 0.0
    bend: float = 0.0
    width: int = 640
    height: int = 384
    focal: float = 540.0
    horizon: float = 172.0

    def view(self, points: ArrayLike) -> Floats:
        """World points (..., 3) -> camera coordinates (..., 3): x right, y up, z forward."""
        world = np.asarray(points, np.float64)
        x, y, z = world[..., 0] - self.x, world[..., 1] - self.y, world[..., 2] - self.z
        x += 0.5 * self.bend * z * np.abs(z)
        view = np.empty(world.shape)
        view[..., 0] = x - self.yaw * z
        z += self.yaw * x
        view[..., 1] = y - self.pitch * z
        view[..., 2] = z + self.pitch * y
        return view

    def pixels(self, view: Floats) -> Floats:
        """Camera coordinates (..., 3) with z > 0 -> (u, v) in pixels (..., 2)."""
        pixels = view[..., :2] * (self.focal / view[..., 2:])
        pixels *= (1, -1)
        pixels += (self.width / 2, self.horizon)
        return pixels

    def sees(self, x: float, z: float, radius: float) -> bool:
        """Whether something this big (metres) around a place on the ground can be in the picture."""
        right, _, ahead = self.view((x, 0.0, z))
        return bool(ahead > -radius and abs(right) < (ahead + radius) * self.width / 2 / self.focal + 1.2 * radius)

    def ground(self) -> tuple[int, Floats, Floats]:
        """Where each pixel's ray meets the ground: (first row v0, x (rows, W), z (rows, 1)), world metres."""
        first = int(np.ceil(self.horizon + self.pitch * self.focal)) + 2
        rows = np.arange(first, self.height, dtype=np.float64)[:, None]
        z = self.focal * self.y / (rows - self.horizon - self.pitch * self.focal)
        columns = np.arange(self.width, dtype=np.float64)[None, :] - self.width / 2
        x = columns * z / self.focal + self.yaw * z - 0.5 * self.bend * z * z
        return first, x + self.x, z + self.z


def clip_near(polygon: Floats) -> Floats:
    """Cut a convex polygon (K, 3) in camera coordinates at the near plane; may return no points."""
    inside = polygon[:, 2] >= NEAR
    out: list[Floats] = []
    for i in range(len(polygon)):
        a, b = polygon[i - 1], polygon[i]
        if inside[i - 1] != inside[i]:
            out.append(a + (b - a) * ((NEAR - a[2]) / (b[2] - a[2])))
        if inside[i]:
            out.append(b)
    return np.array(out).reshape(-1, 3)


@dataclass(frozen=True)
class Light:
    """Sun, sky and air of one scene; colours RGB 0..255, `sun` a unit vector towards the sun."""

    sun: Floats
    sunlight: Floats
    ambient: Floats
    zenith: Floats
    haze: Floats
    visibility: float
    clouds: float
    shadow: float

    def lit(self, color: ArrayLike, normal: ArrayLike) -> Floats:
        """Color(s) (..., 3) of matt surfaces with these normals (..., 3)."""
        facing = np.maximum(np.dot(normal, self.sun), 0)[..., None]
        return np.asarray(np.asarray(color, np.float64) * (self.ambient + facing * self.sunlight))

    def through_air(self, color: Floats, distance: ArrayLike) -> Floats:
        """Color(s) (..., 3) seen from a distance (...) in metres."""
        clear = np.exp(-np.asarray(distance, np.float64) / self.visibility)[..., None]
        return np.asarray(self.haze + (color - self.haze) * clear)

    @classmethod
    def random(cls, rng: np.random.Generator) -> Light:
        """A day: clear, low sun, overcast or misty."""
        kind = rng.choice(4, p=(0.45, 0.2, 0.23, 0.12))
        low = kind == 1
        elevation = rng.uniform(0.22, 0.4) if low else rng.uniform(0.55, 1.1)
        azimuth = rng.uniform(0, 2 * np.pi)
        across, up = np.cos(elevation), np.sin(elevation)
        sun = np.array((across * np.sin(azimuth), up, across * np.cos(azimuth)))
        gain = rng.uniform(0.88, 1.08)
        warm = rng.uniform(-0.04, 0.05)
        tint = gain * np.array((1 + warm, 1, 1 - warm))
        sunlight, ambient, zenith, haze, visibility, clouds, shadow = (
            ((0.58, 0.54, 0.46), (0.56, 0.59, 0.64), (64, 124, 200), (196, 216, 234), 330, rng.uniform(0.2, 0.7), 0.5),
            ((0.66, 0.5, 0.3), (0.54, 0.55, 0.61), (92, 128, 184), (248, 216, 178), 240, rng.uniform(0.2, 0.6), 0.42),
            ((0.1, 0.1, 0.1), (0.78, 0.8, 0.83), (150, 162, 176), (204, 210, 216), 220, 0.95, 0.1),
            ((0.06, 0.06, 0.06), (0.8, 0.81, 0.83), (196, 202, 208), (212, 216, 218), 80, 0.8, 0.06),
        )[kind]
        return cls(
            sun,
            tint * sunlight,
            tint * ambient,
            np.array(zenith, np.float64),
            np.minimum(tint * haze, 250),
            visibility * rng.uniform(0.8, 1.2),
            clouds,
            shadow,
        )
