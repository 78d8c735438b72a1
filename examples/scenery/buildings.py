"""Rows of houses: facades with windows, doors and shopfronts, roofs, gable ends and chimneys."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from scenery.canvas import (
    BUILDING,
    NOTHING,
    SIGN,
    Bytes,
    Canvas,
    Colour,
    Floats,
    Light,
    fractal_noise,
    paste_texture,
    smooth_noise,
)

ROOF_DEPTH_M = 4.5  # from the eaves back to the ridge
WALLS = (
    (132, 96, 74), (150, 112, 86), (112, 76, 62), (168, 146, 112), (186, 170, 138), (206, 198, 180),
    (150, 144, 134), (122, 116, 108), (96, 84, 76), (214, 210, 202), (140, 124, 100), (104, 100, 98),
)  # fmt: skip
FRONTS = (
    (40, 44, 50), (26, 60, 44), (120, 34, 36), (30, 48, 92), (150, 138, 110), (70, 30, 44), (200, 196, 186),
    (60, 60, 60), (28, 84, 98), (160, 120, 40),
)  # fmt: skip


@dataclass(frozen=True)
class House:
    """What one building looks like; colours 0..255, lengths in metres."""

    height: float
    wall: Colour
    trim: Colour
    front: Colour
    storey: float
    bay: float
    window: tuple[float, float]
    shop: bool
    brick: bool
    ribbon: bool
    roof: float

    @classmethod
    def random(cls, rng: np.random.Generator, height: float, shops: float) -> House:
        """Draw a house at random, about ``height`` high; ``shops`` is the chance of a shop in it."""
        wall = np.array(WALLS[rng.integers(len(WALLS))]) * rng.uniform(0.85, 1.15) + rng.normal(0, 3, 3)
        modern = rng.random() < 0.25
        return cls(
            height=height * rng.uniform(0.82, 1.2),
            wall=wall,
            trim=(225, 222, 214) if rng.random() < 0.65 else wall * 0.6,
            front=np.array(FRONTS[rng.integers(len(FRONTS))]) * rng.uniform(0.6, 1.2),
            storey=rng.uniform(2.7, 3.4),
            bay=rng.uniform(1.9, 3.2),
            window=(rng.uniform(0.4, 0.55), rng.uniform(0.45, 0.62)),
            shop=rng.random() < shops,
            brick=not modern and rng.random() < 0.7,
            ribbon=modern and rng.random() < 0.6,
            roof=0.0 if modern else rng.uniform(1.2, 3.2),
        )


class Facade:
    """A drawing of a wall in metres (x along it, y up), ``size_m`` large on ``size_px`` pixels."""

    def __init__(self, size_m: tuple[float, float], size_px: tuple[int, int], wall: Colour) -> None:
        self.width, self.height = size_m
        self.sx, self.sy = size_px[0] / size_m[0], size_px[1] / size_m[1]
        self.picture = Image.new("RGB", size_px, _tuple(wall))
        self.classes = Image.new("L", size_px, BUILDING)
        self._pen, self._class_pen = ImageDraw.Draw(self.picture), ImageDraw.Draw(self.classes)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, label: int | None = None) -> None:
        """Fill the rectangle from ``x0, y0`` (lower left) to ``x1, y1``."""
        area = (
            x0 * self.sx,
            (self.height - y1) * self.sy,
            x1 * self.sx - 1,
            (self.height - y0) * self.sy - 1,
        )
        if area[2] < area[0] or area[3] < area[1]:
            return
        self._pen.rectangle(area, fill=_tuple(colour))
        if label is not None:
            self._class_pen.rectangle(area, fill=label)


def _tuple(colour: Colour) -> tuple[int, int, int]:
    r, g, b = (min(255, max(0, round(float(c)))) for c in colour)
    return r, g, b


def _draw_window(f: Facade, rng: np.random.Generator, box: tuple[float, float, float, float], trim: Colour) -> None:
    x0, y0, x1, y1 = box
    glass = np.array([44, 50, 58]) * rng.uniform(0.4, 1.3) if rng.random() < 0.8 else np.array([132, 146, 160])
    f.box(x0 - 0.09, y0 - 0.09, x1 + 0.09, y1 + 0.09, trim)
    f.box(x0, y0, x1, y1, glass)
    f.box(x0, (y0 + y1) / 2 if rng.random() < 0.5 else y0, x1, y1, glass * rng.uniform(1.0, 1.9))
    if rng.random() < 0.35:
        curtain = np.array([170, 165, 155]) * rng.uniform(0.5, 0.9)
        f.box(x0, y0, x0 + (x1 - x0) * 0.22, y1, curtain)
        f.box(x1 - (x1 - x0) * 0.22, y0, x1, y1, curtain)
    middle = (x0 + x1) / 2
    f.box(middle - 0.03, y0, middle + 0.03, y1, trim)
    f.box(x0, (y0 + y1) / 2 - 0.03, x1, (y0 + y1) / 2 + 0.03, trim)
    f.box(x0 - 0.15, y0 - 0.2, x1 + 0.15, y0 - 0.09, np.asarray(trim) * 0.8)


def _draw_lettering(f: Facade, rng: np.random.Generator, box: tuple[float, float, float, float], ink: Colour) -> None:
    x, y0, x1, y1 = box
    while x < x1:
        w = rng.uniform(0.10, 0.26)
        if rng.random() < 0.85:
            f.box(x, y0, x + 0.07, y1, ink)
            f.box(x, rng.choice([y0, (y0 + y1) / 2 - 0.04, y1 - 0.08]), x + w, y1, ink)
            f.box(x + 0.07, y0 + 0.08, x + w - 0.05, y1 - 0.08, np.asarray(ink) * 0.5)
        x += w + 0.07


def _draw_shop(f: Facade, rng: np.random.Generator, house: House) -> None:
    f.box(0, 0, f.width, 3.3, house.front)
    f.box(0.25, 0.55, f.width - 0.25, 2.55, np.array([46, 48, 50]) * rng.uniform(0.5, 1.3))
    for _ in range(int(f.width * 3)):
        x, y = rng.uniform(0.3, f.width - 0.8), rng.uniform(0.6, 1.9)
        goods = (rng.uniform(60, 170) + rng.normal(0, 28, 3)) * rng.uniform(0.3, 1.0)
        f.box(x, y, x + rng.uniform(0.1, 0.5), y + rng.uniform(0.1, 0.6), goods)
    x = 0.25
    while x < f.width:
        f.box(x - 0.05, 0.5, x + 0.05, 2.6, np.asarray(house.front) * 1.15 + 8)
        x += rng.uniform(1.1, 2.0)
    door = rng.uniform(0.3, max(0.4, f.width - 1.4))
    f.box(door, 0, door + 1.0, 2.5, np.asarray(house.front) * 0.7)
    f.box(door + 0.15, 0.3, door + 0.85, 2.3, (30, 32, 34))
    board = np.asarray(house.front) * rng.uniform(0.8, 1.3) + rng.uniform(-10, 25)
    f.box(0, 2.6, f.width, 3.3, board)
    bright = float(np.mean(board)) < 110
    start = f.width * rng.uniform(0.05, 0.25)
    box = (start, 2.76, min(f.width * 0.92, start + rng.uniform(2.0, 4.5)), 3.16)
    f.box(box[0] - 0.2, 2.62, box[2] + 0.3, 3.28, board, SIGN)
    _draw_lettering(f, rng, box, (232, 226, 206) if bright else (40, 30, 30))
    f.box(0, 3.3, f.width, 3.42, house.trim)


def _draw_storeys(f: Facade, rng: np.random.Generator, house: House) -> None:
    bays = max(1, round(f.width / house.bay))
    bay = f.width / bays
    floor = 3.45 if house.shop else 0.0
    ground = not house.shop
    while floor + house.storey * 0.9 < house.height:
        if house.ribbon:
            y0, y1 = floor + house.storey * 0.32, floor + house.storey * 0.86
            f.box(0, y0, f.width, y1, (62, 72, 80))
            for i in range(bays * 2):
                f.box(i * bay / 2, y0, i * bay / 2 + 0.09, y1, house.trim)
                f.box(
                    i * bay / 2 + 0.1,
                    y0,
                    (i + 1) * bay / 2,
                    y1,
                    np.array([60, 70, 80]) * rng.uniform(0.5, 1.6),
                )
        for i in range(bays if not house.ribbon else 0):
            w, h = bay * house.window[0], house.storey * house.window[1]
            x0, y0 = (i + 0.5) * bay - w / 2, floor + house.storey * 0.28
            if ground and i % 2 == 1:
                f.box(x0, 0, x0 + min(w, 1.0), 2.3, house.front)
                f.box(x0 + 0.1, 1.9, x0 + min(w, 1.0) - 0.1, 2.2, (70, 74, 78))
            else:
                _draw_window(f, rng, (x0, y0, x0 + w, y0 + h), house.trim)
        floor += house.storey
        ground = False
        if house.storey * 0.9 + floor < house.height and house.trim[0] > 200 and house.bay > 2.6:
            f.box(0, floor - 0.1, f.width, floor + 0.05, np.asarray(house.trim) * 0.85)


def _wall_grain(rng: np.random.Generator, f: Facade, brick: bool) -> Floats:
    h, w = f.picture.height, f.picture.width
    grain = 1 + 0.07 * fractal_noise(rng, (h, w), 60, 5) + 0.04 * rng.standard_normal((h, w)).astype(np.float32)
    if brick and f.sy > 14:
        rows = np.arange(h) / f.sy / 0.15
        columns = np.arange(w) / f.sx / 0.3
        joint = ((rows % 1) < 0.2)[:, None] | (((columns[None, :] + 0.5 * (np.floor(rows) % 2)[:, None]) % 1) < 0.1)
        grain = grain * np.where(joint, 1.10, 0.98)
    up = np.linspace(1.06, 0.84, h, dtype=np.float32)[:, None]
    return (grain * up).astype(np.float32)


def facade(
    rng: np.random.Generator, house: House, width_m: float, size_px: tuple[int, int], blank: bool = False
) -> tuple[Floats, Bytes]:
    """Draw the front of a house (or a ``blank`` end wall): colours H x W x 3 and classes H x W."""
    f = Facade((width_m, house.height), size_px, house.wall)
    if not blank:
        _draw_storeys(f, rng, house)
        if house.shop:
            _draw_shop(f, rng, house)
        f.box(0, house.height - 0.3, width_m, house.height, np.asarray(house.trim) * 0.8)
        f.box(width_m - 0.12, 0, width_m - 0.04, house.height, (50, 50, 52))
    elif rng.random() < 0.5:
        x = width_m * rng.uniform(0.2, 0.6)
        _draw_window(f, rng, (x, house.height * 0.55, x + 0.9, house.height * 0.55 + 1.4), house.trim)
    rgb = np.asarray(f.picture, dtype=np.float32) * _wall_grain(rng, f, house.brick)[..., None]
    return rgb, np.asarray(f.classes)


def paint_wall(
    canvas: Canvas,
    rng: np.random.Generator,
    house: House,
    foot: tuple[tuple[float, float], tuple[float, float]],
    blank: bool = False,
    shadow_m: float = 0.0,
) -> None:
    """Paint one wall from ``foot[0]`` to ``foot[1]`` (x, z: left to right as seen from outside).

    The lowest ``shadow_m`` metres lie in the shadow of the houses opposite.
    """
    a, b = (np.array(p, dtype=np.float64) for p in foot)
    width = float(np.hypot(*(b - a)))
    corners = [(a[0], house.height, a[1]), (b[0], house.height, b[1]), (b[0], 0.0, b[1]), (a[0], 0.0, a[1])]
    p = canvas.camera.project(corners)
    across = float(np.ptp(p[:, 0]))
    down = float(max(p[3, 1] - p[0, 1], p[2, 1] - p[1, 1]))
    if p[:, 0].max() < 0 or p[:, 0].min() > canvas.camera.width or across < 1:
        return
    size = (int(np.clip(across, 8, 900)), int(np.clip(down, 8, 1100)))
    rgb, labels = facade(rng, house, width, size, blank)
    normal = ((b[1] - a[1]) / width, 0.0, -(b[0] - a[0]) / width)
    lit = 1 / (1 + np.exp(-(np.linspace(house.height, 0, size[1]) - shadow_m) * 6)) if shadow_m > 0 else None
    shade = canvas.light.shade(normal, 0.0)
    sunny = canvas.light.shade(normal) - shade
    factor = shade + sunny * (np.ones(size[1]) if lit is None else lit)[:, None]
    paste_texture(canvas, rgb * factor[:, None, :].astype(np.float32), labels, corners)


def _slates(rng: np.random.Generator, light: Light, normal: Colour, colour: Colour) -> Floats:
    h, w = 48, 96
    courses = 1 - 0.12 * ((np.arange(h) % 4) == 0)[:, None]
    grain = (1 + 0.06 * smooth_noise(rng, (h, w), 5) + 0.05 * rng.standard_normal((h, w))) * courses
    slates: Floats = np.asarray(colour) * grain[..., None] * light.shade(normal)
    return slates


def _paint_chimney(
    canvas: Canvas, house: House, at: NDArray[np.float64], back: NDArray[np.float64], top: float, low: float
) -> None:
    along = np.array([back[1], -back[0]])
    for step, tone in ((along * 1.1, 0.7), (back * 1.1, 0.9)):
        a, b = at - step / 2, at + step / 2
        stack = np.full((12, 12, 3), np.asarray(house.wall) * tone, dtype=np.float32) * canvas.light.ambient
        stack[:2] *= 0.7
        box = [(a[0], top, a[1]), (b[0], top, b[1]), (b[0], low, b[1]), (a[0], low, a[1])]
        paste_texture(canvas, stack, np.full((12, 12), BUILDING, dtype=np.uint8), box)


def paint_roof(
    canvas: Canvas,
    rng: np.random.Generator,
    house: House,
    foot: tuple[tuple[float, float], tuple[float, float]],
) -> None:
    """Paint the roof slope above the wall on ``foot``, and a chimney or two on its ridge."""
    if house.roof == 0.0:
        return
    a, b = (np.array(p, dtype=np.float64) for p in foot)
    width = float(np.hypot(*(b - a)))
    back = np.array([-(b[1] - a[1]), b[0] - a[0]]) / width * ROOF_DEPTH_M
    eaves, ridge = house.height, house.height + house.roof
    slate = np.array([(72, 74, 80), (96, 66, 54), (84, 78, 72)][rng.integers(3)]) * rng.uniform(0.8, 1.2)
    ra, rb = a + back, b + back
    lean, up = np.array([house.roof, ROOF_DEPTH_M]) / math.hypot(house.roof, ROOF_DEPTH_M)
    normal = (-back[0] / ROOF_DEPTH_M * lean, up, -back[1] / ROOF_DEPTH_M * lean)
    labels = np.full((48, 96), BUILDING, dtype=np.uint8)
    for _ in range(int(rng.integers(0, 3))):
        at = ra + (rb - ra) * rng.uniform(0.05, 0.85)
        _paint_chimney(canvas, house, at, back / ROOF_DEPTH_M, ridge + rng.uniform(0.6, 1.3), eaves)
    slope = [(ra[0], ridge, ra[1]), (rb[0], ridge, rb[1]), (b[0], eaves, b[1]), (a[0], eaves, a[1])]
    paste_texture(canvas, _slates(rng, canvas.light, normal, slate), labels, slope)


def paint_gable(
    canvas: Canvas,
    rng: np.random.Generator,
    house: House,
    foot: tuple[tuple[float, float], tuple[float, float]],
) -> None:
    """Paint the triangle of wall under the roof above an end wall on ``foot``."""
    if house.roof == 0.0:
        return
    (ax, az), (bx, bz) = foot
    h, w = 40, 60
    rows, columns = np.arange(h)[:, None], np.arange(w)[None, :]
    inside = np.abs(columns - w / 2) < rows / h * w / 2
    labels = np.where(inside, BUILDING, NOTHING).astype(np.uint8)
    length = math.hypot(bx - ax, bz - az)
    shade = canvas.light.shade(((bz - az) / length, 0.0, -(bx - ax) / length))
    rgb = np.asarray(house.wall) * shade * (1 + 0.05 * smooth_noise(rng, (h, w), 6))[..., None]
    top = house.height + house.roof
    corners = [(ax, top, az), (bx, top, bz), (bx, house.height, bz), (ax, house.height, az)]
    paste_texture(canvas, rgb.astype(np.float32), labels, corners)
