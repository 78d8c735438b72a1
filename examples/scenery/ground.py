"""Sky, far background, and the ground of a street: asphalt, markings, kerbs, pavements and shadows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from scenery.canvas import (
    PAVEMENT,
    ROAD,
    SKY,
    TREE,
    Bytes,
    Canvas,
    Colour,
    Floats,
    fractal_noise,
    smooth_noise,
)

NEAR_M = 1.0


@dataclass(frozen=True)
class Street:
    """Plan of a street; offsets in metres from its (bent) axis, distances in metres along it.

    ``left`` and ``right`` are the kerbs, ``walk_left`` and ``walk_right`` the widths of the pavements.
    At ``end`` the street meets a crossing one, ``end_width`` wide. ``gaps`` are side streets: side (-1, 1),
    start and end. ``verge`` tells on which sides grass lies beyond the pavement.
    """

    left: float
    right: float
    walk_left: float
    walk_right: float
    bend: float
    end: float
    end_width: float
    gaps: tuple[tuple[int, float, float], ...]
    verge: tuple[int, ...]
    two_way: bool
    parking: tuple[int, ...]

    def shift(self, z: Any) -> Any:
        """Sideways position of the street's axis at distance ``z``."""
        return self.bend * np.maximum(np.asarray(z) - 8.0, 0.0) ** 2

    def at(self, u: float, z: float) -> tuple[float, float]:
        """World x and z of the offset ``u`` from the axis at distance ``z``."""
        return float(u + self.shift(z)), z

    def house_line(self, side: int) -> float:
        """Offset of the building line on a side (-1 left, 1 right)."""
        return -self.left - self.walk_left if side < 0 else self.right + self.walk_right


@dataclass(frozen=True)
class Sky:
    """Colours of the sky (top and horizon), of its clouds, and how much of it they cover (-1..1)."""

    top: Colour
    horizon: Colour
    cloud: Colour
    cover: float


