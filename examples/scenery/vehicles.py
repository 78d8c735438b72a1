"""Cars, vans and buses as small extruded bodies, shaded face by face."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scenery.canvas import CAR, Canvas, Colour, Points, Sketch

PAINTS = (
    (150, 152, 156), (196, 198, 200), (40, 42, 46), (28, 30, 36), (34, 48, 92), (104, 34, 36), (134, 44, 42),
    (60, 66, 70), (84, 110, 128), (30, 62, 52), (222, 222, 220), (96, 100, 104), (150, 132, 96), (52, 84, 130),
)  # fmt: skip


@dataclass(frozen=True)
class Body:
    """Side view of a vehicle: outline from the lower rear over the roof to the lower front, 0..1 by metres.

    ``roles`` names the strip between each outline point and the next; ``belt`` is the height of the waist.
    """

    length: float
    width: float
    belt: float
    outline: tuple[tuple[float, float], ...]
    roles: tuple[str, ...]
    pillars: tuple[float, ...]


_CAR_ROLES = ("rear", "rear", "glass", "roof", "glass", "bonnet", "front", "front")
BODIES = {
    "hatch": Body(3.9, 1.68, 0.92,
        ((0.0, 0.3), (0.0, 0.6), (0.02, 0.95), (0.10, 1.38), (0.50, 1.45), (0.74, 0.95), (0.97, 0.78), (1.0, 0.55),
         (0.99, 0.25)), _CAR_ROLES, (0.14, 0.30, 0.52, 0.72)),
    "saloon": Body(4.5, 1.75, 0.92,
        ((0.0, 0.3), (0.0, 0.6), (0.01, 0.92), (0.14, 0.98), (0.27, 1.38), (0.54, 1.42), (0.72, 0.95), (0.98, 0.75),
         (1.0, 0.52), (0.99, 0.25)),
        ("rear", "rear", "bonnet", "glass", "roof", "glass", "bonnet", "front", "front"), (0.2, 0.38, 0.54, 0.7)),
    "estate": Body(4.5, 1.8, 1.0,
        ((0.0, 0.35), (0.0, 0.7), (0.01, 1.02), (0.06, 1.58), (0.52, 1.66), (0.70, 1.05), (0.97, 0.9), (1.0, 0.6),
         (0.99, 0.3)), _CAR_ROLES, (0.08, 0.28, 0.48, 0.67)),
    "van": Body(5.0, 1.95, 1.2,
        ((0.0, 0.35), (0.0, 0.8), (0.005, 1.3), (0.02, 2.05), (0.72, 2.15), (0.86, 1.25), (0.98, 1.05), (1.0, 0.7),
         (0.99, 0.3)), ("rear", "rear", "rear", "roof", "glass", "bonnet", "front", "front"), (0.66, 0.83)),
    "bus": Body(9.5, 2.45, 1.15,
        ((0.0, 0.35), (0.0, 1.0), (0.0, 1.3), (0.005, 2.75), (0.01, 3.0), (0.99, 3.0), (0.995, 2.7), (1.0, 1.2),
         (1.0, 0.8), (0.995, 0.35)),
        ("rear", "rear", "glass", "rear", "roof", "front", "glass", "front", "front"),
        (0.02, 0.14, 0.27, 0.40, 0.53, 0.66, 0.79, 0.92, 0.98)),
}  # fmt: skip


@dataclass(frozen=True)
class Vehicle:
    """One vehicle standing at ``x, z`` (its middle), facing ``heading`` radians right of straight ahead."""

    kind: str
    x: float
    z: float
    heading: float
    paint: Colour
    braking: bool


class _Painter:
    """Turns a vehicle's own coordinates (along, across, up) into shapes on one sketch."""

    def __init__(self, canvas: Canvas, vehicle: Vehicle) -> None:
        self.canvas, self.vehicle, self.body = canvas, vehicle, BODIES[vehicle.kind]
        h = self.body.outline[4][1] + 0.2
        reach, half = self.body.length / 2, self.body.width / 2 + 0.2
        box = [(s, w, y) for s in (-reach, reach) for w in (-half, half) for y in (0.0, h)]
        p = canvas.camera.project(self.world(np.array(box)))
        self.depth = float(p[:, 2].mean())
        self.sketch = Sketch(canvas, (p[:, 0].min(), p[:, 1].min(), p[:, 0].max(), p[:, 1].max()))
        self.middle = self.world(np.array([(0.0, 0.0, 0.7)]))[0]

    def world(self, points: Points) -> Points:
        """World points of vehicle points: N x 3 of along (from the middle), across (right), up."""
        sin, cos = math.sin(self.vehicle.heading), math.cos(self.vehicle.heading)
        s, w, y = points[:, 0], points[:, 1], points[:, 2]
        return np.stack([self.vehicle.x + s * sin + w * cos, y, self.vehicle.z + s * cos - w * sin], axis=1)

    def half_width(self, height: float) -> float:
        """Half the body's width at a height: it leans in above the waist."""
        lean = 0.22 if self.vehicle.kind in ("hatch", "saloon", "estate") else 0.05
        return self.body.width / 2 - lean * max(0.0, height - self.body.belt) / 0.5

    def facing(self, corners: Points) -> Points | None:
        """Outward unit normal of a face, or None if the camera is behind it."""
        normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
        normal = normal / (np.linalg.norm(normal) + 1e-9)
        centre = corners.mean(axis=0)
        if normal @ (centre - self.middle) < 0:
            normal = -normal
        camera = self.canvas.camera
        return normal if normal @ (np.array([camera.x, camera.height_m, 0.0]) - centre) > 0 else None

    def fill(self, corners: Points, colour: Colour, normal: Points | None) -> None:
        """Paint a polygon of world points, lit for its normal (None: in the dark underneath)."""
        light = self.canvas.light
        factor = light.ambient * 0.5 if normal is None else light.shade(normal)
        self.sketch.polygon(self.canvas.camera.project(corners)[:, :2], np.asarray(colour) * factor, CAR)


