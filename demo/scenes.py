"""Procedural street scenes with ground truth in two class sets, as single frames or as a drive.

Everything follows from a seed: the same seed gives the same pixels. Needs NumPy and OpenCV only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from demo import parts
from demo.canvas import Canvas
from demo.figures import draw_cyclist, draw_pedestrian
from demo.houses import Building
from demo.scenery import KERB, Tree, draw_lamp, draw_sign
from demo.shadows import cast_shadows
from demo.street import AHEAD, Street
from demo.surroundings import draw_ground, draw_sky, expose
from demo.vehicles import draw_car


@dataclass(frozen=True)
class Frame:
    """One rendered frame.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        main: (H, W) uint8 ids of `parts.MAIN_CLASSES`, 255 = unlabelled.
        sub: (H, W) uint8 ids of `parts.SUB_CLASSES`, 255 = unlabelled.
    """

    image: NDArray[np.uint8]
    main: NDArray[np.uint8]
    sub: NDArray[np.uint8]


def render_scene(seed: int) -> Frame:
    """One frame of a street of its own."""
    return render(Street(seed), 0.0)


def render(street: Street, time: float) -> Frame:
    """Draw a street at a time in seconds of the drive along it."""
    canvas = Canvas(street.camera(time), street.light)
    draw_sky(canvas, street.layout)
    draw_ground(canvas, street.layout)
    cast_shadows(canvas, street, time)
    behind: list[tuple[float, Building | Tree]] = [(house.z0, house) for house in street.buildings]
    behind += [(green.z, green) for green in street.greens]
    for z, thing in sorted(behind, key=lambda item: -item[0]):
        if z - canvas.camera.z < AHEAD:
            thing.draw(canvas)
    _draw_traffic(canvas, street, time)
    image = expose(canvas, np.random.default_rng((street.seed, 21, round(time * 1000))))
    return Frame(image, parts.MAIN_OF_PART[canvas.parts], parts.SUB_OF_PART[canvas.parts])


def _draw_traffic(canvas: Canvas, street: Street, time: float) -> None:
    """Everything on road and sidewalk, the far things first: (x, z, radius, how to draw it), metres."""
    items: list[tuple[float, float, float, Callable[[], None]]]
    items = [(tree.x, tree.z, 3.0, partial(tree.draw, canvas)) for tree in street.trees]
    items += [(x, z, 1.6, partial(draw_lamp, canvas, x, z, metal)) for x, z, metal in street.lamps]
    items += [(x, z, 0.6, partial(draw_sign, canvas, x, z, kind, size)) for x, z, kind, size in street.signs]
    for car in street.cars:
        z = car.z + car.speed * time
        items.append((car.x, z, 2.6, partial(draw_car, canvas, car.x, z, car.looks, forward=car.forward)))
    for walker in street.walkers:
        pose = walker.pose(time, KERB if abs(walker.x + walker.vx * time) > street.layout.kerb else 0.0)
        stride = walker.phase + 5.2 * time
        items.append((pose.x, pose.z, 0.8, partial(draw_pedestrian, canvas, pose, walker.looks, stride)))
    for rider in street.cyclists:
        pose = rider.pose(time, 0.0)
        crank = rider.phase + 6.5 * time
        if abs(pose.x) < street.layout.kerb - 0.5:
            items.append((pose.x, pose.z, 1.0, partial(draw_cyclist, canvas, pose, rider.looks, crank, rider.helmet)))
    for x, z, radius, draw in sorted(items, key=lambda item: -item[1]):
        if z - canvas.camera.z < AHEAD and canvas.camera.sees(x, z, radius):
            draw()
