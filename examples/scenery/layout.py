"""Where everything in a street scene stands: houses, trees, posts, vehicles and people, by distance."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from scenery.buildings import House, paint_gable, paint_roof, paint_wall
from scenery.canvas import Camera, Canvas, Floats, Light
from scenery.furniture import (
    paint_bare_tree,
    paint_bollard,
    paint_fence,
    paint_hedge,
    paint_lamp_post,
    paint_leafy_tree,
    paint_sign,
    paint_traffic_light,
)
from scenery.ground import GroundPen, Sky, Street, draw_markings, paint_ground, paint_sky
from scenery.people import paint_bicyclist, paint_pedestrian
from scenery.vehicles import BODIES, PAINTS, Vehicle, paint_vehicle, shadow_of

Paint = Callable[[], object]


class Scene:
    """A street with everything on it, collected by distance and then painted far to near."""

    def __init__(self, rng: np.random.Generator, street: Street, sky: Sky, light: Light, camera: Camera) -> None:
        self.rng = rng
        self.street = street
        self.sky, self.light = sky, light
        self.canvas = Canvas(camera, light)
        self.house_height = rng.uniform(6.5, 13.0)
        self.shops = rng.uniform(0.1, 0.9)
        self.vehicles: list[Vehicle] = []
        self.shadows: list[list[tuple[float, float]]] = []
        self._paints: list[tuple[float, int, Paint]] = []

    def add(self, x: float, z: float, paint: Paint) -> None:
        """Remember something to paint whose distance is that of the ground point ``x, z``."""
        self._paints.append((-self.canvas.camera.depth(x, z), len(self._paints), paint))

    def spread(self, offset: float, z: float) -> tuple[float, float]:
        """World position of an offset from the street's axis."""
        return self.street.at(offset, z)

    def cast(self, x: float, z: float, width: float, height: float) -> None:
        """Let something upright, ``width`` by ``height`` metres, throw a shadow on the ground."""
        sx, sy, sz = self.light.towards_sun
        dx, dz = -sx / sy * height, -sz / sy * height
        half = width / 2
        self.shadows.append([(x - half, z), (x + half, z), (x + half + dx, z + dz), (x - half + dx, z + dz)])

    def paint(self) -> None:
        """Paint sky, ground and all that was added."""
        paint_sky(self.canvas, self.rng, self.sky)
        markings = draw_markings(self.canvas, self.rng, self.street)
        paint_ground(self.canvas, self.rng, self.street, markings, self._sunlight())
        for _, _, paint in sorted(self._paints, key=lambda entry: entry[:2]):
            paint()

    def _sunlight(self) -> Floats:
        cast, contact = GroundPen(self.canvas, self.street), GroundPen(self.canvas, self.street)
        for polygon in self.shadows:
            cast.world(polygon, 255)
        for vehicle in self.vehicles:
            contact.world(shadow_of(vehicle)[:, [0, 2]], 255)
        scale = self.canvas.camera.height / 720
        return np.asarray(1 - cast.result(2.5 * scale) - 1.7 * contact.result(5 * scale), dtype=np.float32)


def _add_house(scene: Scene, side: int, z0: float, z1: float, house: House) -> None:
    line = scene.street.house_line(side)
    near, far = scene.spread(line, z0), scene.spread(line, z1)
    foot = (near, far) if side < 0 else (far, near)
    deep = 9.0 * side
    end = ((near[0] + deep, z0), near) if side < 0 else (near, (near[0] + deep, z0))
    sun_x, sun_y = scene.light.towards_sun[0], scene.light.towards_sun[1]
    across = scene.street.house_line(1) - scene.street.house_line(-1)
    shadow = scene.house_height - across * sun_y / max(abs(sun_x), 0.05) if sun_x * side < 0 else 0.0

    def paint() -> None:
        paint_roof(scene.canvas, scene.rng, house, foot)
        paint_gable(scene.canvas, scene.rng, house, end)
        paint_wall(scene.canvas, scene.rng, house, end, blank=True)
        paint_wall(scene.canvas, scene.rng, house, foot, shadow_m=shadow)

    # Counted as farther than it is: all that stands on the pavement before it is painted later.
    scene.add(far[0], z1 + 5, paint)
    sx, sy, sz = scene.light.towards_sun
    dx, dz = -sx / sy * house.height, -sz / sy * house.height
    scene.shadows.append([near, far, (far[0] + dx, z1 + dz), (near[0] + dx, z0 + dz)])


