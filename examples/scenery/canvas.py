"""Pinhole camera, light and layered canvas on which the street scenes are painted.

World axes, in metres: x to the right, y up from the ground, z forward along the street; the camera stands
at ``(camera.x, camera.height_m, 0)``. Pictures are painted far to near, supersampled; colours are floats
in 0..255 and the label of a pixel is the class of whatever was painted on it last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(11)
VOID = 255
NOTHING = 254  # a pixel of a patch on which nothing was drawn

Colour = Sequence[float] | NDArray[np.floating[Any]]
Floats = NDArray[np.floating[Any]]
Bytes = NDArray[np.uint8]
Points = NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """A camera at ``x`` on the street, turned right by ``yaw`` radians; sizes in supersampled pixels."""

    width: int
    height: int
    focal: float
    horizon: float
    height_m: float
    x: float
    yaw: float

    def project(self, points: Any) -> Points:
        """Turn world points (N x 3) into N x 3 of column, row and depth in metres (at least 0.3)."""
        p = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        across = (p[:, 0] - self.x) * cos - p[:, 2] * sin
        depth = np.maximum((p[:, 0] - self.x) * sin + p[:, 2] * cos, 0.3)
        column = self.width / 2 + self.focal * across / depth
        row = self.horizon - self.focal * (p[:, 1] - self.height_m) / depth
        return np.stack([column, row, depth], axis=1)

    def depth(self, x: float, z: float) -> float:
        """Signed distance in metres of a ground point along the viewing axis."""
        return (x - self.x) * math.sin(self.yaw) + z * math.cos(self.yaw)

    def ground(self) -> tuple[int, Floats, Floats, Floats]:
        """First row below the horizon, then x, z and depth in metres of the ground at each pixel from it."""
        first = max(0, math.ceil(self.horizon + 1))
        rows = np.arange(first, self.height, dtype=np.float32)[:, None] + 0.5
        columns = np.arange(self.width, dtype=np.float32)[None, :] + 0.5
        depth = np.float32(self.focal * self.height_m) / (rows - np.float32(self.horizon))
        across = (columns - self.width / 2) / np.float32(self.focal) * depth
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        x = (self.x + across * cos + depth * sin).astype(np.float32)
        z = (depth * cos - across * sin).astype(np.float32)
        return first, x, z, np.broadcast_to(depth, x.shape)


@dataclass(frozen=True)
class Light:
    """Illumination of a scene: factors on colour, the sun's direction, and the haze of distance."""

    ambient: Floats
    sun: Floats
    towards_sun: tuple[float, float, float]
    haze: Floats
    haze_per_m: float

    def shade(self, normal: Colour, lit: float = 1.0) -> Floats:
        """Factor on the colour of a surface with this unit normal; ``lit`` 0 puts it in the shade."""
        n = np.asarray(normal, dtype=np.float64)
        sky = 0.78 + 0.22 * float(n[1])
        return self.ambient * np.float32(sky) + self.sun * np.float32(lit * max(0.0, float(n @ self.towards_sun)))


class Canvas:
    """The picture being painted: ``rgb`` H x W x 3 float32 and ``labels`` H x W uint8, both supersampled."""

    def __init__(self, camera: Camera, light: Light) -> None:
        self.camera = camera
        self.light = light
        self.rgb: Floats = np.zeros((camera.height, camera.width, 3), dtype=np.float32)
        self.labels: Bytes = np.full((camera.height, camera.width), VOID, dtype=np.uint8)

    def paste(self, rgb: Floats, labels: Bytes, corner: tuple[int, int], depth: float, seen: Any = None) -> None:
        """Paint a patch whose upper left pixel is at ``corner`` (column, row), hazed for its depth.

        ``labels`` gives the class of each pixel; where it is NOTHING the label stays. ``seen`` (default:
        where there is a label) says which pixels of the colour are painted.
        """
        column, row = corner
        h, w = labels.shape
        seen = labels != NOTHING if seen is None else seen
        clear = np.float32(math.exp(-depth * self.light.haze_per_m))
        area = self.rgb[row : row + h, column : column + w]
        np.copyto(area, rgb * clear + self.light.haze * (1 - clear), where=seen[..., None])
        np.copyto(self.labels[row : row + h, column : column + w], labels, where=labels != NOTHING)


