"""Shadows on the ground, and the ground's texture."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from demo.camera import Floats
from demo.canvas import SHIFT, Canvas
from demo.noise import octaves
from demo.parts import Part
from demo.street import Street

TILE = 1024  # pixels of a repeating texture, over TILE_METRES of ground
TILE_METRES = 24.0
_TURN = np.linspace(0, 2 * np.pi, 8, endpoint=False)
_BALL = np.stack((np.cos(_TURN), 0.3 * np.sin(2 * _TURN), np.sin(_TURN)), axis=-1)  # a ball's outline from any side


@lru_cache(maxsize=1)
def _grain() -> NDArray[np.uint8]:
    """Ground texture (TILE, TILE): 128 is plain, with stains, patches and grit."""
    rng = np.random.default_rng(11)
    stains = octaves(7, TILE, TILE, 8, 5) * 9
    grit = cv2.GaussianBlur(rng.normal(0, 22, (TILE, TILE)).astype(np.float32), (0, 0), 1.1)
    return np.asarray(np.clip(128 + stains + grit, 0, 255), np.uint8)


def cast_shadows(canvas: Canvas, street: Street, time: float) -> None:
    """Darken and roughen the ground: call after the ground and before what stands on it."""
    first, x, z = canvas.camera.ground()
    distance = z - canvas.camera.z
    fade = np.exp(-((distance / 22) ** 1.2))
    air = np.exp(-distance / canvas.light.visibility)
    scale = TILE / TILE_METRES
    columns, rows = (x * scale) % TILE, np.broadcast_to((z * scale) % TILE, x.shape)
    grain = cv2.remap(
        _grain(), columns.astype(np.float32), rows.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
    )
    shadow = _shadow_mask(canvas, street, time)[first:].astype(np.float32) / 255
    gain = (128 + (grain.astype(np.float32) - 128) * fade.astype(np.float32)) * (1 - shadow * air.astype(np.float32))
    gain = np.where(canvas.parts[first:] <= Part.SIDEWALK, gain, 128).astype(np.uint8)
    below = canvas.image[first:]
    cv2.multiply(below, cv2.merge((gain, gain, gain)), dst=below, scale=1 / 128)


def _shadow_mask(canvas: Canvas, street: Street, time: float) -> NDArray[np.uint8]:
    """Darkness of the ground (H, W), 255 = black: what the sun throws, then the dark close under things."""
    camera, sun = canvas.camera, street.light.sun
    mask = np.zeros((camera.height, camera.width), np.uint8)
    reach = -sun / max(sun[1], 0.2)
    standing = [*_building_corners(street, camera.z), *_tree_corners(street, camera.z)]
    moving, contacts = _moving_corners(street, camera.z, time)
    outlines = [corners + corners[:, 1:2] * reach for corners in standing + moving]
    tones = [round(255 * street.light.shadow)] * len(outlines) + [130] * len(contacts)
    for outline, tone in zip(outlines + contacts, tones, strict=True):
        view = camera.view(outline * (1, 0, 1))
        view[:, 2] = view[:, 2].clip(0.9)
        fixed = np.rint(camera.pixels(view).clip(-30000, 30000) * (1 << SHIFT)).astype(np.int32).reshape(-1, 1, 2)
        cv2.fillConvexPoly(mask, cv2.convexHull(fixed), (tone,), cv2.LINE_AA, SHIFT)
    return mask


def _building_corners(street: Street, start: float) -> list[Floats]:
    """Fronts (4, 3) of the houses on the sun's side."""
    side = np.sign(street.light.sun[0])
    near = [house for house in street.buildings if np.sign(house.front) == side and -15 < house.z1 - start < 105]
    return [np.array([(h.front, y, z) for y in (0, h.height) for z in (h.z0, h.z1)]) for h in near]


def _tree_corners(street: Street, start: float) -> list[Floats]:
    """Trunks and leafy clusters of the street's trees, and lamp posts."""
    corners = [_box(x, z, 0.06, 0.06, 6.2) for x, z, _ in street.lamps if -8 < z - start < 40]
    for tree in street.trees:
        if -8 < tree.z - start < 50:
            base = np.array((tree.x, 0, tree.z))
            corners.append(_box(tree.x, tree.z, 0.12, 0.12, tree.trunk + 0.5))
            corners += [base + cluster[:3] + cluster[3] * _BALL for cluster in tree.clusters[::2]]
    return corners


def _moving_corners(street: Street, start: float, time: float) -> tuple[list[Floats], list[Floats]]:
    """Cars, pedestrians and cyclists: their corners, and the ground right under them."""
    solids: list[Floats] = []
    contacts: list[Floats] = []
    for car in street.cars:
        z, wide, half = car.z + car.speed * time, car.looks.width / 2, car.looks.length / 2
        if -8 < z - start < 60:
            solids += [_box(car.x, z, wide, half, 0.8), _box(car.x, z, wide - 0.15, half * 0.6, car.looks.height)]
            contacts.append(_box(car.x, z, wide + 0.08, half + 0.05, 0))
    people = [(walker, 0.3, 0.2) for walker in street.walkers]
    people += [(rider, *((0.7, 0.2) if rider.vx else (0.2, 0.7))) for rider in street.cyclists]
    for mover, across, along in people:
        pose = mover.pose(time, 0.0)
        if 0 < pose.z - start < 45:
            solids += [_box(pose.x, pose.z, across, along, 1.0), _box(pose.x, pose.z, 0.2, 0.2, 1.7)]
            contacts.append(_box(pose.x, pose.z, across * 0.8, along, 0))
    return solids, contacts


def _box(x: float, z: float, half_x: float, half_z: float, height: float) -> Floats:
    """Corners (8, 3) of a box on the ground."""
    return np.array([(x + i * half_x, y, z + j * half_z) for y in (0, height) for i in (-1, 1) for j in (-1, 1)])