def _first_visible(scene: Scene, line: float) -> float:
    """Distance beyond which all of the line at this offset is well before the camera."""
    camera = scene.canvas.camera
    return max(2.0, 1.0 - (line - camera.x) * math.tan(camera.yaw) + 1.0)


def add_houses(scene: Scene) -> None:
    """Line both sides with houses, leaving out side streets and verges."""
    rng, street = scene.rng, scene.street
    last = street.end - street.end_width - 3
    for side in (-1, 1):
        if side in street.verge:
            continue
        z = _first_visible(scene, street.house_line(side))
        gaps = [(z0 - 2.0, z1 + 2.0) for s, z0, z1 in street.gaps if s == side]
        while z < min(last, 125):
            z1 = z + rng.uniform(4.5, 12)
            for g0, g1 in gaps:
                if z < g1 and z1 > g0:
                    z, z1 = (g1, g1 + 8) if z > g0 - 3 else (z, g0)
            z1 = min(z1, last)
            if z1 - z < 1.5:
                break
            _add_house(scene, side, z, z1, House.random(rng, scene.house_height, scene.shops))
            z = z1 + (rng.uniform(1.0, 5.0) if rng.random() < 0.12 else 0.0)


def add_end(scene: Scene) -> None:
    """Close the view: a row of houses and trees behind the crossing street at the end."""
    rng, street, camera = scene.rng, scene.street, scene.canvas.camera
    z = street.end + 3
    centre = float(street.shift(street.end)) + z * math.tan(camera.yaw) * 0.5
    x = centre - z * 0.9
    while x < centre + z * 0.9:
        width = rng.uniform(6, 13)
        house = House.random(rng, scene.house_height, scene.shops * 0.6)
        if rng.random() < (0.75 if z < 90 else 0.4):
            foot = ((x, z), (x + width, z))
            scene.add(x + width / 2, z, partial(_paint_front, scene, house, foot))
        else:
            _add_tree(scene, x + width / 2, z + 2, rng.uniform(7, 12))
            a, b = (x - 1, z + 4), (x + width + 1, z + 4)
            scene.add(x, z + 4, partial(paint_hedge, scene.canvas, rng, a, b, 4.0))
        x += width


def _paint_front(scene: Scene, house: House, foot: tuple[tuple[float, float], tuple[float, float]]) -> None:
    paint_roof(scene.canvas, scene.rng, house, foot)
    paint_wall(scene.canvas, scene.rng, house, foot)


def _add_tree(scene: Scene, x: float, z: float, height: float) -> None:
    paint = paint_bare_tree if scene.rng.random() < 0.55 else paint_leafy_tree
    scene.add(x, z, partial(paint, scene.canvas, scene.rng, x, z, height))
    scene.cast(x, z, height * 0.6, height)


