"""Depth to HHA: horizontal disparity, height above ground, angle of the surface with gravity.

The encoding is that of Gupta, Girshick, Arbelaez & Malik, "Learning Rich Features from RGB-D Images for Object
Detection and Segmentation", ECCV 2014, section 3, with the scales of their release (`saveHHA.m`), which the published
HHA networks were trained on; the direction of gravity is estimated as in Gupta, Arbelaez & Malik, "Perceptual
Organization and Recognition of Indoor Scenes from RGB-D Images", CVPR 2013, section 3.1.

| channel | stored | 0..255 |
|---|---|---|
| 0 | disparity | 31000 / depth in cm, of depths from 1 m: 255 is 1.2 m and nearer |
| 1 | height | cm above the ground: the lowest measured point, or 1.3 m below the camera if that is less than 0.9 m |
| 2 | angle | degrees between gravity and the normal away from the camera, + 38: floor 38, walls 128, ceiling 218 |

Camera coordinates are x right, y down, z forward; gravity is near (0, 1, 0) in an upright image.

Missing depth (0, negative, NaN or infinite) is taken from the nearest measured pixel for disparity and height; normals
are fitted to measured pixels only, and where there are too few the nearest normal is taken.

The release reads two maps: `depth`, whose holes were filled, and the `raw` one. Given both, the result is the release's
to a rounding: disparity, height and ground are those of the filled depth, normals are fitted to pixels that the raw map
has a depth for, and where none is near the angle is its 180 degrees, stored as 218. (Where all that is near lies on a
line, no plane fits and the release stores what rounding leaves: 218 here.)
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, uniform_filter

from fcnseg.errors import ImageError
from fcnseg.hha.camera import Camera

Array = NDArray[Any]

DISPARITY_CM = 31_000.0
NEAREST_CM = 100.0
ANGLE_SHIFT = 38.0

LOWEST_GROUND_CM = -90.0
USUAL_GROUND_CM = -130.0

FINE_RADIUS, COARSE_RADIUS = 3, 10
"""Radii, px, of the windows for normals that are encoded, and for those that gravity is estimated from."""

GRAVITY_ROUNDS = ((45.0, 5), (15.0, 5))
"""Tolerances, in degrees, for normals to be (anti)parallel or perpendicular to gravity, and rounds with each."""

FLAT_SHARE = 1e-3
"""Directions are equally good if their eigenvalues differ by less than this share of the number of normals."""

LEAST_SPREAD = 1e-3
"""Smallest determinant of the covariance of pixel positions, px^4, that a plane is fitted to."""

LEVEL_DEGREES = 0.1
"""Heights are measured along the camera's y axis if gravity is no further from it, as `getRMatrix.m` has it."""

UNKNOWN_DEGREES = 180.0
"""The angle of pixels without a normal, where a raw map tells what was measured: MATLAB's `max(-1, NaN)` is -1."""

PLAUSIBLE_M = (0.3, 100.0)
"""Range of plausible median depths; 8-bit images taken for millimetres are below it."""


def encode(depth: Array, camera: Camera, raw: Array | None = None) -> NDArray[np.uint8]:
    """Encode a depth map H x W in metres as HHA, uint8 H x W x 3 (see above for missing values).

    `raw` H x W is the map that the sensor measured, in any unit, if the holes of `depth` were filled.

    Raises ImageError if it is not of the camera's size, has no depth or too little for any surface, or has an
    implausible median, which means another unit; and for a raw map of another size or without any measurement.
    """
    camera.check(*depth.shape)
    known = _has_depth(depth)
    if not known.any():
        raise ImageError("no pixel has a depth")
    measured = known if raw is None else known & _measured_in(raw, depth)
    median = float(np.median(depth[known]))
    if not PLAUSIBLE_M[0] <= median <= PLAUSIBLE_M[1]:
        raise ImageError(f"the median depth is {median:.4g} m; --depth-scale says how many units a metre has")
    filled = nearest(np.where(known, depth, 0.0).astype(np.float64), known)
    gravity = gravity_direction(normals(filled, measured, camera, COARSE_RADIUS))
    fine = normals(filled, measured, camera, FINE_RADIUS)
    if raw is None:
        fine = nearest(fine, np.isfinite(fine[..., 0]))
    angle = np.degrees(np.arccos(np.clip(fine @ gravity, -1, 1)))
    angle[np.isnan(angle)] = UNKNOWN_DEGREES
    height = -(points(filled, camera) @ _vertical(gravity)) * 100
    lowest = float(height[known].min())
    ground = lowest if lowest <= LOWEST_GROUND_CM else USUAL_GROUND_CM
    disparity = DISPARITY_CM / np.maximum(filled * 100, NEAREST_CM)
    channels = np.stack([disparity, height - ground, angle + ANGLE_SHIFT], -1)
    return np.asarray(np.floor(np.clip(channels, 0, 255) + 0.5), np.uint8)


