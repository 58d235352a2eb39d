"""Cars: a side profile drawn out to a body, a cabin on top, wheels, glass and lamps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from demo.camera import Floats
from demo.canvas import Canvas
from demo.parts import Part

PAINTS = np.array(
    (
        *((226, 228, 230), (34, 36, 40), (128, 134, 140), (170, 30, 34), (36, 64, 120), (190, 194, 196)),
        *((70, 90, 76), (214, 176, 60), (84, 110, 150), (110, 48, 42), (60, 140, 150)),
    )
)
GLASS = (46, 58, 70)
GLASS_BRIGHT = (126, 146, 164)
TYRE = (26, 26, 28)
RIM = (52, 54, 58)
HUB = (150, 154, 160)

# (ahead, up) relative to length and height; counter-clockwise, convex
_BODY = ((-0.5, 0.2), (-0.46, 0.14), (0.47, 0.14), (0.5, 0.22), (0.49, 0.46), (0.4, 0.55), (-0.44, 0.62), (-0.5, 0.55))
_WHEEL_COLORS = np.array(((18, 18, 20), TYRE, HUB) * 2)
_YZX, _ZXY = [1, 2, 0], [2, 0, 1]  # a cross product by columns: np.cross is slow on few vectors
_UNDER = ((-0.4, 0.07), (0.4, 0.07), (0.42, 0.2), (-0.42, 0.2))
_CREASE = ((-0.46, 0.42), (0.46, 0.38), (0.46, 0.39), (-0.46, 0.43))
_CABINS = {
    "saloon": ((-0.34, 0.6), (0.24, 0.57), (0.06, 1.0), (-0.2, 1.0)),
    "hatchback": ((-0.47, 0.6), (0.26, 0.57), (0.08, 1.0), (-0.4, 0.98)),
    "van": ((-0.49, 0.6), (0.4, 0.55), (0.24, 1.0), (-0.48, 1.0)),
}


@dataclass(frozen=True)
class CarLooks:
    """A car's shape and paint; metres, RGB."""

    kind: str
    length: float
    width: float
    height: float
    paint: Floats

    @cached_property
    def shell(self) -> _Shell:
        """The car's faces."""
        return _build(self)

    @cached_property
    def wheels(self) -> Floats:
        """Discs (6, 16, 3) of the two wheels on the right, far to near."""
        return _wheels(self)

    @classmethod
    def random(cls, rng: np.random.Generator) -> CarLooks:
        """One car off the street."""
        kind = str(rng.choice(["saloon", "hatchback", "van"], p=(0.4, 0.45, 0.15)))
        base = {"saloon": (4.5, 1.8, 1.45), "hatchback": (4.0, 1.76, 1.52), "van": (4.9, 1.94, 1.98)}[kind]
        length, width, height = (value * rng.uniform(0.96, 1.05) for value in base)
        return cls(kind, length, width, height, rng.choice(PAINTS).astype(float))


class _Shell:
    """Collects a car's faces in car coordinates (right, up, ahead) and draws those that look at the camera."""

    def __init__(self) -> None:
        self._faces: list[Floats] = []
        self._colors: list[ArrayLike] = []

    def add(self, face: Floats, color: ArrayLike) -> None:
        """Add a convex face (K <= 8, 3), its points counter-clockwise seen from outside."""
        self._faces.append(
            face if len(face) == 8 else np.concatenate((face, np.repeat(face[-1:], 8 - len(face), axis=0)))
        )
        self._colors.append(color)

    def pane(self, wall: Floats, u0: float, u1: float) -> None:
        """Add a window in a wall (4, 3: a, b, c, d), from u0 to u1 along a-b, its upper part reflecting the sky."""
        self.add(_within(wall, u0, u1, 0.1, 0.88), GLASS)
        self.add(_within(wall, u0 + 0.02, u1 - 0.02, 0.52, 0.85), GLASS_BRIGHT)

    @cached_property
    def _stacked(self) -> tuple[Floats, Floats]:
        return np.array(self._faces), np.array(self._colors, np.float64)

    def draw(self, canvas: Canvas, place: Floats, sign: Floats) -> None:
        """Draw everything, in the order it was added."""
        world = self._stacked[0] * sign + place
        first, second = world[:, 1] - world[:, 0], world[:, 2] - world[:, 0]
        normal = first[:, _YZX] * second[:, _ZXY] - first[:, _ZXY] * second[:, _YZX]
        eye = np.array((canvas.camera.x, canvas.camera.y, canvas.camera.z))
        facing = np.flatnonzero(((eye - world[:, 0]) * normal).sum(axis=1) > 0)
        unit = normal[facing] / np.sqrt((normal[facing] ** 2).sum(axis=1, keepdims=True))
        canvas.polygons(world[facing], canvas.light.lit(self._stacked[1][facing], unit).clip(0, 250), Part.CAR)