def add_greenery(scene: Scene) -> None:
    """Plant street trees, and hedges and trees along the verges."""
    rng, street = scene.rng, scene.street
    for side in (-1, 1):
        line = street.house_line(side)
        if side in street.verge:
            z = _first_visible(scene, line)
            top = rng.uniform(1.5, 3.5)
            while z < street.end - street.end_width - 4:
                a, b = scene.spread(line + 3 * side, z), scene.spread(line + 3 * side, z + 6)
                a, b = (a, b) if side < 0 else (b, a)
                hedge = partial(paint_hedge, scene.canvas, rng, a, b, top)
                scene.add(*scene.spread(line + 3 * side, z + 3), hedge)
                x, zz = scene.spread(line + side * rng.uniform(1.5, 7), z + rng.uniform(4, 8))
                _add_tree(scene, x, zz, rng.uniform(5, 11))
                z += 6
        elif rng.random() < 0.55:
            z = rng.uniform(9, 18)
            while z < min(90, street.end - 12):
                inset = 0.9 if rng.random() < 0.8 else -0.5
                _add_tree(scene, *scene.spread(line - side * inset, z), rng.uniform(4.5, 8.5))
                z += rng.uniform(8, 22)


def add_furniture(scene: Scene) -> None:
    """Set lamp posts, traffic lights, signs, bollards and railings on the pavements."""
    rng, street, canvas = scene.rng, scene.street, scene.canvas
    kerbs = {-1: -street.left - 0.4, 1: street.right + 0.4}
    lamp_side, z = int(rng.choice([-1, 1])), rng.uniform(8, 14)
    while z < min(110, street.end - 8):
        x, zz = scene.spread(kerbs[lamp_side], z)
        scene.add(x, zz, partial(paint_lamp_post, canvas, rng, x, zz, -lamp_side))
        lamp_side, z = (-lamp_side if rng.random() < 0.6 else lamp_side), z + rng.uniform(10, 20)
    for paint, count, nearest in (
        (paint_sign, 4, 7.0),
        (paint_traffic_light, 2, 8.0),
        (paint_bollard, 5, 5.0),
    ):
        for _ in range(int(rng.integers(1, count + 1))):
            x, zz = scene.spread(kerbs[int(rng.choice([-1, 1]))], rng.uniform(nearest, 32))
            scene.add(x, zz, partial(paint, canvas, rng, x, zz))
    for side in (-1, 1):
        at_kerb = side not in street.parking and rng.random() < 0.6
        if side in street.verge or at_kerb or rng.random() < 0.25:
            offset = kerbs[side] if at_kerb and side not in street.verge else street.house_line(side) - 0.3 * side
            _add_railing(scene, side, offset, side not in street.verge or rng.random() < 0.6)


def _add_railing(scene: Scene, side: int, offset: float, open_: bool) -> None:
    rng = scene.rng
    z = max(rng.uniform(6, 12), _first_visible(scene, offset) + 1)
    last, top = z + rng.uniform(10, 34), rng.uniform(0.95, 1.3)
    seed = int(rng.integers(2**31))
    while z < min(last, scene.street.end - scene.street.end_width - 3):
        a, b = scene.spread(offset, z), scene.spread(offset, z + 4)
        a, b = (a, b) if side < 0 else (b, a)
        # Every length of one fence starts from the same random state, so that they look alike.
        # A railing at the kerb hides who walks beside it, one at the building line is hidden by them.
        order = z if abs(offset) < abs(scene.street.house_line(side)) - 0.5 else z + 4
        scene.add(*scene.spread(offset, order), partial(_paint_panel, scene, seed, (a, b), top, open_))
        z += 4


def _paint_panel(
    scene: Scene, seed: int, foot: tuple[tuple[float, float], tuple[float, float]], top: float, open_: bool
) -> None:
    paint_fence(scene.canvas, np.random.default_rng(seed), foot[0], foot[1], top, open_)


def _add_vehicle(scene: Scene, kind: str, offset: float, z: float, away: bool) -> None:
    rng = scene.rng
    x, _ = scene.spread(offset, z)
    slope = 2 * scene.street.bend * max(z - 8, 0)
    paint = (np.array(PAINTS[rng.integers(len(PAINTS))]) * rng.uniform(0.85, 1.1)).tolist()
    if kind == "bus":
        paint = [(40, 80, 140), (150, 30, 34), (200, 200, 200)][rng.integers(3)]
    heading = math.atan(slope) + rng.normal(0, 0.02) + (0 if away else math.pi)
    vehicle = Vehicle(kind, x, z, heading, paint, bool(rng.random() < 0.4))
    scene.vehicles.append(vehicle)
    scene.add(x, z - 0.5, partial(paint_vehicle, scene.canvas, rng, vehicle))
    body = BODIES[kind]
    scene.cast(x, z, body.width + 1.5, body.outline[4][1])