class Sketch:
    """A patch of the canvas to draw shapes on, in pixels or in metres around a point.

    Args:
        canvas: where the patch is painted by `finish`.
        box: left, top, right, bottom in canvas pixels (cut to the canvas).
        origin: canvas column and row of the coordinates' origin.
        scale: pixels per unit; y points up if a scale is given, down otherwise.
    """

    def __init__(
        self,
        canvas: Canvas,
        box: Sequence[float],
        origin: tuple[float, float] = (0.0, 0.0),
        scale: float | None = None,
    ) -> None:
        self.canvas = canvas
        camera = canvas.camera
        self.left, self.top = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
        right, bottom = min(camera.width, math.ceil(box[2])), min(camera.height, math.ceil(box[3]))
        self.size = (right - self.left, bottom - self.top)
        self.visible = self.size[0] > 0 and self.size[1] > 0
        shape = self.size if self.visible else (1, 1)
        self.colours = Image.new("RGB", shape)
        self.classes = Image.new("L", shape, NOTHING)
        self._pens = (ImageDraw.Draw(self.colours), ImageDraw.Draw(self.classes))
        self.origin = (origin[0] - self.left, origin[1] - self.top)
        self.scale = 1.0 if scale is None else scale
        self._up = 1.0 if scale is None else -1.0

    def _pixels(self, points: Any) -> list[tuple[float, float]]:
        (x0, y0), s = self.origin, self.scale
        limit = 20000.0
        return [
            (min(max(x0 + s * x, -limit), limit), min(max(y0 + self._up * s * y, -limit), limit)) for x, y in points
        ]

    def polygon(self, points: Any, colour: Colour, label: int | None) -> None:
        """Fill a polygon; a ``label`` of None leaves the label as it is."""
        pixels = self._pixels(points)
        self._pens[0].polygon(pixels, fill=_rgb(colour))
        if label is not None:
            self._pens[1].polygon(pixels, fill=label)

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, label: int | None) -> None:
        """Fill an upright rectangle."""
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour, label)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour, label: int | None) -> None:
        """Fill an upright ellipse with the centre ``x, y``."""
        angles = np.linspace(0, 2 * math.pi, 25)[:-1]
        self.polygon(zip(x + rx * np.cos(angles), y + ry * np.sin(angles), strict=True), colour, label)

    def stroke(self, points: Any, width: float, colour: Colour, label: int | None) -> None:
        """Draw a line through the points with round joints, at least one pixel wide."""
        pixels = self._pixels(points)
        width_px = max(1, round(width * self.scale))
        for pen, fill in zip(self._pens, (_rgb(colour), label), strict=True):
            if fill is None:
                continue
            pen.line(pixels, fill=fill, width=width_px, joint="curve")
            if width_px > 3:
                r = width_px / 2 - 0.5
                for x, y in (pixels[0], pixels[-1]):
                    pen.ellipse((x - r, y - r, x + r, y + r), fill=fill)

    def ring(self, x: float, y: float, rx: float, ry: float, width: float, colour: Colour, label: int) -> None:
        """Draw the outline of an ellipse."""
        angles = np.linspace(0, 2 * math.pi, 25)
        self.stroke(list(zip(x + rx * np.cos(angles), y + ry * np.sin(angles), strict=True)), width, colour, label)

    def finish(self, factor: Any, depth: float, rng: np.random.Generator, grain: float = 0.05) -> None:
        """Paint the patch on the canvas, its colours times ``factor`` and a faint mottle."""
        if not self.visible:
            return
        labels = np.asarray(self.classes)
        rgb = np.asarray(self.colours, dtype=np.float32) * np.asarray(factor, dtype=np.float32)
        rgb *= 1 + grain * smooth_noise(rng, labels.shape, 9)[..., None]
        self.canvas.paste(rgb, labels, (self.left, self.top), depth)


