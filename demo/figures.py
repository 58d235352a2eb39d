"""Pedestrians and cyclists: jointed bodies of balls and limbs, with bags and bicycles."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from demo.camera import Floats
from demo.canvas import Blob, Canvas
from demo.parts import Part

SKIN = np.array(((236, 196, 166), (214, 164, 128), (160, 108, 76), (112, 74, 54)))
TOPS = np.array(
    (
        *((186, 42, 44), (34, 74, 148), (236, 232, 222), (44, 46, 52), (216, 160, 40), (46, 122, 92)),
        *((122, 126, 132), (110, 62, 128), (206, 98, 130), (92, 142, 190), (226, 116, 44)),
    )
)
TROUSERS = np.array(((44, 54, 84), (36, 36, 40), (104, 96, 84), (74, 92, 124), (150, 136, 112), (62, 58, 56)))
BAGS = np.array(
    (
        *((34, 34, 38), (132, 84, 46), (206, 60, 48), (44, 92, 60), (230, 190, 60)),
        *((64, 92, 164), (176, 178, 182), (196, 84, 148)),
    )
)
HAIR = np.array(((40, 30, 26), (84, 58, 38), (176, 140, 86), (120, 118, 118), (24, 22, 24)))
SHOE = (40, 36, 36)


@dataclass(frozen=True)
class Looks:
    """How a person is built and dressed; colors RGB, size relative to 1.75 m."""

    size: float
    skin: Floats
    top: Floats
    trousers: Floats
    hair: Floats
    bag: Floats | None
    backpack: bool

    @classmethod
    def random(cls, rng: np.random.Generator, bag_chance: float, backpack_chance: float) -> Looks:
        """Dress somebody."""
        skin, top, trousers, hair, bag = (rng.choice(c).astype(float) for c in (SKIN, TOPS, TROUSERS, HAIR, BAGS))
        size, bagged, backpack = rng.uniform(0.92, 1.08), rng.random() < bag_chance, rng.random() < backpack_chance
        return cls(size, skin, top, trousers, hair, bag if bagged else None, bool(backpack))


@dataclass(frozen=True)
class Pose:
    """A place on the ground and a heading (0 = along z); turns body coordinates into the world's."""

    x: float
    y: float
    z: float
    heading: float

    def at(self, right: float, up: float, ahead: float) -> Floats:
        """Body coordinates in metres -> world point (3,)."""
        s, c = math.sin(self.heading), math.cos(self.heading)
        return np.array((self.x + right * c + ahead * s, self.y + up, self.z - right * s + ahead * c))


def _trunk(pose: Pose, hip: tuple[float, float], neck: tuple[float, float], color: Floats, part: Part) -> Blob:
    """From hips to shoulders, each an (up, ahead) pair."""
    centres = [pose.at(side * 0.1, *hip) for side in (-1, 1)] + [pose.at(side * 0.15, *neck) for side in (-1, 1)]
    return Blob(centres, (0.1, 0.1, 0.1, 0.1), color, part)


def _head(pose: Pose, up: float, ahead: float, looks: Looks, part: Part) -> list[Blob]:
    return [
        Blob([pose.at(0, up, ahead)], (0.115,), looks.skin, part),
        Blob([pose.at(0, up + 0.035, ahead - 0.045), pose.at(0, up + 0.06, ahead)], (0.115, 0.1), looks.hair, part),
        Blob([pose.at(0, up - 0.13, ahead - 0.02), pose.at(0, up - 0.2, ahead - 0.02)], (0.06, 0.06), looks.skin, part),
    ]


def _backpack(pose: Pose, low: tuple[float, float], high: tuple[float, float], color: Floats, part: Part) -> Blob:
    """Behind the back, from (up, ahead) to (up, ahead)."""
    return Blob(
        [pose.at(side, *end) for side in (-0.1, 0.1) for end in (low, high)], (0.13, 0.11, 0.13, 0.11), color, part
    )