def _kind(rng: np.random.Generator, parked: bool) -> str:
    chances = [0.42, 0.24, 0.22, 0.12, 0.0] if parked else [0.38, 0.24, 0.18, 0.12, 0.08]
    return str(rng.choice(["hatch", "saloon", "estate", "van", "bus"], p=chances))


def add_vehicles(scene: Scene) -> None:
    """Park cars along the kerbs and let some drive in both lanes."""
    rng, street = scene.rng, scene.street
    last = street.end - street.end_width - 4
    for side in street.parking:
        z = rng.uniform(5.5, 12)
        while z < min(last, 75):
            if rng.random() < 0.75:
                edge = -street.left + 1.0 if side < 0 else street.right - 1.0
                _add_vehicle(scene, _kind(rng, True), edge, z, bool(side < 0 or rng.random() < 0.3))
            z += rng.uniform(5.3, 7.5)
    inner = {s: (2.0 if s in street.parking else 0.0) for s in (-1, 1)}
    ahead, oncoming = -(street.left - inner[-1]) / 2, (street.right - inner[1]) / 2
    lanes = [(ahead, True, 11.0)] + ([(oncoming, False, 8.0)] if street.two_way else [])
    for lane, away, nearest in lanes:
        z = rng.uniform(nearest, 34)
        while z < min(last, 95):
            kind = _kind(rng, False)
            z += BODIES[kind].length / 2
            _add_vehicle(scene, kind, lane, z, away)
            z += BODIES[kind].length / 2 + rng.uniform(5, 35)


def add_people(scene: Scene) -> None:
    """Send people along the pavements and across the road, and bicyclists along the kerb."""
    rng, street = scene.rng, scene.street
    for _ in range(int(rng.integers(4, 13))):
        side = int(rng.choice([-1, 1]))
        walk = street.walk_left if side < 0 else street.walk_right
        offset = street.house_line(side) - side * rng.uniform(0.4, max(0.6, walk - 0.7))
        if rng.random() < 0.08:
            offset = rng.uniform(-street.left, street.right)
        z = rng.uniform(7, 16) if rng.random() < 0.45 else rng.uniform(12, 45)
        for _ in range(2 if rng.random() < 0.35 else 1):
            x, zz = scene.spread(offset, min(z, street.end - 1))
            scene.add(x, zz, partial(paint_pedestrian, scene.canvas, rng, x, zz))
            scene.cast(x, zz, 0.3, 1.7)
            offset += rng.uniform(0.45, 0.7) * rng.choice([-1, 1])
            z += rng.uniform(-0.5, 0.5)
    for i in range(int(rng.integers(1, 4))):
        crossing = bool(rng.random() < 0.35)
        if crossing:
            offset = rng.uniform(-street.left + 0.8, street.right - 0.8)
        else:
            offset = -street.left + rng.uniform(0.6, 1.2) + (2.0 if -1 in street.parking else 0.0)
        z = rng.uniform(7, 14) if i == 0 else rng.uniform(9, 30)
        x, zz = scene.spread(offset, z)
        scene.add(x, zz, partial(paint_bicyclist, scene.canvas, rng, x, zz, crossing))
        scene.cast(x, zz, 0.25, 1.7)


def furnish(scene: Scene) -> None:
    """Put everything a street has on the scene."""
    for add in (add_houses, add_end, add_greenery, add_furniture, add_vehicles, add_people):
        add(scene)
