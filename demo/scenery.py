"""What stands along the kerb: trees, lamp posts, traffic signs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from demo.camera import NEAR, Floats
from demo.canvas import Blob, Canvas
from demo.parts import Part

KERB = 0.13  # metres: height of the sidewalk over the road

LEAVES = np.array(((70, 104, 44), (88, 120, 48), (58, 92, 52), (112, 124, 46), (76, 112, 64)))
BARK = np.array((86, 66, 50))
METAL = np.array(((84, 90, 92), (58, 66, 62), (120, 124, 126), (66, 60, 56)))


@dataclass(frozen=True)
class Tree:
    """A trunk and a crown of leafy clusters; `clusters` (N, 4): right, up, ahead, radius in metres."""

    x: float
    z: float
    trunk: float
    clusters: Floats
    leaf: Floats
    ragged: Floats

    @classmethod
    def random(cls, rng: np.random.Generator, x: float, z: float, size: float) -> Tree:
        """A tree, or a bush where `size` is small (metres of crown radius)."""
        count = int(rng.integers(9, 14))
        around = rng.normal(size=(count, 3))
        around *= (rng.uniform(0.45, 0.85, count) / np.linalg.norm(around, axis=1))[:, None]
        trunk = size * rng.uniform(1.0, 1.4) if size > 1.2 else 0.2
        spots = around * size * (1, 0.85, 1) + np.array((0, trunk + size * 0.75, 0))
        clusters = np.concatenate((spots, size * rng.uniform(0.38, 0.6, (count, 1))), axis=1)
        leaf = rng.choice(LEAVES) * rng.uniform(0.85, 1.15)
        return cls(x, z, trunk, clusters, leaf, rng.uniform(0.8, 1.12, (count, 18)))

    def draw(self, canvas: Canvas) -> None:
        """Trunk first, then the crown dark to light."""
        if not canvas.camera.sees(self.x, self.z, 3.5):
            return
        base = np.array((self.x, KERB, self.z))
        top = base + np.array((0, self.trunk + self.clusters[0, 3] * 0.8, 0))
        width = 0.055 * self.trunk + 0.06
        canvas.figure([Blob([base, top], (width, width * 0.7), BARK, Part.TREE)])
        view = canvas.camera.view(self.clusters[:, :3] + base)
        if view[:, 2].min() < NEAR + 0.5:
            return
        centres, radii = canvas.camera.pixels(view), self.clusters[:, 3] * canvas.camera.focal / view[:, 2]
        turn = np.linspace(0, 2 * np.pi, self.ragged.shape[1], endpoint=False)
        star = np.stack((np.cos(turn), np.sin(turn)), axis=-1)[None] * self.ragged[..., None]
        order = np.argsort(-view[:, 2])
        side = np.array((0.3 * np.sign(canvas.light.sun[0]), -0.38))
        layers: tuple[tuple[float, float, float, Part | None], ...]
        layers = ((0.0, 1.0, 0.62, Part.TREE), (0.6, 0.78, 0.9, None), (1.2, 0.42, 1.2, None))
        for shift, scale, tone, part in layers if view[0, 2] < 45 else layers[:2]:
            lit = canvas.light.lit(self.leaf * tone + (tone > 1) * 10, (canvas.light.sun[0] * 0.5, 0.8, 0))
            color = canvas.light.through_air(lit, view[:, 2].mean()).clip(0, 250)
            outlines = centres[:, None] + radii[:, None, None] * (shift * side + scale * star)
            shades = (color * (0.9 + 0.2 * self.ragged[:, :1])).clip(0, 250)
            for i in order:
                canvas.fill(outlines[i], shades[i], part)


def draw_lamp(canvas: Canvas, x: float, z: float, metal: Floats) -> None:
    """A lamp post of 6.4 m with an arm over the road."""
    reach = x - np.sign(x) * 1.5
    base, top, end = (x, KERB, z), (x, 6.2, z), (reach, 6.55, z)
    pole = [
        Blob([top, end], (0.06, 0.05), metal, Part.POLE),
        Blob([base, top], (0.1, 0.065), metal, Part.POLE),
        Blob([base, (x, 0.9, z)], (0.14, 0.12), metal * 0.9, Part.POLE),
        Blob([(reach, 6.52, z), (reach + np.sign(x) * 0.6, 6.5, z)], (0.09, 0.1), metal * 0.5 + 110, Part.POLE),
    ]
    canvas.figure(pole)


@dataclass(frozen=True)
class SignKind:
    """A traffic sign: corners and the first one's angle in half turns, colours, the field's share of the size."""

    corners: int
    turn: float
    rim: tuple[int, int, int]
    field: tuple[int, int, int]
    inner: float
    mark: tuple[int, int, int] | None
    bar: tuple[float, float] = (0.3, 0.3)


SIGNS = (
    SignKind(20, 0.0, (196, 24, 30), (244, 244, 240), 0.66, (30, 30, 34)),
    SignKind(3, 0.5, (200, 26, 30), (246, 240, 226), 0.66, (30, 30, 34)),
    SignKind(20, 0.0, (240, 240, 240), (28, 84, 176), 0.86, (244, 244, 240)),
    SignKind(8, 0.125, (240, 240, 240), (190, 22, 30), 0.86, (244, 244, 240), (0.55, 0.14)),
    SignKind(4, 0.25, (240, 240, 240), (24, 92, 184), 0.86, (244, 244, 240)),
    SignKind(4, 0.0, (244, 244, 240), (246, 196, 30), 0.86, None),
)


def draw_sign(canvas: Canvas, x: float, z: float, kind: SignKind, size: float) -> None:
    """A sign facing the camera's way, on a post; `size` is its radius in metres."""
    canvas.figure([Blob([(x, KERB, z), (x, 2.5, z)], (0.05, 0.05), np.array((150, 152, 154)), Part.POLE)])
    angle = np.linspace(0, 2 * np.pi, kind.corners, endpoint=False) + kind.turn * np.pi
    disc = np.stack((np.cos(angle), np.sin(angle), np.zeros(kind.corners)), axis=-1)
    faces: list[tuple[Floats, tuple[int, int, int]]] = [(size * disc, kind.rim), (size * kind.inner * disc, kind.field)]
    if kind.mark is not None:
        w, h = size * kind.bar[0], size * kind.bar[1]
        faces.append((np.array([(-w, -h, 0), (w, -h, 0), (w, h, 0), (-w, h, 0)]), kind.mark))
    for face, color in faces:
        lit = canvas.light.lit(color, (0, 0.5, -0.6)).clip(0, 250)
        canvas.polygons(face[None] + (x, 2.5, z - 0.06), lit, Part.SIGN)