def billboard(canvas: Canvas, x: float, z: float, box_m: Sequence[float]) -> tuple[Sketch, float] | None:
    """A sketch in metres standing at ``x, z`` and facing the camera, and its depth; None if out of sight.

    Args:
        canvas: the canvas to draw on.
        x: world position, metres.
        z: world position, metres.
        box_m: left, bottom, right, top of what will be drawn, in metres from the foot point.
    """
    camera = canvas.camera
    if camera.depth(x, z) < 1.5:
        return None
    column, row, depth = (float(v) for v in camera.project([(x, 0.0, z)])[0])
    s = camera.focal / depth
    box = (
        column + s * box_m[0] - 2,
        row - s * box_m[3] - 2,
        column + s * box_m[2] + 2,
        row - s * box_m[1] + 3,
    )
    sketch = Sketch(canvas, box, (column, row), s)
    return (sketch, depth) if sketch.visible else None


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], cell: float) -> Floats:
    """Noise of unit deviation, H x W float32, that changes over about ``cell`` pixels."""
    h, w = shape[:2]
    small = rng.standard_normal((max(2, round(h / cell) + 1), max(2, round(w / cell) + 1))).astype(np.float32)
    return np.asarray(Image.fromarray(small).resize((w, h), Image.Resampling.BICUBIC), dtype=np.float32)


def fractal_noise(rng: np.random.Generator, shape: tuple[int, ...], cell: float, octaves: int = 4) -> Floats:
    """Sum of `smooth_noise` at ``octaves`` cells, each half as large and 0.6 as strong as the last."""
    total = np.zeros(shape[:2], dtype=np.float32)
    for octave in range(octaves):
        total += np.float32(0.6**octave) * smooth_noise(rng, shape, max(1.0, cell / 2**octave))
    return total


def paste_texture(canvas: Canvas, texture: Floats, labels: Bytes, corners: Any) -> None:
    """Paint a texture on a quadrilateral of the world.

    Args:
        canvas: the canvas to paint on.
        texture: H x W x 3 colours as they shall appear before haze.
        labels: H x W classes, NOTHING where the texture has a hole.
        corners: 4 x 3 world points of the texture's upper left, upper right, lower right, lower left.
    """
    camera = canvas.camera
    p = camera.project(corners)
    left, top = max(0, math.floor(p[:, 0].min())), max(0, math.floor(p[:, 1].min()))
    right, bottom = min(camera.width, math.ceil(p[:, 0].max())), min(camera.height, math.ceil(p[:, 1].max()))
    if right - left < 1 or bottom - top < 1:
        return
    h, w = labels.shape
    target = [(0.0, 0.0), (float(w), 0.0), (float(w), float(h)), (0.0, float(h))]
    equations, values = [], []
    for (x, y), (u, v) in zip(p[:, :2] - (left, top), target, strict=True):
        equations += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    mapping = np.linalg.lstsq(np.array(equations), np.array(values), rcond=None)[0].tolist()
    size, how = (right - left, bottom - top), Image.Transform.PERSPECTIVE
    picture = Image.fromarray(np.clip(texture, 0, 255).astype(np.uint8))
    rgb = np.asarray(picture.transform(size, how, mapping, Image.Resampling.BILINEAR), dtype=np.float32)
    classes = Image.fromarray(labels).transform(size, how, mapping, Image.Resampling.NEAREST, fillcolor=NOTHING)
    canvas.paste(rgb, np.asarray(classes), (left, top), float(p[:, 2].mean()))


def _rgb(colour: Colour) -> tuple[int, int, int]:
    r, g, b = (min(255, max(0, round(float(c)))) for c in colour)
    return r, g, b