def draw_pedestrian(canvas: Canvas, pose: Pose, looks: Looks, stride: float) -> None:
    """Somebody walking; `stride` is the phase of the step in radians."""
    k = looks.size
    place = Pose(pose.x, pose.y, pose.z, pose.heading)
    part = Part.PERSON
    swing = 0.42 * np.sin(stride)
    blobs: list[Blob] = []
    for side, angle in ((-1, swing), (1, -swing)):
        bend = 0.22 + 0.25 * max(0.0, -angle)
        knee = (side * 0.09, k * (0.9 - 0.42 * np.cos(angle)), 0.42 * np.sin(angle))
        foot = (side * 0.09, knee[1] - k * 0.42 * np.cos(angle - bend), knee[2] + 0.42 * np.sin(angle - bend))
        hip, knee3, ankle = place.at(side * 0.09, k * 0.9, 0), place.at(*knee), place.at(*foot)
        blobs += [
            Blob([hip, knee3], (0.1, 0.075), looks.trousers, part),
            Blob([knee3, ankle], (0.075, 0.055), looks.trousers, part),
            Blob([ankle, place.at(foot[0], foot[1] - 0.03, foot[2] + 0.14)], (0.06, 0.045), SHOE, part),
        ]
        elbow = place.at(side * 0.27, k * 1.1, -0.22 * np.sin(angle))
        hand = place.at(side * 0.27, k * 0.88, -0.22 * np.sin(angle) + 0.08)
        blobs += [
            Blob([place.at(side * 0.22, k * 1.38, 0), elbow], (0.075, 0.06), looks.top * 0.94, part),
            Blob([elbow, hand], (0.058, 0.045), looks.top * 0.94, part),
            Blob([hand], (0.055,), looks.skin, part),
        ]
    blobs.append(_trunk(place, (k * 0.95, 0), (k * 1.36, 0), looks.top, part))
    blobs += _head(place, k * 1.63, 0.02, looks, part)
    if looks.bag is not None and looks.backpack:
        blobs.append(_backpack(place, (k * 1.05, -0.2), (k * 1.32, -0.18), looks.bag, Part.BAG))
    elif looks.bag is not None:
        centres = [place.at(0.36, up, ahead) for up in (0.5, 0.72) for ahead in (-0.16, 0.16)]
        blobs.append(Blob(centres, (0.09, 0.09, 0.07, 0.07), looks.bag, Part.BAG))
    canvas.figure(blobs)


def _ring(pose: Pose, ahead: float, radius: float, points: int) -> Floats:
    """A wheel's rim (points, 3) in the bicycle's plane."""
    turn = np.linspace(0, 2 * np.pi, points, endpoint=False)
    x, y, z = pose.at(0, 0.35, 0)
    along = ahead + radius * np.cos(turn)
    rise = y + radius * np.sin(turn)
    return np.stack((x + along * np.sin(pose.heading), rise, z + along * np.cos(pose.heading)), axis=-1)


def _wheel(canvas: Canvas, pose: Pose, ahead: float) -> None:
    rim = _ring(pose, ahead, 0.33, 24)
    light = canvas.light
    canvas.glaze(rim, light.lit((96, 98, 104), (0, 1, 0)), 0.32, Part.BICYCLE)
    near = pose.z - canvas.camera.z < 16
    for i in range(0, 12, 2) if near else ():
        canvas.stroke(rim[[i, i + 12]], 0.008, light.lit((150, 150, 154), (0, 1, 0)), Part.BICYCLE)
    canvas.stroke(rim, 0.055, light.lit((34, 34, 38), (0, 0.5, 0)), Part.BICYCLE, closed=True)


def _frame(canvas: Canvas, pose: Pose, color: Floats) -> None:
    paint = canvas.light.lit(color, (0, 0.7, -0.4))
    rear, crank = pose.at(0, 0.35, -0.52), pose.at(0, 0.3, -0.08)
    seat, head, front = pose.at(0, 0.86, -0.2), pose.at(0, 0.86, 0.36), pose.at(0, 0.35, 0.54)
    for tube in ([rear, crank, seat, rear], [crank, head], [seat, head], [head, front]):
        canvas.stroke(np.array(tube), 0.045, paint, Part.BICYCLE)
    dark = canvas.light.lit((44, 44, 48), (0, 0.5, 0))
    canvas.stroke(np.array([head, pose.at(0, 1.02, 0.38)]), 0.04, dark, Part.BICYCLE)
    canvas.stroke(np.array([pose.at(-0.28, 1.02, 0.36), pose.at(0.28, 1.02, 0.36)]), 0.045, dark, Part.BICYCLE)
    canvas.stroke(np.array([pose.at(0, 0.93, -0.32), pose.at(0, 0.95, -0.08)]), 0.08, dark, Part.BICYCLE)
    mudguard = np.array([pose.at(0, 0.35 + 0.38 * np.sin(a), -0.52 - 0.38 * np.cos(a)) for a in (0.2, 0.8, 1.5)])
    canvas.stroke(mudguard, 0.05, paint, Part.BICYCLE)


