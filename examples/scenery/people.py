"""Pedestrians and bicyclists as flat, jointed figures that face the camera."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from scenery.canvas import BICYCLIST, PEDESTRIAN, Canvas, Colour, Floats, Sketch, billboard

CLOTHES = (
    (34, 34, 38), (46, 48, 58), (26, 30, 46), (60, 50, 44), (90, 84, 78), (110, 28, 30), (40, 58, 50), (120, 116, 110),
    (52, 66, 96), (150, 144, 136), (78, 62, 84),
)  # fmt: skip
SKINS = ((196, 156, 132), (170, 128, 104), (120, 84, 66), (84, 58, 46))
VIVID = ((206, 220, 60), (214, 120, 40), (190, 40, 44))


def _pick(rng: np.random.Generator, colours: tuple[tuple[int, int, int], ...]) -> Floats:
    return np.array(colours[rng.integers(len(colours))]) * rng.uniform(0.7, 1.15)


def _limb(s: Sketch, joints: list[tuple[float, float]], width: float, colour: Colour, label: int) -> None:
    for i, (a, b) in enumerate(pairwise(joints)):
        s.stroke([a, b], width * (1 - 0.2 * i), colour, label)


def _head(s: Sketch, rng: np.random.Generator, x: float, y: float, label: int, helmet: bool = False) -> None:
    hair = _pick(rng, ((40, 32, 28), (24, 22, 22), (110, 84, 58), (150, 146, 140)))
    s.ellipse(x, y, 0.105, 0.135, hair, label)
    if rng.random() < 0.55:
        s.ellipse(x + rng.uniform(-0.03, 0.03), y - 0.04, 0.07, 0.085, _pick(rng, SKINS), label)
    if helmet:
        s.ellipse(x, y + 0.06, 0.125, 0.085, _pick(rng, ((200, 200, 200), (40, 40, 44), (160, 40, 40))), label)


def _draw_walker(s: Sketch, rng: np.random.Generator, k: float) -> None:
    label = PEDESTRIAN
    legs = np.asarray(_pick(rng, CLOTHES[:5]))
    stride = rng.uniform(0.03, 0.28) * rng.choice([-1, 1])
    forward = float(np.sign(stride))
    for sign, dim in ((-1, 0.7), (1, 1.0)):
        foot = sign * (stride + 0.05)
        knee = sign * (stride * 0.45 + 0.04) + 0.05 * forward
        _limb(s, [(sign * 0.06, 0.88 * k), (knee, 0.47 * k), (foot, 0.06)], 0.16, legs * dim, label)
        s.ellipse(foot + 0.04 * forward, 0.04, 0.12, 0.045, (24, 22, 22), label)
    _draw_coat(s, rng, k, -stride * 0.8)
    if rng.random() < 0.35:
        x = rng.choice([-0.3, 0.3])
        s.rectangle(x - 0.11, 0.55 * k, x + 0.11, 0.88 * k, _pick(rng, CLOTHES), label)
    s.rectangle(-0.05, 1.46 * k, 0.05, 1.56 * k, _pick(rng, SKINS), label)
    _head(s, rng, 0.0, 1.64 * k, label)


def _draw_coat(s: Sketch, rng: np.random.Generator, k: float, swing: float) -> None:
    label = PEDESTRIAN
    coat = _pick(rng, CLOTHES)
    hem = 0.5 * k if rng.random() < 0.25 else rng.uniform(0.7, 0.85) * k
    waist, shoulder, hand = 1.1 * k, 1.42 * k, 0.86 * k
    wide = rng.uniform(0.18, 0.24)
    far_arm = [(-0.17, shoulder - 0.06), (-0.22 + swing * 0.4, waist), (-0.2 + swing, hand)]
    near_arm = [(0.17, shoulder - 0.06), (0.23 - swing * 0.4, waist), (0.2 - swing, hand)]
    left = [(-0.1, 1.5 * k), (-0.21, shoulder), (-0.17, waist), (-wide, hem)]
    right = [(wide, hem), (0.17, waist), (0.21, shoulder), (0.1, 1.5 * k)]
    _limb(s, far_arm, 0.12, coat * 0.8, label)
    s.polygon(left + right, coat, label)
    s.polygon([(0.03, hem), *right[:3], (0.05, 1.45 * k)], coat * 0.82, label)
    _limb(s, near_arm, 0.12, coat * 1.12, label)
    s.ellipse(0.2 - swing, hand - 0.02 * k, 0.05, 0.06, _pick(rng, SKINS), label)


def paint_pedestrian(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """Paint one walking or standing person at ``x, z``."""
    board = billboard(canvas, x, z, (-0.6, -0.05, 0.6, 2.0))
    if board is None:
        return
    sketch, depth = board
    _draw_walker(sketch, rng, rng.uniform(0.88, 1.06))
    sketch.finish(canvas.light.shade((0.0, 0.3, -0.95)), depth, rng, 0.12)


def _draw_bicycle_side(s: Sketch, rng: np.random.Generator, d: float) -> None:
    frame = _pick(rng, ((30, 30, 34), (120, 30, 34), (40, 60, 120), (150, 150, 154), (50, 90, 60)))
    for x in (-0.52, 0.52):
        s.ring(x, 0.34, 0.33, 0.33, 0.045, (20, 20, 22), BICYCLIST)
        s.ring(x, 0.34, 0.28, 0.28, 0.015, (120, 120, 124), BICYCLIST)
        for t in np.linspace(0, math.pi, 5)[:-1]:
            c, n = 0.28 * math.cos(t), 0.28 * math.sin(t)
            s.stroke([(x - c, 0.34 - n), (x + c, 0.34 + n)], 0.008, (110, 110, 112), BICYCLIST)
    tubes = [[(-0.52, 0.34), (-0.02, 0.3), (0.4, 0.8), (-0.16, 0.78), (-0.52, 0.34)], [(-0.02, 0.3), (-0.19, 0.9)],
             [(0.52, 0.34), (0.38, 0.95), (0.47, 1.02)]]  # fmt: skip
    for tube in tubes:
        s.stroke([(d * x, y) for x, y in tube], 0.04, frame, BICYCLIST)
    s.stroke([(d * -0.3, 0.93), (d * -0.08, 0.92)], 0.06, (24, 24, 24), BICYCLIST)


def _draw_rider_side(s: Sketch, rng: np.random.Generator, d: float, coat: Colour) -> None:
    legs = _pick(rng, CLOTHES[:5])
    turn = rng.uniform(0, 2 * math.pi)
    for phase, dim in ((turn + math.pi, 0.7), (turn, 1.0)):
        foot = (d * (0.0 + 0.15 * math.cos(phase)), 0.3 + 0.15 * math.sin(phase))
        knee = (d * 0.2, 0.68 + 0.1 * math.sin(phase))
        _limb(s, [(d * -0.16, 0.98), knee, foot], 0.16, np.asarray(legs) * dim, BICYCLIST)
        s.ellipse(foot[0] + d * 0.05, foot[1] - 0.03, 0.12, 0.04, (24, 22, 22), BICYCLIST)
    lean = rng.uniform(0.05, 0.2)
    back = [(-0.3, 0.9), (-0.02, 0.92), (lean + 0.14, 1.42), (lean, 1.54), (lean - 0.16, 1.46)]
    s.polygon([(d * x, y) for x, y in back], coat, BICYCLIST)
    _limb(
        s,
        [(d * (lean + 0.02), 1.42), (d * 0.3, 1.16), (d * 0.46, 1.04)],
        0.12,
        np.asarray(coat) * 0.85,
        BICYCLIST,
    )
    if rng.random() < 0.4:
        s.ellipse(d * (lean - 0.24), 1.24, 0.13, 0.22, _pick(rng, CLOTHES), BICYCLIST)
    _head(s, rng, d * (lean + 0.06), 1.68, BICYCLIST, rng.random() < 0.5)


def _draw_rider_behind(s: Sketch, rng: np.random.Generator, coat: Colour) -> None:
    legs = _pick(rng, CLOTHES[:5])
    s.ellipse(0, 0.34, 0.045, 0.34, (18, 18, 20), BICYCLIST)
    s.stroke([(-0.28, 1.02), (0.28, 1.02)], 0.04, (30, 30, 32), BICYCLIST)
    up = rng.uniform(-0.12, 0.12)
    for sign in (-1, 1):
        _limb(s, [(sign * 0.1, 0.95), (sign * 0.17, 0.64 + sign * up * 0.5), (sign * 0.12, 0.28 + sign * up)], 0.15,
              legs, BICYCLIST)  # fmt: skip
        s.ellipse(sign * 0.12, 0.24 + sign * up, 0.06, 0.06, (24, 22, 22), BICYCLIST)
        _limb(
            s,
            [(sign * 0.19, 1.4), (sign * 0.29, 1.18), (sign * 0.25, 1.02)],
            0.12,
            np.asarray(coat) * 0.85,
            BICYCLIST,
        )
    s.polygon([(-0.19, 0.88), (0.19, 0.88), (0.2, 1.44), (0.08, 1.54), (-0.08, 1.54), (-0.2, 1.44)], coat, BICYCLIST)
    if rng.random() < 0.4:
        s.rectangle(-0.14, 1.05, 0.14, 1.42, _pick(rng, CLOTHES), BICYCLIST)
    if rng.random() < 0.6:
        s.rectangle(-0.03, 0.72, 0.03, 0.78, (220, 30, 26), BICYCLIST)
    _head(s, rng, 0.0, 1.68, BICYCLIST, rng.random() < 0.5)


def paint_bicyclist(canvas: Canvas, rng: np.random.Generator, x: float, z: float, crossing: bool) -> None:
    """Paint one bicyclist with the bicycle, seen from the side if ``crossing``, else from behind or before."""
    board = billboard(canvas, x, z, (-1.0, -0.05, 1.0, 2.0))
    if board is None:
        return
    sketch, depth = board
    coat = _pick(rng, VIVID if rng.random() < 0.3 else CLOTHES)
    if crossing:
        direction = float(rng.choice([-1.0, 1.0]))
        _draw_bicycle_side(sketch, rng, direction)
        _draw_rider_side(sketch, rng, direction, coat)
    else:
        _draw_rider_behind(sketch, rng, coat)
    sketch.finish(canvas.light.shade((0.0, 0.3, -0.95)), depth, rng, 0.12)