def _has_depth(depth: Array) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(depth) & (depth > 0))


def _measured_in(raw: Array, depth: Array) -> NDArray[np.bool_]:
    """Return the pixels that a raw map has a depth for. Raises ImageError if there are none, or sizes differ."""
    if raw.shape != depth.shape:
        (height, width), (raw_height, raw_width) = depth.shape, raw.shape
        raise ImageError(
            f"its raw depth is {raw_width} x {raw_height} px, the depth {width} x {height}; they must be of one size"
        )
    measured = _has_depth(raw)
    if not (measured & _has_depth(depth)).any():
        raise ImageError("its raw depth has no measured pixel")
    return measured


def _vertical(gravity: Array) -> Array:
    """Return the direction that heights are measured against."""
    down = np.array([0.0, 1.0, 0.0])
    return down if np.degrees(np.arccos(np.clip(gravity @ down, -1, 1))) <= LEVEL_DEGREES else gravity


def points(depth: Array, camera: Camera) -> Array:
    """Return the camera coordinates H x W x 3 of each pixel, in the unit of `depth` H x W."""
    rows, columns = np.indices(depth.shape, np.float64)
    return np.stack([(columns - camera.cx) / camera.fx * depth, (rows - camera.cy) / camera.fy * depth, depth], -1)


def normals(depth: Array, measured: NDArray[np.bool_], camera: Camera, radius: int) -> Array:
    """Return unit normals H x W x 3 that point away from the camera; NaN where too few pixels are measured.

    Away from the camera is where the point of `depth` lies as seen from it.

    On a plane the inverse of depth is an affine function of the pixel's position; its least-squares fit over the
    measured pixels of the window of (2 radius + 1)^2 around each pixel gives the normal.
    """
    rows, columns = np.indices(depth.shape, np.float64)
    rows, columns = rows - camera.cy, columns - camera.cx
    weight = measured.astype(np.float64)
    inverse = weight / depth

    def mean(values: Array) -> Array:
        return np.asarray(uniform_filter(values, 2 * radius + 1, mode="constant"))

    count = mean(weight)
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v, q = (mean(values) / count for values in (weight * columns, weight * rows, inverse))
        uu = mean(weight * columns**2) / count - u * u
        uv = mean(weight * columns * rows) / count - u * v
        vv = mean(weight * rows**2) / count - v * v
        uq = mean(inverse * columns) / count - u * q
        vq = mean(inverse * rows) / count - v * q
        spread = uu * vv - uv * uv
        along_u, along_v = (uq * vv - vq * uv) / spread, (vq * uu - uq * uv) / spread
        vectors = np.stack([along_u * camera.fx, along_v * camera.fy, q - along_u * u - along_v * v], -1)
        fitted = along_u * columns + along_v * rows + vectors[..., 2]  # the inverse of the plane's depth here
        vectors *= np.where(fitted < 0, -1, 1)[..., None] / np.linalg.norm(vectors, axis=-1, keepdims=True)
    vectors[~(spread > LEAST_SPREAD) | (count * (2 * radius + 1) ** 2 < 2.5)] = np.nan
    return vectors


def gravity_direction(surface_normals: Array) -> Array:
    """Estimate the direction of gravity, a unit vector, from normals H x W x 3 (NaN where unknown).

    Starts from (0, 1, 0). In each round the normals near to parallel with it are those of floors, those near to
    perpendicular of walls, and it becomes the direction most parallel to the first and perpendicular to the second:
    the eigenvector of the smallest eigenvalue of the walls' scatter matrix minus the floors'. Where several directions
    are equally good (a single wall shows) it turns no further than it must. Raises ImageError without any normal.
    """
    known = np.ascontiguousarray(surface_normals[np.isfinite(surface_normals[..., 0])].T)
    if not known.size:
        raise ImageError("too few neighbouring pixels have a depth to tell any surface")
    gravity = np.array([0.0, 1.0, 0.0])
    for degrees, rounds in GRAVITY_ROUNDS:
        for _ in range(rounds):
            cosine = np.abs(gravity @ known)
            floors, walls = cosine > np.cos(np.radians(degrees)), cosine < np.sin(np.radians(degrees))
            values, vectors = np.linalg.eigh((walls * 1.0 - floors) * known @ known.T)
            best = vectors[:, values <= values[0] + FLAT_SHARE * known.shape[1]]
            turned = best @ (best.T @ gravity)
            length = float(np.linalg.norm(turned))
            if length > FLAT_SHARE:
                gravity = turned / length
    return gravity


def nearest(values: Array, known: NDArray[np.bool_]) -> Array:
    """Replace `values` H x W (x C) that are not `known` by those of the nearest pixel that is."""
    if known.all():
        return values
    rows, columns = distance_transform_edt(~known, return_distances=False, return_indices=True)
    filled: Array = values[rows, columns]
    return filled
