"""What stands beside the road: trees, hedges, lamp posts, traffic lights, signs, bollards and fences."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from scenery.canvas import (
    FENCE,
    NOTHING,
    POLE,
    SIGN,
    TREE,
    Canvas,
    Colour,
    Floats,
    Sketch,
    billboard,
    fractal_noise,
    paste_texture,
    smooth_noise,
)

GREENS = ((70, 84, 44), (54, 70, 40), (88, 94, 54), (96, 88, 60), (60, 78, 56))
METALS = ((96, 98, 98), (72, 76, 76), (38, 42, 42), (136, 138, 136), (116, 118, 118))


def _grow(
    s: Sketch,
    rng: np.random.Generator,
    at: tuple[float, float],
    angle: float,
    length: float,
    width: float,
    bark: Colour,
) -> None:
    to = (at[0] + length * math.sin(angle), at[1] + length * math.cos(angle))
    s.stroke([at, to], width, np.asarray(bark) * rng.uniform(0.85, 1.15), TREE)
    if length * s.scale < 3 or width < 0.012:
        return
    for _ in range(3 if rng.random() < 0.55 else 2):
        along = rng.uniform(0.55, 1.0)
        start = (at[0] + (to[0] - at[0]) * along, at[1] + (to[1] - at[1]) * along)
        turn = angle * 0.92 + rng.normal(0, 0.5)
        _grow(s, rng, start, turn, length * rng.uniform(0.62, 0.82), width * rng.uniform(0.5, 0.68), bark)


def paint_bare_tree(canvas: Canvas, rng: np.random.Generator, x: float, z: float, height: float) -> None:
    """Paint a leafless tree; the label covers its crown as a whole, gaps between the twigs included."""
    board = billboard(canvas, x, z, (-height * 0.55, -0.1, height * 0.55, height * 1.15))
    if board is None:
        return
    s, depth = board
    bark = np.array([74, 66, 58]) * rng.uniform(0.6, 1.2)
    trunk = height * rng.uniform(0.2, 0.28)
    s.stroke([(0, -0.05), (0, trunk)], height * 0.03, bark, TREE)
    for _ in range(4):
        _grow(
            s,
            rng,
            (0, trunk * rng.uniform(0.8, 1.0)),
            rng.normal(0, 0.42),
            height * 0.24,
            height * 0.018,
            bark,
        )
    twigs = np.asarray(s.classes) == TREE
    reach = 2.5 + 0.12 * s.scale
    spread = Image.fromarray((twigs * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(min(reach, 30)))
    crown = (np.asarray(spread) > 46) | twigs
    rgb = np.asarray(s.colours, dtype=np.float32) * canvas.light.shade((0.0, 0.2, -1.0))
    canvas.paste(rgb, np.where(crown, TREE, NOTHING).astype(np.uint8), (s.left, s.top), depth, seen=twigs)


def _foliage(rng: np.random.Generator, h: int, w: int, cell: float) -> Floats:
    clumps = fractal_noise(rng, (h, w), cell, 3)
    leaves = fractal_noise(rng, (h, w), max(2.0, cell / 5), 3)
    return np.clip(0.85 + 0.22 * clumps + 0.3 * leaves, 0.2, 2.0)


def paint_leafy_tree(canvas: Canvas, rng: np.random.Generator, x: float, z: float, height: float) -> None:
    """Paint a tree in leaf: a ragged crown with lit top and dark underside on a trunk."""
    board = billboard(canvas, x, z, (-height * 0.85, -0.1, height * 0.85, height * 1.3))
    if board is None:
        return
    s, depth = board
    s.stroke([(0, -0.05), (0, height * 0.5)], height * 0.04, (58, 50, 42), TREE)
    s.finish(canvas.light.shade((0.0, 0.0, -1.0)), depth, rng, 0.15)
    w, h = s.size
    rows, columns = np.mgrid[0:h, 0:w].astype(np.float32)
    column0, row0 = s.origin
    u, v = (columns - column0) / s.scale / height, (row0 - rows) / s.scale / height
    field = np.full((h, w), -9.0, dtype=np.float32)
    top = np.zeros((h, w), dtype=np.float32)
    for i in range(9):
        cu, cv, r = rng.normal(0, 0.15), rng.uniform(0.42, 0.86), rng.uniform(0.14, 0.24)
        if i == 0:
            cu, cv, r = 0.0, 0.6, 0.28
        blob = 1 - ((u - cu) ** 2 + ((v - cv) * 1.15) ** 2) / r**2
        top = np.where(blob > field, (v - cv) / r + 0.4 * (u - cu) / r, top)
        field = np.maximum(field, blob)
    ragged = field + 0.3 * fractal_noise(rng, (h, w), max(3.0, s.scale * 0.7), 6)
    green = np.array(GREENS[rng.integers(len(GREENS))]) * rng.uniform(0.7, 1.25)
    shade = (0.8 + 0.3 * np.clip(top, -1.3, 1.0)) * _foliage(rng, h, w, max(3.0, s.scale * 0.5))
    rgb = (green * shade[..., None] * canvas.light.shade((0.0, 0.6, -0.8))).astype(np.float32)
    canvas.paste(rgb, np.where(ragged > 0.12, TREE, NOTHING).astype(np.uint8), (s.left, s.top), depth)


def paint_hedge(
    canvas: Canvas, rng: np.random.Generator, a: tuple[float, float], b: tuple[float, float], top: float
) -> None:
    """Paint a hedge or a bank of shrubs from ``a`` to ``b`` (x, z), ``top`` metres high with a ragged edge."""
    p = canvas.camera.project([(a[0], top, a[1]), (b[0], top, b[1]), (b[0], 0, b[1]), (a[0], 0, a[1])])
    w = int(np.clip(np.ptp(p[:, 0]), 8, 900))
    h = int(np.clip(max(p[3, 1] - p[0, 1], p[2, 1] - p[1, 1]), 6, 500))
    edge = 0.16 + 0.07 * fractal_noise(rng, (1, w), max(4.0, w / 12), 4)[0]
    down = np.linspace(0, 1, h)[:, None]
    labels = np.where(down > edge[None, :], TREE, NOTHING).astype(np.uint8)
    green = np.array(GREENS[rng.integers(len(GREENS))]) * rng.uniform(0.6, 1.0)
    shade = _foliage(rng, h, w, max(3.0, h / 6)) * (1.15 - 0.5 * down)
    rgb = green * shade[..., None] * canvas.light.shade((0.0, 0.5, -0.8))
    corners = [(a[0], top, a[1]), (b[0], top, b[1]), (b[0], 0.0, b[1]), (a[0], 0.0, a[1])]
    paste_texture(canvas, rgb.astype(np.float32), labels, corners)


def _metal(rng: np.random.Generator) -> Colour:
    return np.array(METALS[rng.integers(len(METALS))]) * rng.uniform(0.7, 1.1)


def _post(s: Sketch, x: float, top: float, width: float, colour: Colour) -> None:
    s.rectangle(x - width / 2, 0, x + width / 2, top, colour, POLE)
    s.rectangle(x + width * 0.1, 0, x + width / 2, top, np.asarray(colour) * 0.65, POLE)


def paint_lamp_post(canvas: Canvas, rng: np.random.Generator, x: float, z: float, towards: float) -> None:
    """Paint a street lamp whose arm reaches ``towards`` the road (-1 left, 1 right)."""
    top = rng.uniform(5.5, 8.5)
    board = billboard(canvas, x, z, (-2.2, -0.1, 2.2, top + 0.6))
    if board is None:
        return
    s, depth = board
    colour = _metal(rng)
    _post(s, 0, 1.2, 0.2, colour)
    _post(s, 0, top, 0.13, colour)
    arm = towards * rng.uniform(0.8, 1.8)
    s.stroke([(0, top - 0.1), (arm * 0.4, top + 0.25), (arm, top + 0.3)], 0.07, colour, POLE)
    s.polygon([(arm - 0.35, top + 0.3), (arm + 0.35, top + 0.3), (arm + 0.2, top + 0.44), (arm - 0.2, top + 0.44)],
              (150, 150, 146), POLE)  # fmt: skip
    s.finish(canvas.light.shade((0.0, 0.0, -1.0)), depth, rng)


def paint_traffic_light(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """Paint a traffic light: the post is a pole, the head counts as a sign."""
    board = billboard(canvas, x, z, (-0.5, -0.1, 0.5, 3.9))
    if board is None:
        return
    s, depth = board
    _post(s, 0, 3.4, 0.12, (52, 54, 54))
    s.rectangle(-0.26, 2.5, 0.26, 3.7, (22, 22, 24), SIGN)
    s.rectangle(-0.17, 2.56, 0.17, 3.64, (12, 12, 14), SIGN)
    on = int(rng.integers(0, 3))
    lamps = (((235, 60, 46), 3.45), ((240, 170, 50), 3.1), ((70, 225, 150), 2.75))
    gain = 1.0 / max(0.35, float(canvas.light.ambient.mean()))
    for i, (colour, y) in enumerate(lamps):
        s.ellipse(0, y, 0.13, 0.13, np.asarray(colour) * (min(gain, 1.6) if i == on else 0.16), SIGN)
    s.finish(canvas.light.shade((0.0, 0.0, -1.0)), depth, rng)


def _draw_disc(s: Sketch, rng: np.random.Generator, y: float) -> None:
    ring, face = (((170, 36, 36), (222, 222, 218)), ((36, 74, 156), (52, 96, 180)))[int(rng.random() < 0.35)]
    s.ellipse(0, y, 0.33, 0.33, ring, SIGN)
    s.ellipse(0, y, 0.25, 0.25, face, SIGN)
    ink = (28, 28, 30) if face[0] > 100 else (230, 230, 230)
    for x in (-0.1, 0.06):
        s.rectangle(x - 0.03, y - 0.12, x + 0.05, y + 0.12, ink, SIGN)


def _draw_triangle(s: Sketch, _rng: np.random.Generator, y: float) -> None:
    s.polygon([(-0.4, y - 0.3), (0.4, y - 0.3), (0, y + 0.4)], (176, 36, 36), SIGN)
    s.polygon([(-0.26, y - 0.22), (0.26, y - 0.22), (0, y + 0.25)], (224, 224, 220), SIGN)
    s.rectangle(-0.04, y - 0.14, 0.04, y + 0.1, (30, 30, 30), SIGN)


def _draw_board(s: Sketch, rng: np.random.Generator, y: float) -> None:
    board = ((36, 72, 150), (28, 92, 62), (222, 222, 214), (214, 172, 40))[rng.integers(4)]
    w, h = rng.uniform(0.35, 0.75), rng.uniform(0.25, 0.5)
    ink = (28, 28, 32) if board[0] > 150 else (232, 232, 230)
    s.rectangle(-w, y - h, w, y + h, ink, SIGN)
    s.rectangle(-w + 0.04, y - h + 0.04, w - 0.04, y + h - 0.04, board, SIGN)
    for line in np.arange(y - h + 0.16, y + h - 0.1, 0.18):
        s.rectangle(-w + 0.12, line, rng.uniform(0.0, w - 0.1), line + 0.08, ink, SIGN)


def paint_sign(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """Paint a road sign (disc, triangle or board) on its post."""
    y = rng.uniform(2.2, 2.9)
    board = billboard(canvas, x, z, (-0.9, -0.1, 0.9, y + 0.7))
    if board is None:
        return
    s, depth = board
    _post(s, 0, y + 0.3, 0.09, _metal(rng))
    (_draw_disc, _draw_triangle, _draw_board)[rng.integers(3)](s, rng, y)
    s.finish(canvas.light.shade((0.0, 0.1, -1.0)), depth, rng)


def paint_bollard(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """Paint a bollard."""
    board = billboard(canvas, x, z, (-0.2, -0.05, 0.2, 1.2))
    if board is None:
        return
    s, depth = board
    _post(s, 0, rng.uniform(0.9, 1.1), 0.17, (44, 46, 46))
    s.rectangle(-0.085, 0.75, 0.085, 0.83, (180, 180, 176), POLE)
    s.finish(canvas.light.shade((0.0, 0.0, -1.0)), depth, rng)


def paint_fence(
    canvas: Canvas,
    rng: np.random.Generator,
    a: tuple[float, float],
    b: tuple[float, float],
    top: float,
    open_: bool,
) -> None:
    """Paint a railing (``open_``: seen through, but labelled as a whole) or a board fence from ``a`` to ``b``."""
    length = math.hypot(b[0] - a[0], b[1] - a[1])
    corners = [(a[0], top, a[1]), (b[0], top, b[1]), (b[0], 0.0, b[1]), (a[0], 0.0, a[1])]
    p = canvas.camera.project(corners)
    w, h = int(np.clip(np.ptp(p[:, 0]) * 1.5, 8, 1400)), int(np.clip(np.ptp(p[:, 1]), 8, 400))
    along, up = np.arange(w)[None, :] / w * length, (1 - np.arange(h)[:, None] / h) * top
    if open_:
        bars = ((along % 0.13) < 0.035) & (up > 0.15) & (up < top - 0.02)
        rails = (np.abs(up - top + 0.03) < 0.035) | (np.abs(up - 0.14) < 0.03)
        solid = bars | rails | ((along % 2.0) < 0.06)
        colour = np.array([124, 128, 128] if rng.random() < 0.6 else [44, 48, 48])
        grain = np.ones((h, w))
    else:
        solid = np.ones((h, w), dtype=bool)
        colour = np.array([104, 82, 60]) * rng.uniform(0.6, 1.2)
        grain = np.where((along % 0.15) < 0.015, 0.55, 1.0) * (1 + 0.1 * smooth_noise(rng, (h, w), 5))
    if open_ and w / length < 12:
        # Too far away to resolve the bars: a quarter of the picture's pixels at random instead.
        solid = rails | (rng.random((h, w)) < 0.25)
    shade = canvas.light.shade((0.0, 0.2, -0.9))
    rgb = (colour * grain[..., None] * shade).astype(np.float32)
    rgb = np.broadcast_to(rgb, (h, w, 3))
    _paste_see_through(canvas, rgb, solid, corners)


def _paste_see_through(
    canvas: Canvas, rgb: Floats, solid: NDArray[np.bool_], corners: list[tuple[float, float, float]]
) -> None:
    labels = np.where(solid, FENCE, NOTHING).astype(np.uint8)
    paste_texture(canvas, rgb, labels, corners)
    quad = canvas.camera.project(corners)[:, :2]
    sketch = Sketch(canvas, (quad[:, 0].min(), quad[:, 1].min(), quad[:, 0].max(), quad[:, 1].max()))
    if sketch.visible:
        sketch.polygon(quad, (0, 0, 0), FENCE)
        area = np.asarray(sketch.classes)
        canvas.paste(
            np.zeros((*area.shape, 3), np.float32),
            area,
            (sketch.left, sketch.top),
            1.0,
            np.zeros(area.shape, bool),
        )
