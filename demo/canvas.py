"""Draws polygons of the 3-D world into an image and, with the same outlines, into its truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from demo.camera import NEAR, Camera, Floats, Light, clip_near
from demo.parts import Part

SHIFT = 4  # OpenCV's fixed point: outlines in 1/16 pixel
_TURN = np.linspace(0, 2 * np.pi, 12, endpoint=False)
_CIRCLE = np.stack((np.cos(_TURN), np.sin(_TURN)), axis=-1)


@dataclass(frozen=True)
class Blob:
    """The convex hull of some balls, for bodies: a limb is two, a trunk four. Centres (K, 3) in world metres."""

    centres: Sequence[ArrayLike]
    radii: Sequence[float]
    color: ArrayLike
    part: Part


class Canvas:
    """Image (H, W, 3) uint8 RGB and parts (H, W) uint8, painted far to near."""

    def __init__(self, camera: Camera, light: Light) -> None:
        self.camera = camera
        self.light = light
        self.image: NDArray[np.uint8] = np.zeros((camera.height, camera.width, 3), np.uint8)
        self.parts: NDArray[np.uint8] = np.full((camera.height, camera.width), Part.SKY, np.uint8)

    def fill(self, outline: Floats, color: Floats, part: Part | None) -> None:
        """Fill one outline (K, 2) in pixels; without a part only the image is painted (a detail of what lies below)."""
        self._fill_fixed((outline * (1 << SHIFT)).astype(np.int32), color.tolist(), part)

    def _fill_fixed(self, outline: NDArray[np.int32], color: list[float], part: Part | None) -> None:
        cv2.fillPoly(self.image, [outline], color, cv2.LINE_AA, SHIFT)
        if part is not None:
            cv2.fillPoly(self.parts, [outline], (int(part),), cv2.LINE_8, SHIFT)

    def polygons(self, corners: ArrayLike, colors: ArrayLike, part: Part | None = None) -> None:
        """Convex polygons (M, K, 3) in world metres; colors (3,) or (M, 3), lit but without haze.

        Drawn in their order, except that those cut at the near plane come first.
        """
        smallest = 0.5 if part is None else 0.1  # pixels: details of less are lost in the blur
        view = self.camera.view(corners)
        near = view[..., 2].min(axis=1)
        shaded = self.light.through_air(np.asarray(colors, np.float64), np.maximum(near, 0))
        whole = near >= NEAR
        for i in np.flatnonzero(~whole & (view[..., 2].max(axis=1) > NEAR)):
            self.fill(self.camera.pixels(clip_near(view[i])), shaded[i], part)
        outlines = self.camera.pixels(view[whole])
        low, high = outlines.min(axis=1), outlines.max(axis=1)
        size = (self.camera.width, self.camera.height)
        seen = ((high >= 0) & (low < size)).all(axis=1) & (high - low > smallest).all(axis=1)
        fixed = (outlines[seen] * (1 << SHIFT)).astype(np.int32)
        for outline, color in zip(fixed, shaded[whole][seen].tolist(), strict=True):
            self._fill_fixed(outline, color, part)

    def stroke(self, points: ArrayLike, width: float, color: ArrayLike, part: Part, *, closed: bool = False) -> None:
        """A tube along points (K, 3), `width` metres thick, at least one pixel."""
        view = self.camera.view(points)
        if view[:, 2].min() < NEAR:
            return
        depth = view[:, 2].mean()
        thickness = max(1, round(width * self.camera.focal / depth))
        line = [(self.camera.pixels(view) * (1 << SHIFT)).astype(np.int32)]
        shaded = self.light.through_air(np.asarray(color, np.float64), depth).tolist()
        cv2.polylines(self.image, line, closed, shaded, thickness, cv2.LINE_AA, SHIFT)
        cv2.polylines(self.parts, line, closed, (int(part),), thickness, cv2.LINE_8, SHIFT)

    def glaze(self, points: ArrayLike, color: ArrayLike, opacity: float, part: Part) -> None:
        """A see-through polygon (K, 3): spokes, thin foliage; its truth is the part."""
        view = self.camera.view(points)
        if view[:, 2].min() < NEAR:
            return
        outline = self.camera.pixels(view)
        left, top = np.maximum(np.floor(outline.min(axis=0)).astype(int) - 1, 0).tolist()
        right, bottom = np.maximum(np.ceil(outline.max(axis=0)).astype(int) + 2, 0).tolist()
        below = self.image[top:bottom, left:right]
        if below.size == 0:
            return
        before = below.copy()
        self.fill(outline, self.light.through_air(np.asarray(color, np.float64), view[:, 2].mean()), part)
        cv2.addWeighted(below, opacity, before, 1 - opacity, 0, dst=below)

    def figure(self, blobs: Sequence[Blob]) -> None:
        """Draw the blobs of one body, the far ones first, each with a lit side."""
        counts = np.array([len(blob.centres) for blob in blobs])
        view = self.camera.view(np.concatenate([np.asarray(blob.centres, np.float64) for blob in blobs]))
        if view[:, 2].min() < NEAR:
            return
        pixels = self.camera.pixels(view)
        sizes = np.concatenate([blob.radii for blob in blobs]) * self.camera.focal / view[:, 2]
        ends = np.cumsum(counts)
        spans = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
        side = np.array((0.35 * np.sign(self.light.sun[0]), -0.35))
        depth = np.add.reduceat(view[:, 2], ends - counts) / counts
        color = np.array([blob.color for blob in blobs], np.float64)
        base = self.light.through_air(self.light.lit(color * 0.92, (0, 0.3, -0.5)), depth)
        sunny = self.light.lit(color * 1.04 + 6, (self.light.sun[0], 0.6, 0))
        bright = self.light.through_air(sunny, depth).clip(0, 255)
        for i in np.argsort(-depth, kind="stable"):
            centres, radii = pixels[spans[i]], sizes[spans[i]]
            if radii[0] < 0.4:
                continue
            self.fill(hull(centres, radii), base[i], blobs[i].part)
            if radii[0] > 2.2:
                self.fill(hull(centres + side * radii[:, None], radii * 0.55), bright[i], None)


def hull(centres: Floats, radii: Floats) -> Floats:
    """Outline (N, 2) of the convex hull of circles: centres (K, 2), radii (K,), pixels."""
    points = centres[:, None, :] + radii[:, None, None] * _CIRCLE
    return np.asarray(cv2.convexHull(points.reshape(-1, 2).astype(np.float32)).reshape(-1, 2), np.float64)
