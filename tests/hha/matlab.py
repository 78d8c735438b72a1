"""The HHA of Gupta et al. (2014) written down a second time, from their MATLAB files `saveHHA`, `processDepthImage`,
`computeNormalsSquareSupport`, `getYDir` and `getRMatrix`: no function of fcnseg is used, pixels are counted from 1."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def hha(filled_mm: Array, raw: Array, fx: float, fy: float, cx: float, cy: float) -> tuple[NDArray[np.uint8], Array]:
    """Return HHA, uint8 H x W x 3, and the pixels H x W whose normal is fitted to no plane that rounding could tilt."""
    z = filled_mm.astype(float) / 1000 * 100
    height, width = z.shape
    x = (np.arange(1, width + 1)[None, :] - cx) * z / fx
    y = (np.arange(1, height + 1)[:, None] - cy) * z / fy
    cloud = np.stack([x, y, z])
    missing = raw == 0
    fine, sound = _normals(cloud, missing, 3)
    coarse, _ = _normals(cloud, missing, 10)
    down = _gravity(coarse)
    cosine = np.nan_to_num((fine * down[:, None, None]).sum(0), nan=-1.0)
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    h = -np.einsum("ij,jhw->ihw", _rotation(np.array([0.0, 1.0, 0.0]), down).T, cloud)[1]
    ground = h.min() if h.min() <= -90 else -130.0
    channels = np.stack([31000 / np.maximum(z, 100), h - ground, angle + 128 - 90], -1)
    return np.floor(np.clip(channels, 0, 255) + 0.5).astype(np.uint8), sound


def _window_sums(values: Array, radius: int) -> Array:
    padded = np.pad(values, radius)
    rows = sum(padded[i : i + values.shape[0]] for i in range(2 * radius + 1))
    return np.asarray(sum(rows[:, j : j + values.shape[1]] for j in range(2 * radius + 1)))


def _normals(cloud: Array, missing: Array, radius: int) -> tuple[Array, Array]:
    """Least squares: the n for which n . (x/z, y/z, 1) is nearest to 1/z over the measured pixels of each window."""
    x, y, z = (np.where(missing, np.nan, axis) for axis in cloud)
    terms = [x / z, y / z, np.where(missing, np.nan, 1.0)]
    left = np.array([[_window_sums(np.nan_to_num(a * b), radius) for b in terms] for a in terms])
    right = np.array([_window_sums(np.nan_to_num(a / z), radius) for a in terms])
    matrices, sides = np.moveaxis(left, (0, 1), (-2, -1)), np.moveaxis(right, 0, -1)
    sound = np.linalg.cond(np.where(matrices.any((-1, -2), keepdims=True), matrices, 0) + 1e-300) < 1e9
    normals = np.full((*z.shape, 3), np.nan)
    normals[sound] = np.linalg.solve(matrices[sound], sides[sound][..., None])[..., 0]
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    away = np.sign((normals * np.moveaxis(cloud, 0, -1)).sum(-1))
    return np.moveaxis(normals * away[..., None], -1, 0), sound | (matrices[..., 2, 2] == 0)


def _gravity(normals: Array) -> Array:
    known = normals[:, ~np.isnan(normals[0])]
    down = np.array([0.0, 1.0, 0.0])
    for degrees in (45, 15):
        for _ in range(5):
            along = np.abs(down @ known)
            floors = known[:, along > np.cos(np.radians(degrees))]
            walls = known[:, along < np.sin(np.radians(degrees))]
            values, vectors = np.linalg.eig(walls @ walls.T - floors @ floors.T)
            best = vectors[:, values.argmin()]
            down = best * np.sign(down @ best)
    return down


def _rotation(start: Array, end: Array) -> Array:
    degrees = np.degrees(np.arccos(start @ end))
    if abs(degrees) <= 0.1:
        return np.eye(3)
    axis = np.cross(start, end) / np.linalg.norm(np.cross(start, end))
    turn = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    angle = np.radians(degrees)
    rotated: Array = np.eye(3) + np.sin(angle) * turn + (1 - np.cos(angle)) * turn @ turn
    return rotated
