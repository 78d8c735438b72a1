"""HHA of scenes whose depth, gravity and normals are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fcnseg.errors import ImageError
from fcnseg.hha import Camera, encode
from fcnseg.hha.encoding import COARSE_RADIUS, FINE_RADIUS, gravity_direction, normals

CAMERA = Camera(100.0, 102.0, 79.0, 61.0)
SIZE = (120, 160)
DOWN = np.array([0.0, 1.0, 0.0])

Array = NDArray[Any]


def rays(camera: Camera = CAMERA, size: tuple[int, int] = SIZE) -> Array:
    """The point at depth 1 of each pixel, H x W x 3."""
    v, u = np.mgrid[: size[0], : size[1]].astype(float)
    return np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones(size)], -1)


def rotation(pitch: float, roll: float) -> Array:
    """World (y down) to camera, for a camera that looks `pitch` degrees up and is rolled by `roll` degrees."""
    p, r = np.radians([pitch, roll])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    turned: Array = about_z @ about_x.T
    return turned


def room(
    pitch: float = 0.0, roll: float = 0.0, camera: Camera = CAMERA, size: tuple[int, int] = SIZE
) -> tuple[Array, Array, Array]:
    """Depth in metres of a room 2.5 m high, 4 m wide, with a wall 3 m ahead, seen from 1.5 m above its floor;
    which surface each pixel shows (0 floor, 1 ceiling, from 2 walls); and gravity in camera coordinates."""
    turn = rotation(pitch, roll)
    planes = [(DOWN, 1.5), (-DOWN, 1.0), ((0, 0, 1), 3.0), ((1, 0, 0), 2.0), ((-1, 0, 0), 2.0)]
    with np.errstate(divide="ignore", over="ignore"):
        depths = np.stack(
            [distance / (rays(camera, size) @ (turn @ np.array(normal, float))) for normal, distance in planes]
        )
    depths[depths <= 0] = np.inf
    return depths.min(0), depths.argmin(0), turn @ DOWN


def inside(shown: Array, margin: int) -> NDArray[np.bool_]:
    """Pixels with only their own surface around."""
    from scipy.ndimage import maximum_filter, minimum_filter

    same: NDArray[np.bool_] = maximum_filter(shown, 2 * margin + 1) == minimum_filter(shown, 2 * margin + 1)
    return same


def degrees_between(one: Array, other: Array) -> float:
    return float(np.degrees(np.arccos(np.clip(one @ other, -1, 1))))


def estimated_gravity(depth: Array) -> Array:
    found: Array = gravity_direction(normals(depth, np.isfinite(depth), CAMERA, COARSE_RADIUS))
    return found


# ---------------------------------------------------------------------- channels


@pytest.mark.parametrize("metres", [1.25, 2.0, 3.1, 8.0])
def test_a_wall_straight_ahead(metres: float) -> None:
    hha = encode(np.full(SIZE, metres), CAMERA)
    assert hha.dtype == np.uint8
    assert (hha[..., 0] == round(310 / metres)).all()
    assert (hha[..., 2] == 128).all()


def test_nearer_than_a_metre_is_as_a_metre() -> None:
    assert (encode(np.full(SIZE, 0.4), CAMERA)[..., 0] == 255).all()


def test_a_wall_without_ground_stands_on_one_1_3_m_below() -> None:
    hha = encode(np.full(SIZE, 1.0), CAMERA)
    rows = (CAMERA.cy - np.arange(SIZE[0])) / CAMERA.fy * 100
    np.testing.assert_allclose(hha[..., 1], np.tile((130 + rows)[:, None], SIZE[1]), atol=0.51)


@pytest.mark.parametrize(("pitch", "roll"), [(0, 0), (20, 0), (-25, 0), (10, 8), (30, -12)])
def test_a_room_from_a_tilted_camera(pitch: float, roll: float) -> None:
    depth, shown, gravity = room(pitch, roll)
    found = estimated_gravity(depth)
    assert degrees_between(found, gravity) < 1.0
    hha = encode(depth, CAMERA)
    np.testing.assert_allclose(hha[..., 0], np.minimum(255, 310 / np.maximum(depth, 1)), atol=0.51)
    height = 150 - rays() * depth[..., None] @ gravity * 100
    lowest = height.min()
    if lowest < 60:
        np.testing.assert_allclose(hha[..., 1], np.clip(height - lowest, 0, 255), atol=6)
    whole = inside(shown, FINE_RADIUS)
    for surface, angle in enumerate((38, 218, 128, 128, 128)):
        np.testing.assert_allclose(hha[whole & (shown == surface)][:, 2], angle, atol=2)


def test_floors_are_below_and_ceilings_above() -> None:
    """The sign of gravity: a floor alone and a ceiling alone have the same normals up to it."""
    floor, ceiling = (np.where(shown, values, 0) for values, shown in (seen(DOWN, 1.5), seen(-DOWN, 1.0)))
    low, high = encode(floor, CAMERA), encode(ceiling, CAMERA)
    assert np.median(low[100:, :, 2]) == 38
    assert np.median(high[:20, :, 2]) == 218
    assert np.median(low[100:, :, 1]) == 0
    assert np.median(high[:20, :, 1]) > 220


def seen(normal: Array, metres: float) -> tuple[Array, Array]:
    """Depth of a plane so far away, and where it is in sight and nearer than 6 m."""
    across = rays() @ normal
    with np.errstate(divide="ignore"):
        depth = metres / across
    return depth, (across > 0) & (depth < 6)


def test_normals_of_a_sphere_point_away_from_the_camera() -> None:
    centre, radius = np.array([0.1, -0.1, 3.0]), 0.8
    directions = rays()
    half = directions @ centre
    squares = (directions**2).sum(-1)
    root = half**2 - squares * (centre @ centre - radius**2)
    depth = np.where(root > 0, (half - np.sqrt(np.maximum(root, 0))) / squares, 0)
    known = depth > 0
    found = normals(np.where(known, depth, 1.0), known, CAMERA, FINE_RADIUS)
    true = (centre - directions * depth[..., None]) / radius
    middle = inside(known, 8) & known
    assert middle.sum() > 500
    assert np.degrees(np.arccos(np.clip((found * true).sum(-1)[middle], -1, 1))).max() < 2
    assert (found[middle] * directions[middle]).sum(-1).min() > 0


# ---------------------------------------------------------------------- invariances


@settings(max_examples=20)
@given(st.floats(-30, 30), st.floats(-15, 15))
def test_gravity_of_any_tilt(pitch: float, roll: float) -> None:
    depth, _, gravity = room(pitch, roll)
    assert degrees_between(estimated_gravity(depth), gravity) < 1.5


def test_mirroring_the_scene_mirrors_the_encoding() -> None:
    depth, _, _ = room(12, 5)
    mirrored = Camera(CAMERA.fx, CAMERA.fy, SIZE[1] - 1 - CAMERA.cx, CAMERA.cy)
    difference = encode(depth, CAMERA)[:, ::-1].astype(int) - encode(depth[:, ::-1], mirrored)
    assert np.abs(difference).max() <= 1


def test_a_larger_image_of_the_same_scene_has_the_same_encoding() -> None:
    level = Camera(100.0, 100.0, 79.5, 59.5)
    double = Camera(200.0, 200.0, 159.5, 119.5)
    small, large = room(25, 0, level)[0], room(25, 0, double, (240, 320))[0]
    difference = encode(small, level).astype(int) - encode(large, double).reshape(120, 2, 160, 2, 3).mean((1, 3))
    assert np.abs(np.median(difference, axis=(0, 1))).max() <= 1
    assert (np.abs(difference) <= 2).mean() > 0.95


def test_a_crop_with_its_own_centre_has_the_same_disparity_and_angles() -> None:
    depth, shown, _ = room(25, 0)
    crop = Camera(CAMERA.fx, CAMERA.fy, CAMERA.cx - 10, CAMERA.cy - 7)
    whole, part = encode(depth, CAMERA)[7:, 10:], encode(depth[7:, 10:], crop)
    flat = inside(shown, COARSE_RADIUS)[7:, 10:]
    assert (whole[..., 0] == part[..., 0]).all()
    assert np.abs(whole[flat][:, 2].astype(int) - part[flat][:, 2]).max() <= 1


# ---------------------------------------------------------------------- missing depth


@pytest.mark.parametrize("nothing", [0.0, -1.0, np.nan, np.inf])
def test_missing_depth_is_taken_from_beside(nothing: float) -> None:
    depth, shown, _ = room(20, 0)
    whole = encode(depth, CAMERA).astype(int)
    holes = np.random.default_rng(0).random(SIZE) < 0.2
    holes[40:50, 60:75] = True
    part = encode(np.where(holes, nothing, depth), CAMERA)
    flat = inside(shown, COARSE_RADIUS)
    assert np.abs(whole - part)[flat & ~holes].max() <= 2
    assert np.abs(whole - part)[flat].mean() < 2
    assert np.abs(whole - part)[flat & holes][:, 2].max() <= 2


def test_the_ground_is_a_measured_point() -> None:
    depth, shown, _ = room(-30)
    whole = encode(depth, CAMERA).astype(int)
    part = encode(np.where(np.arange(SIZE[0])[:, None] < 95, depth, 0), CAMERA)
    assert (shown[95:] == 0).all()  # the floor; filled from above it would lie 40 cm deeper
    assert np.abs(whole - part)[:85, :, 1].max() <= 2


def test_too_little_depth_is_refused() -> None:
    depth = np.zeros(SIZE)
    with pytest.raises(ImageError, match="no pixel"):
        encode(depth, CAMERA)
    depth[5, 5] = 2.0
    with pytest.raises(ImageError, match="too few"):
        encode(depth, CAMERA)
    depth[5, 100] = 2.0
    with pytest.raises(ImageError, match="too few"):
        encode(depth, CAMERA)


@pytest.mark.parametrize("scale", [1000, 0.001])
def test_another_unit_is_refused(scale: float) -> None:
    with pytest.raises(ImageError, match="--depth-scale"):
        encode(np.full(SIZE, 2.0 * scale), CAMERA)