def _on_face(corners: Points, u0: float, v0: float, u1: float, v1: float) -> Points:
    a, b, c, d = corners
    uv = [(u0, v0), (u1, v0), (u1, v1), (u0, v1)]
    return np.array([(a * (1 - u) + b * u) * (1 - v) + (d * (1 - u) + c * u) * v for u, v in uv])


def _paint_strip(p: _Painter, rng: np.random.Generator, corners: Points, role: str, last: bool) -> None:
    normal = p.facing(corners)
    if normal is None:
        return
    paint = np.asarray(p.vehicle.paint)
    if role == "glass":
        p.fill(corners, paint, normal)
        p.fill(_on_face(corners, 0.07, 0.06, 0.93, 0.92), (40, 46, 52), normal)
        p.fill(_on_face(corners, 0.07, 0.5, 0.93, 0.92), np.array([64, 74, 82]) * rng.uniform(0.7, 1.5), normal)
        return
    p.fill(corners, paint * (0.55 if last and role in ("front", "rear") else 1.0), normal)
    if role in ("front", "rear") and not last:
        lamp = (215, 40, 30) if p.vehicle.braking else (130, 22, 20)
        lamp = (225, 228, 225) if role == "front" else lamp
        for u in (0.03, 0.82):
            p.fill(_on_face(corners, u, 0.42, u + 0.15, 0.86), np.asarray(lamp) * 0.75, normal)
            p.fill(_on_face(corners, u + 0.03, 0.5, u + 0.12, 0.72), lamp, normal)
        dark = (22, 22, 24) if role == "front" else paint * 0.7
        p.fill(_on_face(corners, 0.28, 0.45, 0.72, 0.85), dark, normal)
    elif role in ("front", "rear"):
        plate = (214, 214, 208) if role == "front" else (206, 178, 60)
        p.fill(_on_face(corners, 0.36, 0.35, 0.64, 0.8), plate, normal)
        p.fill(_on_face(corners, 0.39, 0.48, 0.61, 0.68), np.asarray(plate) * 0.4, normal)


def _paint_wheel(p: _Painter, along: float, side: float) -> None:
    radius = 0.45 if p.vehicle.kind == "bus" else 0.31
    normal = p.world(np.array([[0, side, 0], [0, 0, 0]]))
    outward = normal[0] - normal[1]
    angles = np.linspace(0, 2 * math.pi, 17)[:-1]
    for r, colour, out in (
        (radius + 0.06, (12, 12, 13), 0.0),
        (radius, (26, 26, 28), 0.01),
        (0.62 * radius, (118, 120, 124), 0.02),
    ):
        circle = [
            (along + r * math.cos(t), side * (p.body.width / 2 + out), max(0, radius + r * math.sin(t))) for t in angles
        ]
        p.fill(p.world(np.array(circle)), colour, outward)