def _extruded(profile: Floats, half: float, top: float | None = None) -> tuple[list[Floats], Floats, Floats]:
    """Draw a profile (K, 2: ahead, up) out to `half` width (its second half of points to `top`): rim, left, right."""
    widths = np.full(len(profile), half)
    widths[len(profile) // 2 :] = half if top is None else top
    left = np.stack((-widths, profile[:, 1], profile[:, 0]), axis=-1)
    right = left * (-1, 1, 1)
    following = np.roll(np.arange(len(profile)), -1)
    return [np.array((left[i], right[i], right[j], left[j])) for i, j in enumerate(following)], left, right[::-1]


def _within(quad: Floats, u0: float, u1: float, v0: float, v1: float) -> Floats:
    """The part of a quad (4, 3: a, b, c, d) with u along a-b and v along a-d."""
    u, v = np.array((u0, u1, u1, u0))[:, None], np.array((v0, v0, v1, v1))[:, None]
    a, b, c, d = quad
    return np.asarray((1 - v) * ((1 - u) * a + u * b) + v * ((1 - u) * d + u * c))


def _add_ends(shell: _Shell, looks: CarLooks) -> None:
    """Bumpers, plates, lamps and grille."""
    half, high = looks.width / 2, looks.height
    for end in (-1, 1):
        z = end * (looks.length / 2 + 0.01)
        lamp = (176, 24, 26) if end < 0 else (236, 238, 226)
        patches: list[tuple[float, float, float, float, ArrayLike]] = [
            (-half, half, 0.14, 0.25, looks.paint * 0.35 + 18),
            (-0.27, 0.27, 0.3, 0.37, (226, 226, 216)),
            *((side * half - 0.2 - side * 0.21, side * half + 0.2 - side * 0.21, 0.4, 0.53, RIM) for side in (-1, 1)),
            *(
                (side * half - 0.17 - side * 0.21, side * half + 0.17 - side * 0.21, 0.415, 0.515, lamp)
                for side in (-1, 1)
            ),
        ]
        if end > 0:
            patches.append((-0.45, 0.45, 0.42, 0.5, (38, 40, 44)))
        for x0, x1, y0, y1, color in patches:
            quad = np.array(((x0, y0 * high, z), (x1, y0 * high, z), (x1, y1 * high, z), (x0, y1 * high, z)))
            shell.add(quad[::end], color)


def _wheels(looks: CarLooks) -> Floats:
    """Discs (6, 16, 3) of the two wheels on the right: arch, tyre and hub of each."""
    turn = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    rim = np.stack((np.zeros(16), np.sin(turn), np.cos(turn)), axis=-1)
    hubs = [np.array((looks.width / 2 + 0.01, 0.32, ahead * looks.length)) for ahead in (-0.31, 0.31)]
    return np.array([hub + radius * rim for hub in hubs for radius in (0.37, 0.32, 0.2)])


def draw_car(canvas: Canvas, x: float, z: float, looks: CarLooks, *, forward: bool) -> None:
    """A car whose middle stands at (x, z) on the ground, pointing along +z (`forward`) or -z."""
    place, sign = np.array((x, 0.0, z)), np.array((1.0, 1.0, 1.0) if forward else (-1.0, 1.0, -1.0))
    looks.shell.draw(canvas, place, sign)
    if z - canvas.camera.z > 55:
        return
    nearer = np.sign((canvas.camera.x - x) * sign[0])
    colors = canvas.light.lit(_WHEEL_COLORS, (0, 0.6, -0.3))
    canvas.polygons(looks.wheels * (nearer, 1, 1) * sign + place, colors, Part.CAR)


def _build(looks: CarLooks) -> _Shell:
    """Underside, body, ends, cabin and glass, each drawn over the ones before."""
    scale, half = np.array((looks.length, looks.height)), looks.width / 2
    shell = _Shell()
    for outline, width, color in ((_UNDER, half - 0.12, np.full(3, 16.0)), (_BODY, half, looks.paint)):
        rim, left, right = _extruded(np.array(outline) * scale, width)
        for face in (*rim, left, right):
            shell.add(face, color)
    _, left, right = _extruded(np.array(_CREASE) * scale, half + 0.005)
    shell.add(left, looks.paint * 0.72)
    shell.add(right, looks.paint * 0.72)
    _add_ends(shell, looks)
    rim, left, right = _extruded(np.array(_CABINS[looks.kind]) * scale, half - 0.05, half - 0.2)
    for face in (*rim[1:], left, right):
        shell.add(face, looks.paint * 0.97)
    shell.pane(rim[1], 0.05, 0.95)
    shell.pane(np.roll(rim[3], -2, axis=0), 0.08, 0.92)
    for wall in (left, np.roll(right, -2, axis=0)):
        shell.pane(wall, 0.06, 0.48)
        shell.pane(wall, 0.52, 0.94)
    return shell