def paint_sky(canvas: Canvas, rng: np.random.Generator, sky: Sky) -> None:
    """Fill the whole canvas with sky and clouds that flatten towards the horizon."""
    h, w = canvas.camera.height, canvas.camera.width
    up = np.clip(1 - np.arange(h, dtype=np.float32) / max(canvas.camera.horizon, 1), 0, 1)[:, None, None]
    rgb = np.asarray(sky.horizon, np.float32) * (1 - up**0.6) + np.asarray(sky.top, np.float32) * up**0.6
    small = fractal_noise(rng, (h // 2, w // 8), h / 8, 5)
    clouds = np.asarray(Image.fromarray(small).resize((w, h), Image.Resampling.BICUBIC), dtype=np.float32)
    cover = np.clip(0.5 * (clouds + 2.5 * sky.cover), 0, 1)[..., None]
    tone = np.asarray(sky.cloud, np.float32) * (1 - 0.10 * np.clip(clouds - 0.6, 0, 1.5))[..., None]
    canvas.rgb[:] = rgb * (1 - cover) + tone * cover
    canvas.labels[:] = SKY


def _road_labels(street: Street, u: Floats, z: Floats) -> tuple[Bytes, NDArray[np.bool_]]:
    road = (u > -street.left) & (u < street.right)
    crossing = (z > street.end - street.end_width) & (z < street.end)
    for side, z0, z1 in street.gaps:
        road |= (u * side > 0) & (z > z0) & (z < z1)
    road = (road & (z < street.end)) | crossing
    labels = np.where(road, ROAD, PAVEMENT).astype(np.uint8)
    for side in street.verge:
        outside = u * side > street.house_line(side) * side
        labels[outside & ~road & (z < street.end - street.end_width)] = TREE
    return labels, road


def _asphalt(rng: np.random.Generator, street: Street, u: Floats, z: Floats, depth: Floats) -> Floats:
    tile = fractal_noise(rng, (512, 512), 96, 6)
    tile /= tile.std()

    def look_up(scale: float, stretch: float = 1.0) -> Floats:
        rows = (np.clip(z, -50, 400) * scale * stretch).astype(np.int32) % 512
        return tile[rows, (np.clip(u, -300, 300) * scale).astype(np.int32) % 512]

    near = np.clip(9 / depth, 0, 1)
    tone = 1 + 0.05 * look_up(9.0, 0.35) + 0.05 * near * look_up(70.0) + 0.03 * look_up(2.0)
    grit = rng.standard_normal(u.shape).astype(np.float32)
    tone += 0.05 * near * grit
    lane = (street.left + street.right) / 2
    tracks = np.cos((u + street.left) / lane * 4 * math.pi)
    tone *= 1 - 0.035 * tracks
    for _ in range(int(rng.integers(0, 5))):
        u0, z0 = rng.uniform(-street.left, street.right - 1), rng.uniform(5, 30)
        patch = (u > u0) & (u < u0 + rng.uniform(0.5, 2.5)) & (z > z0) & (z < z0 + rng.uniform(1, 9))
        tone[patch] *= rng.uniform(0.8, 1.12)
    for _ in range(int(rng.integers(1, 4))):
        u0, z0 = rng.uniform(-street.left, street.right), rng.uniform(6, 25)
        tone[(u - u0) ** 2 + (z - z0) ** 2 < 0.1] *= 0.6
    return np.asarray(tone, dtype=np.float32)


def _slabs(u: Floats, z: Floats, depth: Floats, size: float) -> Floats:
    clear = np.clip(1.5 - depth / 14, 0, 1)
    joint = ((u / size) % 1 < 0.05) | ((z / size + 0.5 * np.floor(u / size)) % 1 < 0.05)
    checks = np.sin(np.floor(u / size) * 12.9 + np.floor(z / size) * 78.2)
    return np.asarray((1 - 0.22 * clear * joint) * (1 + 0.04 * clear * checks), dtype=np.float32)


def paint_ground(canvas: Canvas, rng: np.random.Generator, street: Street, markings: Floats, shadow: Floats) -> None:
    """Paint everything below the horizon.

    Args:
        canvas: the canvas, its sky painted.
        rng: source of texture.
        street: the plan.
        markings: H x W, how much of each pixel is road paint, 0..1.
        shadow: H x W, how much of the sun each pixel gets, 0..1.
    """
    first, x, z, depth = canvas.camera.ground()
    u = (x - street.shift(z)).astype(np.float32)
    labels, road = _road_labels(street, u, z)
    tone = _asphalt(rng, street, u, z, depth)
    asphalt = np.array([92, 94, 98]) * rng.uniform(0.75, 1.2) + rng.normal(0, 1.5, 3)
    paving = np.array([112, 108, 102]) * rng.uniform(0.75, 1.2) + rng.normal(0, 2.5, 3)
    slabs = tone * _slabs(u, z, depth, rng.uniform(0.45, 0.9)) if rng.random() < 0.75 else tone
    kerb = np.minimum(np.abs(u + street.left + 0.08), np.abs(u - street.right - 0.08)) < 0.09
    gutter = np.minimum(np.abs(u + street.left - 0.12), np.abs(u - street.right + 0.12)) < 0.12
    rgb = np.where(road[..., None], asphalt * (tone * np.where(gutter, 0.8, 1.0))[..., None], paving * slabs[..., None])
    rgb = np.where((kerb & ~road)[..., None], (138, 136, 130) * tone[..., None], rgb)
    grass = np.array([74, 88, 46]) * (1 + 0.2 * smooth_noise(rng, u.shape, 4))[..., None]
    rgb = np.where((labels == TREE)[..., None], grass, rgb)
    worn = (markings[first:] * np.clip(0.78 + 0.14 * fractal_noise(rng, u.shape, 12, 3), 0.25, 0.95))[..., None]
    rgb = rgb * (1 - worn) + np.array([206, 206, 198]) * worn
    light = canvas.light
    factor = (
        light.shade((0, 1, 0), 0.0) + (light.shade((0, 1, 0)) - light.shade((0, 1, 0), 0.0)) * shadow[first:, :, None]
    )
    sheen = 1 + 0.22 * np.clip(depth / 45, 0, 1)[..., None]
    clear = np.exp(-depth * light.haze_per_m)[..., None]
    canvas.rgb[first:] = (rgb * factor * sheen) * clear + light.haze * (1 - clear)
    canvas.labels[first:] = labels


class GroundPen:
    """Fills ground polygons of the street's plan into a mask of the canvas's size."""

    def __init__(self, canvas: Canvas, street: Street) -> None:
        self.canvas, self.street = canvas, street
        self.mask = Image.new("L", (canvas.camera.width, canvas.camera.height))
        self._pen = ImageDraw.Draw(self.mask)

    def world(self, points: Any, value: int) -> None:
        """Fill a polygon of world points (x, z), cut off at the near plane."""
        cut = _cut_near([(float(x), float(z)) for x, z in points])
        if len(cut) < 3:
            return
        pixels = self.canvas.camera.project([(x, 0.0, z) for x, z in cut])[:, :2]
        self._pen.polygon([(float(a), float(b)) for a, b in np.clip(pixels, -30000, 30000)], fill=value)

    def plan(self, points: Any, value: int = 255) -> None:
        """Fill a polygon given by offset from the axis and distance."""
        self.world([self.street.at(u, z) for u, z in points], value)

    def stripe(self, u: float, width: float, z0: float, z1: float) -> None:
        """Fill a stripe along the street, following its bend."""
        steps = np.linspace(z0, z1, max(2, int((z1 - z0) / 2) + 1))
        edge = [(u - width / 2, float(z)) for z in steps] + [(u + width / 2, float(z)) for z in steps[::-1]]
        self.plan(edge)

    def result(self, blur: float = 0.0) -> Floats:
        """The mask as H x W float32, 0..1."""
        mask = self.mask.filter(ImageFilter.GaussianBlur(blur)) if blur else self.mask
        return np.asarray(mask, dtype=np.float32) / 255


def _cut_near(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    kept = []
    for (xa, za), (xb, zb) in zip(points, points[1:] + points[:1], strict=True):
        if za >= NEAR_M:
            kept.append((xa, za))
        if (za >= NEAR_M) != (zb >= NEAR_M):
            t = (NEAR_M - za) / (zb - za)
            kept.append((xa + t * (xb - xa), NEAR_M))
    return kept


def _draw_arrow(pen: GroundPen, u: float, z: float, ahead: float) -> None:
    pen.plan([(u - 0.09, z), (u + 0.09, z), (u + 0.09, z + 2.4 * ahead), (u - 0.09, z + 2.4 * ahead)])
    pen.plan([(u - 0.4, z + 2.4 * ahead), (u + 0.4, z + 2.4 * ahead), (u, z + 4.2 * ahead)])


def draw_markings(canvas: Canvas, rng: np.random.Generator, street: Street) -> Floats:
    """Draw the road's lines, arrows and crossings; H x W float32, 1 where there is paint."""
    pen = GroundPen(canvas, street)
    stop = street.end - street.end_width - 1.5
    if street.two_way:
        long, short = ((2.0, 4.0), (4.0, 2.0), (3.0, 3.0))[rng.integers(3)]
        z = rng.uniform(-4, 2)
        while z < min(stop, 110):
            pen.stripe(0.0, 0.12, max(z, NEAR_M), max(min(z + long, stop), NEAR_M + 0.1))
            z += long + short
    for side, edge in ((-1, -street.left), (1, street.right)):
        kind = rng.random()
        for inset in (0.25, 0.42)[: 2 if kind < 0.4 else 1 if kind < 0.6 else 0]:
            if side not in street.parking:
                pen.stripe(edge - side * inset, 0.08, NEAR_M, min(stop, 90))
    if rng.random() < 0.35:
        z = rng.uniform(9, 22)
        for u in np.arange(-street.left + 0.4, street.right - 0.6, 1.1):
            pen.plan([(u, z), (u + 0.55, z), (u + 0.55, z + 2.6), (u, z + 2.6)])
    if rng.random() < 0.3:
        z = rng.uniform(7, 24)
        pen.plan([(-street.left + 0.2, z), (0 if street.two_way else street.right - 0.2, z),
                  (0 if street.two_way else street.right - 0.2, z + 0.3), (-street.left + 0.2, z + 0.3)])  # fmt: skip
    if rng.random() < 0.35:
        _draw_arrow(pen, -street.left / 2, rng.uniform(7, 16), 1.0)
    if stop < 60:
        pen.plan([(-street.left, stop), (0.0, stop), (0.0, stop + 0.35), (-street.left, stop + 0.35)])
    return pen.result()