def _paint_side(p: _Painter, rng: np.random.Generator, side: float) -> None:
    body, length = p.body, p.body.length

    def at(points: list[tuple[float, float]]) -> Points:
        return p.world(np.array([((s - 0.5) * length, side * p.half_width(y), y) for s, y in points]))

    low = [(s, min(y, body.belt)) for s, y in body.outline]
    normal = p.facing(at(low)[[0, 3, -1]])
    if normal is None:
        return
    paint = np.asarray(p.vehicle.paint)
    p.fill(at(low), paint, normal)
    p.fill(at([(0.01, body.belt - 0.16), (0.98, body.belt - 0.2), (0.97, body.belt - 0.12), (0.01, body.belt - 0.03)]),
           paint * 1.12 + 14, normal)  # fmt: skip
    p.fill(at([(0.01, 0.25), (0.99, 0.25), (1.0, 0.45), (0.0, 0.45)]), paint * 0.6, normal)
    high = [(s, y) for s, y in body.outline if y > body.belt]
    p.fill(at([(s, max(y, body.belt - 0.02)) for s, y in body.outline]), paint, normal)
    roof = max(y for _, y in high)
    s0, s1 = min(s for s, _ in high), max(s for s, _ in high)
    t0, t1 = (min(s for s, y in high if y > roof - 0.3), max(s for s, y in high if y > roof - 0.3))
    for left, right in zip(body.pillars[:-1], body.pillars[1:], strict=True):
        a, b = left + 0.012, right - 0.012
        y0, y1 = body.belt + 0.05, roof - 0.13 if p.vehicle.kind != "bus" else roof - 0.6
        ta, tb = max(a, t0 + 0.03 if a < (s0 + s1) / 2 else a), min(b, t1 - 0.01 if b > t1 else b)
        glass = np.array([44, 50, 56]) * rng.uniform(0.7, 1.6)
        p.fill(at([(a, y0), (b, y0), (max(tb, ta), y1), (min(ta, tb), y1)]), glass, normal)
        line = at([(right, 0.35), (right, body.belt)])
        ends = p.canvas.camera.project(line)[:, :2]
        p.sketch.stroke(ends, 1, paint * 0.5 * p.canvas.light.shade(normal), None)
    for along in (-0.31 * length, 0.31 * length):
        _paint_wheel(p, along, side)


def paint_vehicle(canvas: Canvas, rng: np.random.Generator, vehicle: Vehicle) -> None:
    """Paint a vehicle on the canvas; nothing if it is behind or beside the camera."""
    nearest = canvas.camera.depth(vehicle.x, vehicle.z) - BODIES[vehicle.kind].length / 2
    if nearest < 0.8:
        return
    p = _Painter(canvas, vehicle)
    if not p.sketch.visible:
        return
    body = p.body
    half, reach = body.width / 2 - 0.08, body.length / 2 - 0.1
    for end in (-reach, reach):
        p.fill(p.world(np.array([(end, -half, 0.18), (end, half, 0.18), (end, half, 0.5), (end, -half, 0.5)])),
               (14, 14, 15), None)  # fmt: skip
    for end in (-0.31 * body.length, 0.31 * body.length):
        for w in (-half, half - 0.2):
            tyre = [
                (end - 0.3, w, 0.0),
                (end - 0.3, w + 0.2, 0.0),
                (end - 0.3, w + 0.2, 0.5),
                (end - 0.3, w, 0.5),
            ]
            p.fill(p.world(np.array(tyre)), (18, 18, 20), None)
    faces = list(zip(body.outline[:-1], body.outline[1:], body.roles, strict=True))
    for side in (-1.0, 1.0):
        _paint_side(p, rng, side)
    for i, ((s0, y0), (s1, y1), role) in enumerate(faces):
        a, b, w0, w1 = (s0 - 0.5) * body.length, (s1 - 0.5) * body.length, p.half_width(y0), p.half_width(y1)
        if role == "front":
            corners = np.array([(b, -w1, y1), (b, w1, y1), (a, w0, y0), (a, -w0, y0)])
        else:
            corners = np.array([(a, -w0, y0), (a, w0, y0), (b, w1, y1), (b, -w1, y1)])
        _paint_strip(p, rng, p.world(corners), role, i in (0, len(faces) - 1))
    p.sketch.finish(1.0, p.depth, rng, 0.05)


def shadow_of(vehicle: Vehicle) -> Points:
    """Ground polygon (x, y, z world points) that lies dark under a vehicle."""
    body = BODIES[vehicle.kind]
    sin, cos = math.sin(vehicle.heading), math.cos(vehicle.heading)
    reach, half = body.length / 2 + 0.05, body.width / 2 + 0.12
    ends = ((-reach, -half), (-reach, half), (reach, half), (reach, -half))
    return np.array([(vehicle.x + s * sin + w * cos, 0.0, vehicle.z + s * cos - w * sin) for s, w in ends])