def _leg(pose: Pose, side: int, crank: float, looks: Looks) -> list[Blob]:
    """Thigh, shin and shoe of a pedalling leg; the knee follows from the two lengths."""
    hip = np.array((0.93, -0.16))
    foot = np.array((0.3 + 0.17 * np.sin(crank), -0.08 + 0.17 * np.cos(crank)))
    reach = foot - hip
    length = float(np.hypot(*reach))
    rise = np.sqrt(max(0.45**2 - (length / 2) ** 2, 0.0025))
    knee = (hip + foot) / 2 + rise * np.array((reach[1], -reach[0])) / length
    if knee[1] < (hip[1] + foot[1]) / 2:
        knee = hip + foot - knee
    points = [pose.at(side * out, *point) for out, point in ((0.1, hip), (0.13, knee), (0.12, foot))]
    toe = pose.at(side * 0.12, foot[0] - 0.02, foot[1] + 0.15)
    return [
        Blob(points[:2], (0.1, 0.075), looks.trousers, Part.CYCLIST),
        Blob(points[1:], (0.075, 0.055), looks.trousers, Part.CYCLIST),
        Blob([points[2], toe], (0.06, 0.045), SHOE, Part.CYCLIST),
    ]


def draw_cyclist(canvas: Canvas, pose: Pose, looks: Looks, crank: float, helmet: bool) -> None:
    """Somebody on a bicycle; `crank` is the pedals' angle in radians. The frame takes the bag's or the top's colour."""
    part = Part.CYCLIST
    blobs = _leg(pose, -1, crank, looks) + _leg(pose, 1, crank + np.pi, looks)
    blobs.append(_trunk(pose, (0.98, -0.18), (1.4, 0.08), looks.top, part))
    for side in (-1, 1):
        elbow, hand = pose.at(side * 0.28, 1.16, 0.2), pose.at(side * 0.25, 1.04, 0.38)
        blobs += [
            Blob([pose.at(side * 0.22, 1.4, 0.1), elbow], (0.075, 0.06), looks.top * 0.94, part),
            Blob([elbow, hand], (0.058, 0.05), looks.top * 0.94, part),
            Blob([hand], (0.055,), looks.skin, part),
        ]
    blobs += _head(pose, 1.66, 0.16, looks, part)
    if helmet:
        cap = [pose.at(0, 1.74, 0.04), pose.at(0, 1.74, 0.22)]
        blobs.append(Blob(cap, (0.12, 0.11), looks.hair * 0.3 + looks.top[::-1] * 0.7, part))
    if looks.bag is not None and looks.backpack:
        blobs.append(_backpack(pose, (1.08, -0.36), (1.38, -0.2), looks.bag, Part.CYCLIST_BAG))
    elif looks.bag is not None:
        for rack in (-0.17, 0.17):
            centres = [pose.at(rack, up, ahead) for up in (0.45, 0.66) for ahead in (-0.68, -0.44)]
            blobs.append(Blob(centres, (0.085, 0.085, 0.085, 0.085), looks.bag, Part.CYCLIST_BAG))
    towards = float(canvas.camera.view(pose.at(0, 0, 1))[2] - canvas.camera.view(pose.at(0, 0, 0))[2]) < -0.3
    paint = looks.top[::-1] * 0.8 + 20
    _wheel(canvas, pose, -0.52)
    if not towards:
        _wheel(canvas, pose, 0.54)
    _frame(canvas, pose, paint)
    canvas.figure(blobs)
    if towards:
        _wheel(canvas, pose, 0.54)
