"""Polygons along the edges of pixels, held against pycocotools' rasteriser and against areas."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco

from fcnseg.running.outlines import Mask, Ring, polygons, regions


def rasterised(rings: list[Ring], height: int, width: int) -> Mask:
    flat = [ring.astype(float).ravel().tolist() for ring in rings]
    return coco.decode(coco.merge(coco.frPyObjects(flat, height, width))).astype(bool)  # type: ignore[no-any-return]


def area(ring: Ring) -> float:
    x, y = ring.T.astype(float)
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


masks = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(lambda size: arrays(bool, size))


@settings(max_examples=300)
@given(masks)
def test_rasterised_again_they_are_the_mask(mask: Mask) -> None:
    rings = polygons(mask)
    if not mask.any():
        assert rings == []
        return
    assert np.array_equal(rasterised(rings, *mask.shape), mask)
    assert sum(map(area, rings)) == mask.sum()
    for ring in rings:  # along the edges
        assert (np.diff(np.vstack([ring, ring[:1]]), axis=0) != 0).sum(axis=1).max() == 1


def test_rings_in_rings_and_holes_one_over_the_other() -> None:
    rows, columns = np.mgrid[:90, :120]
    circles = (np.hypot(rows - 45, columns - 60) // 6 % 2).astype(bool)
    holes = np.ones((90, 120), bool)
    holes[10:20, 10:30] = holes[30:40, 5:60] = holes[60:70, 10:12] = holes[60:62, 10:50] = holes[::7, 70:] = False
    for mask in (circles, ~circles, holes, ~holes, np.random.default_rng(0).random((90, 120)) > 0.4):
        assert np.array_equal(rasterised(polygons(mask), 90, 120), mask)


def test_a_region_has_its_corners_and_its_holes() -> None:
    mask = np.ones((4, 5), bool)
    mask[1, 1] = mask[2, 3] = False
    (region,) = regions(mask)
    assert sorted(map(tuple, region.outline.tolist())) == [(0, 0), (0, 4), (5, 0), (5, 4)]
    assert sorted(sorted(map(tuple, hole.tolist())) for hole in region.holes) == [
        [(1, 1), (1, 2), (2, 1), (2, 2)],
        [(3, 2), (3, 3), (4, 2), (4, 3)],
    ]
    assert len(regions(np.eye(3, dtype=bool))) == 1, "pixels that touch at a corner are connected"


@pytest.mark.parametrize("tolerance", [1, 3])
def test_simplified_polygons_are_near_and_none_is_lost(tolerance: float) -> None:
    rows, columns = np.mgrid[:300, :400]
    ring = (np.hypot(rows - 150, columns - 200) < 120) & (np.hypot(rows - 160, columns - 190) > 60)
    ring[5, 5] = ring[290:292, 390] = True
    exact, simple = polygons(ring), polygons(ring, tolerance)
    assert len(simple) == len(exact) == 3
    assert min(map(len, simple)) >= 3
    assert sum(map(len, simple)) < 0.7 * sum(map(len, exact))
    again = rasterised(simple, 300, 400)
    distance = cv2.distanceTransform(ring.view(np.uint8), cv2.DIST_L2, 5) + cv2.distanceTransform(
        (~ring).view(np.uint8), cv2.DIST_L2, 5
    )
    assert distance[again != ring].max() <= 1.5 * tolerance + 1
    assert (again & ring).sum() / (again | ring).sum() > 0.97
