"""Houses along the street: walls, windows, doors, shops and roofs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from demo.camera import Floats
from demo.canvas import Canvas
from demo.parts import Part
from demo.scenery import KERB

STOREY = 3.1

Detail: TypeAlias = tuple[Floats, Floats]  # rectangles (M, 4, 3) on a front and their colours (3,) or (M, 3)

WALLS = np.array(
    (
        *((178, 102, 82), (222, 204, 168), (206, 172, 120), (170, 168, 164), (190, 200, 204), (226, 222, 214)),
        *((150, 84, 72), (204, 150, 128), (150, 160, 140), (214, 190, 150), (120, 118, 122), (196, 120, 96)),
    )
)
ROOFS = np.array(((146, 72, 56), (84, 84, 92), (110, 76, 64), (72, 66, 66)))
DOORS = np.array(((92, 52, 36), (40, 70, 56), (48, 56, 88), (120, 36, 36), (60, 58, 58)))
AWNINGS = np.array(((170, 44, 44), (44, 100, 70), (52, 76, 130), (224, 196, 120), (90, 60, 100)))
GLASS_DARK = np.array((62.0, 74.0, 88.0))
GLASS_SKY = np.array((128.0, 150.0, 170.0))


@dataclass(frozen=True)
class Building:
    """A house from z0 to z1 whose front stands at x = `front` (its sign is the side of the street)."""

    front: float
    z0: float
    z1: float
    storeys: int
    wall: Floats
    roof: Floats
    door: Floats
    awning: Floats | None
    frame: float
    bays: int
    seed: int

    @property
    def height(self) -> float:
        """Metres from the sidewalk to the eaves."""
        return self.storeys * STOREY + 0.9

    @classmethod
    def random(cls, rng: np.random.Generator, front: float, z0: float) -> Building:
        """One house, 8 to 17 m wide."""
        width = float(rng.uniform(8, 17))
        wall, roof, door, awning = (rng.choice(c).astype(float) for c in (WALLS, ROOFS, DOORS, AWNINGS))
        storeys, bays = int(rng.integers(2, 6)), max(2, round(width / rng.uniform(2.3, 3.4)))
        shop, frame = rng.random() < 0.45, rng.uniform(0.8, 1.2)
        tone = wall * rng.uniform(0.9, 1.06)
        end, seed = z0 + width, int(rng.integers(1 << 30))
        return cls(front, z0, end, storeys, tone, roof, door, awning if shop else None, frame, bays, seed)

    def _front(self, z: Floats, y: Floats, out: float = 0.0) -> Floats:
        """Rectangles (M, 4, 3) on the front from z (M, 2) and y (M, 2), `out` metres before it."""
        corners = np.empty((len(z), 4, 3))
        corners[..., 0] = self.front - np.sign(self.front) * out
        corners[..., 1] = y[:, (0, 0, 1, 1)] + KERB
        corners[..., 2] = z[:, (0, 1, 1, 0)]
        return corners

    def draw(self, canvas: Canvas) -> None:
        """Roof, end wall, front and what is on it."""
        distance = self.z0 - canvas.camera.z
        if self.z1 < canvas.camera.z + 4:
            return
        side = float(np.sign(self.front))
        deep, top, z0, z1 = self.front + side * 11, self.height + KERB, self.z0, self.z1
        lit = canvas.light.lit
        ridge = (self.front + deep) / 2
        rise = top + 2.6
        slope = [[(self.front, top, z0), (self.front, top, z1), (ridge, rise, z1), (ridge, rise, z0)]]
        canvas.polygons(slope, lit(self.roof, (-side * 0.6, 0.8, 0)), Part.BUILDING)
        end = [[(self.front, 0, z0), (deep, 0, z0), (deep, top, z0), (ridge, rise, z0), (self.front, top, z0)]]
        canvas.polygons(end, lit(self.wall * 0.93, (0, 0, -1)), Part.BUILDING)
        whole = self._front(np.array([[z0, z1]]), np.array([[-KERB, self.height]]))
        canvas.polygons(whole, lit(self.wall, (-side, 0, 0)), Part.BUILDING)
        details = [self._ledges()]
        if distance < 85:
            details += self._windows(near=distance < 40)
        if distance < 60:
            details.append(self._ground_floor())
        colors = np.concatenate([np.broadcast_to(color, (len(quads), 3)) for quads, color in details])
        canvas.polygons(np.concatenate([quads for quads, _ in details]), lit(colors.clip(0, 245), (-side, 0, 0)))
        if distance < 60 and self.awning is not None:
            self._awning(canvas, self.awning)

    def _ledges(self) -> Detail:
        """Plinth, a ledge over the ground floor, and the eaves with their shadow."""
        y = np.array(((0, 0.5), (STOREY + 0.25, STOREY + 0.42), (self.height - 0.75, self.height - 0.4)))
        y = np.concatenate((y, [[self.height - 0.4, self.height + 0.05]]))
        z = np.tile((self.z0, self.z1), (4, 1))
        return self._front(z, y, 0.06), np.array((0.66, 1.12, 0.8, 1.16))[:, None] * self.wall

    def _windows(self, *, near: bool) -> list[Detail]:
        """Frame, glass, bright glass and, when near, mullion and sill for every bay of every upper storey."""
        rng = np.random.default_rng(self.seed)
        pitch = (self.z1 - self.z0) / self.bays
        centre = self.z0 + pitch * (np.arange(self.bays) + 0.5)
        half = min(0.62, pitch * 0.28) * self.frame
        rows, columns = np.meshgrid(np.arange(1, self.storeys), centre, indexing="ij")
        z, y = columns.ravel(), rows.ravel() * STOREY + 0.95
        curtain = rng.random(len(z))
        frame = self.wall * 1.22 + 22 if self.wall.sum() < 560 else self.wall * 0.72
        lit = curtain < 0.3
        bright = GLASS_SKY + (lit * curtain * 2)[:, None] * np.array((96, 84, 60))
        lower = np.where(lit, 0.2, 0.75)
        layers: list[tuple[float, Floats | float, float, Floats]]
        layers = [(half + 0.12, 0.0, 1.72, frame), (half, 0.08, 1.64, GLASS_DARK), (half - 0.06, lower, 1.42, bright)]
        if near:
            layers += [(0.035, 0.1, 1.6, frame), (half + 0.18, -0.12, 0.02, self.wall * 1.1 + 8)]
        return [
            (
                self._front(np.stack((z - width, z + width), axis=-1), np.stack((y + low, y + high), axis=-1), 0.03),
                color,
            )
            for width, low, high, color in layers
        ]

    def _ground_floor(self) -> Detail:
        """A door and either shop windows or house windows."""
        pitch = (self.z1 - self.z0) / self.bays
        boxes = []
        for bay in range(self.bays):
            middle = self.z0 + pitch * (bay + 0.5)
            opening = self._opening(pitch, is_door=bay == self.seed % self.bays)
            boxes += [((middle - half, middle + half), (low, high), color) for half, low, high, color in opening]
        z, y, colors = (np.array(column) for column in zip(*boxes, strict=True))
        return self._front(z, y, 0.02), colors

    def _opening(self, pitch: float, *, is_door: bool) -> list[tuple[float, float, float, Floats]]:
        """One bay of the ground floor as rectangles (half width, bottom, top, colour), each over the one before."""
        if is_door:
            return [(0.62, 0, 2.55, self.wall * 0.55), (0.5, 0, 2.4, self.door), (0.4, 2.0, 2.3, GLASS_SKY)]
        if self.awning is not None:
            wide = pitch * 0.44
            glass = (wide - 0.08, 0.42, 2.5, GLASS_DARK)
            return [(wide, 0.3, 2.6, self.door * 0.8), glass, (wide - 0.3, 1.3, 2.4, GLASS_SKY * 0.9)]
        wide = min(0.66, pitch * 0.3)
        glass = (wide, 0.95, 2.3, GLASS_DARK)
        return [(wide + 0.1, 0.85, 2.4, self.wall * 1.12), glass, (wide - 0.1, 1.5, 2.2, GLASS_SKY)]

    def _awning(self, canvas: Canvas, color: Floats) -> None:
        """Striped cloth over the shop windows."""
        side, z0, z1 = np.sign(self.front), self.z0 + 0.4, self.z1 - 0.4
        count = max(4, int((z1 - z0) / 0.7))
        edges = np.linspace(z0, z1, count + 1)
        out, low, high = self.front - side * 1.1, 2.45 + KERB, 3.1 + KERB
        cloth = [
            [(self.front, high, a), (self.front, high, b), (out, low, b), (out, low, a)] for a, b in pairwise(edges)
        ]
        tones = np.where(np.arange(count)[:, None] % 2, color, np.array((232, 228, 216)))
        canvas.polygons(cloth, canvas.light.lit(tones, (-side * 0.5, 0.8, 0)), Part.BUILDING)
