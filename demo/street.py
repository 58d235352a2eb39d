"""Who and what is on a street, where, and how it moves; the camera's way along it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from demo.camera import Camera, Floats, Light
from demo.figures import Looks, Pose
from demo.houses import Building
from demo.scenery import METAL, SIGNS, SignKind, Tree
from demo.surroundings import Layout
from demo.vehicles import CarLooks

EGO_SPEED = 6.5  # m/s
AHEAD = 85.0  # metres of street that exist before the camera


@dataclass(frozen=True)
class Mover:
    """A pedestrian or cyclist: where it is at time 0, metres, and its velocity in m/s."""

    x: float
    z: float
    vx: float
    vz: float
    phase: float
    looks: Looks
    helmet: bool

    def pose(self, time: float, floor: float) -> Pose:
        """Where it is at a time in seconds."""
        return Pose(self.x + self.vx * time, floor, self.z + self.vz * time, float(np.arctan2(self.vx, self.vz)))


@dataclass(frozen=True)
class Car:
    """A car, its place at time 0 and its speed along the street in m/s; `forward` points along z."""

    x: float
    z: float
    speed: float
    forward: bool
    looks: CarLooks


class Street:
    """A street with everything on it, and the drive along it."""

    def __init__(self, seed: int, duration: float = 0.0) -> None:
        """Build the street for `duration` seconds of driving.

        Args:
            seed: what the street follows from, 0 or more.
            duration: seconds of driving that the street must last for.
        """
        rng = np.random.default_rng((seed, 20))
        self.seed = seed
        length = duration * EGO_SPEED + AHEAD
        self.light = Light.random(rng)
        self.layout = Layout.random(rng, length)
        self._bend = float(rng.uniform(-1, 1) * 0.0035)
        self._lane = float(rng.uniform(1.4, 2.0))
        self._height = float(rng.uniform(1.35, 1.75))
        self._pitch = float(rng.uniform(-0.03, 0.03))
        self._yaw = float(rng.uniform(-0.06, 0.06)) if duration == 0 else 0.0
        self.buildings: list[Building] = []
        self.greens: list[Tree] = []
        self._build_up(rng, length)
        self._plant(rng, length)
        self._park(rng, length)
        self._populate(rng, length, duration)

    def _build_up(self, rng: np.random.Generator, length: float) -> None:
        """Houses along both sides, with gaps that trees fill."""
        for side in (-1, 1):
            z = float(rng.uniform(-22, -8))
            while z < length + 40:
                if rng.random() < 0.2:
                    gap = rng.uniform(6, 13)
                    spots = [
                        (side * (self.layout.front + rng.uniform(0.4, 8)), z + rng.uniform(0.5, gap - 0.5))
                        for _ in range(5)
                    ]
                    self.greens += [Tree.random(rng, x, d, rng.uniform(0.7, 2.6)) for x, d in spots]
                    z += gap
                house = Building.random(rng, side * self.layout.front, z)
                self.buildings.append(house)
                z = house.z1 + float(rng.uniform(0.0, 0.2) if rng.random() < 0.8 else rng.uniform(1, 3))

    def _plant(self, rng: np.random.Generator, length: float) -> None:
        """Street trees, lamp posts and signs along the kerbs."""
        self.trees: list[Tree] = []
        self.lamps: list[tuple[float, float, Floats]] = []
        self.signs: list[tuple[float, float, SignKind, float]] = []
        metal = rng.choice(METAL).astype(float)
        leafy = rng.random() < 0.75
        for side in (-1, 1):
            x = side * (self.layout.kerb + 0.7)
            for z in _spaced(rng.uniform(2, 14), length, rng.uniform(9, 16)):
                if leafy and rng.random() < 0.6:
                    self.trees.append(Tree.random(rng, x, z + rng.uniform(-1, 1), rng.uniform(1.3, 2.1)))
            for z in _spaced(rng.uniform(4, 20), length, rng.uniform(16, 24)):
                self.lamps.append((x - side * 0.25, z, metal))
            for z in _spaced(rng.uniform(6, 16), length, rng.uniform(11, 20)):
                if rng.random() < 0.8:
                    spot = side * (self.layout.kerb + 0.45)
                    self.signs.append((spot, z, SIGNS[rng.choice(len(SIGNS))], float(rng.uniform(0.36, 0.5))))

    def _park(self, rng: np.random.Generator, length: float) -> None:
        """Parked cars and traffic."""
        self.cars: list[Car] = []
        if self.layout.parking:
            fill = rng.uniform(0.3, 0.85)
            for side in (-1, 1):
                for z in _spaced(rng.uniform(-2, 6), length, 6.0):
                    if rng.random() < fill:
                        x = side * (self.layout.kerb - 1.15 + rng.uniform(-0.1, 0.1))
                        looks = CarLooks.random(rng)
                        self.cars.append(Car(x, z + rng.uniform(-0.4, 0.4), 0.0, side > 0, looks))
        if rng.random() < 0.75:
            leader = rng.uniform(11, 45)
            self.cars.append(Car(self._lane, leader, EGO_SPEED + rng.uniform(-0.1, 0.9), True, CarLooks.random(rng)))
        z = rng.uniform(8, 40)
        while z < 2.2 * length:
            self.cars.append(Car(-1.75, z, -EGO_SPEED, False, CarLooks.random(rng)))
            z += rng.uniform(18, 70)

    def _populate(self, rng: np.random.Generator, length: float, duration: float) -> None:
        """Pedestrians on the sidewalks and crossings, cyclists on the road."""
        self.walkers: list[Mover] = []
        self.cyclists: list[Mover] = []
        inner, outer = self.layout.kerb + 1.2, self.layout.front - 0.5
        for _ in range(rng.poisson(length / 7.5)):
            x = float(rng.choice((-1, 1)) * rng.uniform(inner, max(outer, inner + 0.1)))
            speed = float(rng.choice((-1, 1)) * rng.uniform(0.9, 1.6))
            looks = Looks.random(rng, 0.7, 0.6)
            self.walkers.append(Mover(x, rng.uniform(3, length), 0.0, speed, rng.uniform(0, 6), looks, False))
        for crossing in self.layout.crossings:
            for _ in range(int(rng.integers(0, 3))):
                speed = float(rng.choice((-1, 1)) * rng.uniform(0.9, 1.4))
                meeting = max(crossing - 16, 0) / EGO_SPEED if duration else 0.0
                x = rng.uniform(-4, 4) - speed * meeting
                looks = Looks.random(rng, 0.75, 0.6)
                self.walkers.append(
                    Mover(x, crossing + rng.uniform(0.5, 2.7), speed, 0.0, rng.uniform(0, 6), looks, False)
                )
        self._ride(rng, length, duration)

    def _ride(self, rng: np.random.Generator, length: float, duration: float) -> None:
        """Cyclists: most in the camera's direction, some oncoming, some crossing."""
        edge = self.layout.kerb - (2.75 if self.layout.parking else 0.9)
        lead = rng.uniform(7, 14)
        for z in _spaced(lead, length, rng.uniform(13, 26)):
            # the leading one keeps clear of those it overtakes
            speed, x = (EGO_SPEED - 0.4, edge - 0.4) if z == lead else (rng.uniform(2.6, 4.8), edge + 0.15)
            looks = Looks.random(rng, 0.85, 0.75)
            self.cyclists.append(Mover(x, z, 0.0, float(speed), rng.uniform(0, 6), looks, bool(rng.random() < 0.5)))
        for z in _spaced(rng.uniform(8, 40), 1.6 * length, rng.uniform(22, 44)):
            looks = Looks.random(rng, 0.85, 0.75)
            speed = -rng.uniform(3.4, 5.0)
            self.cyclists.append(Mover(-edge, z, 0.0, float(speed), rng.uniform(0, 6), looks, bool(rng.random() < 0.5)))
        for _ in range(1 + int(duration / 4)):
            if rng.random() < 0.5:
                meeting, distance = rng.uniform(0, max(duration, 0.01)), rng.uniform(7, 18)
                vx = float(rng.choice((-1, 1)) * rng.uniform(2.4, 3.6))
                x, z = rng.uniform(-3, 3.5) - vx * meeting, meeting * EGO_SPEED + distance
                looks = Looks.random(rng, 0.85, 0.75)
                self.cyclists.append(Mover(x, z, vx, 0.0, rng.uniform(0, 6), looks, bool(rng.random() < 0.5)))

    def camera(self, time: float) -> Camera:
        """The camera at a time in seconds, swaying a little with the car."""
        sway = 0.12 * np.sin(0.5 * time) if time else 0.0
        yaw = self._yaw + 0.012 * np.sin(0.33 * time)
        pitch = self._pitch + 0.0015 * np.sin(5.1 * time)
        bend = self._bend * np.cos(0.12 * time)
        return Camera(self._lane + sway, self._height, EGO_SPEED * time, float(yaw), float(pitch), float(bend))


def _spaced(first: float, end: float, step: float) -> list[float]:
    """Positions from `first` to before `end`."""
    return [float(z) for z in np.arange(first, end, step)]
