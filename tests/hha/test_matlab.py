"""HHA from filled and raw depth is that of the published MATLAB code to a rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from fcnseg.errors import ImageError
from fcnseg.hha import Camera, encode, find_camera
from tests.hha import matlab
from tests.hha.test_encoding import room

Array = NDArray[Any]

NYUD = (518.85790117450188, 519.46961112127485, 325.58244941119034, 253.73616633400465)
"""The camera of the toolbox, which counts pixels from 1."""


def kinect_frame(pitch: float, roll: float, size: tuple[int, int], camera: Camera) -> tuple[Array, Array]:
    """A room as a Kinect sees it, filled and raw, mm: disparity in eighths of a pixel, and nothing at the borders, in
    shadows and in specks."""
    random = np.random.default_rng(3)
    metres, shown, _ = room(pitch, roll, camera, size)
    baseline_px = 0.075 * camera.fx * 8
    steps = baseline_px / metres + random.normal(0, 0.25, size)
    depth = np.round(1000 * baseline_px / np.round(steps)).astype(np.uint16)
    raw = depth.copy()
    raw[:, :8], raw[-9:], raw[size[0] // 3 : size[0] // 2, size[1] // 4 : size[1] // 3] = 0, 0, 0
    edges = np.zeros(size, bool)
    edges[:, 1:] = shown[:, 1:] != shown[:, :-1]
    raw[edges | (random.random(size) < 0.02)] = 0
    nearest = distance_transform_edt(raw == 0, return_distances=False, return_indices=True)
    return raw[tuple(nearest)] + random.integers(0, 9, size).astype(np.uint16) * (raw == 0), raw


@pytest.mark.parametrize(("pitch", "roll"), [(0.02, 0.0), (17, -6), (-28, 9)])
def test_the_published_code_gives_the_same(pitch: float, roll: float) -> None:
    filled, raw = kinect_frame(pitch, roll, (480, 640), find_camera("nyud"))
    expected, sound = matlab.hha(filled, raw, *NYUD)
    found = encode(filled / 1000, find_camera("nyud"), raw)
    difference = np.abs(found.astype(int) - expected)[sound]
    assert sound.mean() > 0.99
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3
    nothing_near = (raw[160:240, 160:213] == 0).all()
    assert nothing_near
    assert (found[170:230, 170:200, 2] == 218).all()  # a hole wider than the window


def test_what_was_not_measured_is_in_no_normal() -> None:
    """The filled part of a wall is no wall: only with the raw map do its angles stay out."""
    camera = find_camera("nyud")
    filled, raw = kinect_frame(10, 0, (480, 640), camera)
    filled[:, 300:360] = np.linspace(800, 4000, 60).astype(np.uint16)
    raw[:, 300:360] = 0
    with_raw, without = (encode(filled / 1000, camera, mask).astype(int) for mask in (raw, None))
    assert np.array_equal(with_raw[..., 0], without[..., 0])
    assert np.abs(with_raw - without)[:, 290:300, 2].mean() > 5


def test_raw_maps_that_do_not_fit() -> None:
    camera = Camera(100, 100, 20, 15)
    depth = np.full((30, 40), 2.0)
    with pytest.raises(ImageError, match=r"raw depth is 40 x 31 px, the depth 40 x 30; they must be of one size"):
        encode(depth, camera, np.ones((31, 40)))
    with pytest.raises(ImageError, match="no measured pixel"):
        encode(depth, camera, np.zeros((30, 40)))
