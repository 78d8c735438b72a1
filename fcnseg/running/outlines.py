"""Outlines of the regions of a mask as polygons along the edges of its pixels, by OpenCV's border following.

OpenCV's contours run through the centres of pixels, so that a region of one pixel is a point. Here each pixel is
doubled in both directions first: of a pair the first is on the near edge and the second on the far one, and halving
coordinates gives the edges themselves. Polygons then have the area of their pixels, and rasterisers that ask for the
centres of pixels, as pycocotools does, give the mask again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fcnseg.types import Labels

Mask = NDArray[np.bool_]

Ring = NDArray[np.int32]
"""The corners of a closed line, N x 2: x and y, px, from the upper left corner of the image."""


@dataclass
class Region:
    """A connected region (pixels that touch at a corner are connected): its outline, and those of its holes."""

    outline: Ring
    holes: list[Ring] = field(default_factory=list)


def polygons(mask: Mask, tolerance: float = 0) -> list[Ring]:
    """Return a polygon for each connected region of a mask H x W.

    Holes are joined to the outline by a vertical line that is there twice, so that one ring has them. With a
    `tolerance`, px, lines are simplified (Douglas-Peucker) by up to so much; regions that would vanish are kept as they
    are.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return []
    top, left = rows[0], columns[0]
    box = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    offset = np.array([left, top], np.int32)
    return [_simplified(*_joined(box, region), tolerance) + offset for region in regions(box)]


def class_polygons(
    labels: Labels, chosen: range | tuple[int, ...], tolerance: float
) -> Iterator[tuple[int, list[Ring]]]:
    """Yield the polygons of each of the chosen classes that occur in a label map H x W, by label."""
    for label in chosen:
        if found := polygons(labels == label, tolerance):
            yield label, found


def regions(mask: Mask) -> list[Region]:
    """Return the connected regions of a mask, with corners at every turn and at no other place."""
    import cv2  # an extra

    doubled = mask.view(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings = [_corners((np.asarray(contour, np.int32)[:, 0, :] + 1) // 2) for contour in contours]
    parents = hierarchy[0, :, 3].tolist() if len(rings) else []
    found = {
        number: Region(ring) for number, (ring, parent) in enumerate(zip(rings, parents, strict=True)) if parent < 0
    }
    for ring, parent in zip(rings, parents, strict=True):
        if parent >= 0:
            found[parent].holes.append(ring)
    return list(found.values())


def _corners(points: Ring) -> Ring:
    """Return a closed line without points that are there twice in a row, or on the way straight on."""
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    corners: Ring = points[(before * after).sum(axis=1) <= 0]
    return corners


def _joined(mask: Mask, region: Region) -> tuple[Ring, Mask]:
    """Return a region's outline with its holes joined to it, and which of its corners must stay for that.

    From a corner on top of a hole, the line goes up inside the region to the next edge: that of the outline, or of a
    hole that is higher and joined already.
    """
    ring, fixed = region.outline, np.zeros(len(region.outline), bool)
    for hole in sorted(region.holes, key=lambda points: points[:, 1].min()):
        start = np.lexsort((hole[:, 0], hole[:, 1]))[0]
        hole = np.roll(hole, -start, axis=0)
        x, bottom = hole[0]
        outside = np.flatnonzero(~mask[:bottom, x])
        top = outside[-1] + 1 if len(outside) else 0
        following = np.roll(ring, -1, axis=0)
        level = (ring[:, 1] == top) & (following[:, 1] == top)
        beside = (np.minimum(ring[:, 0], following[:, 0]) <= x) & (np.maximum(ring[:, 0], following[:, 0]) > x)
        after = np.flatnonzero(level & beside)[0] + 1
        joint = np.array([[x, top]], np.int32)
        ring = np.concatenate([ring[:after], joint, hole, hole[:1], joint, ring[after:]])
        stay = np.zeros(len(hole) + 3, bool)
        stay[[0, 1, -2, -1]] = True
        fixed = np.concatenate([fixed[:after], stay, fixed[after:]])
    return ring, fixed


def _simplified(ring: Ring, fixed: Mask, tolerance: float) -> Ring:
    """Return a closed line simplified between the corners that stay; as it is if less than a triangle is left."""
    if not tolerance:
        return ring
    start = int(fixed.argmax())
    stays = [*np.flatnonzero(np.roll(fixed, -start)), len(ring)] if fixed.any() else [0, len(ring)]
    closed = np.roll(ring, -start, axis=0)
    closed = np.concatenate([closed, closed[:1]])
    pieces = [_line(closed[first : last + 1], tolerance)[:-1] for first, last in pairwise(stays)]
    simple: Ring = np.concatenate(pieces)
    return simple if len(simple) > 2 else ring


def _line(points: Ring, tolerance: float) -> Ring:
    """Return a line of points simplified; its ends stay."""
    import cv2

    if len(points) < 3:
        return points
    if (points[0] == points[-1]).all():  # a closed one: its ends alone would say nothing of it
        far = int(np.abs(points - points[0]).sum(axis=1).argmax())
        return np.concatenate([_line(points[: far + 1], tolerance)[:-1], _line(points[far:], tolerance)])
    return np.asarray(cv2.approxPolyDP(points, tolerance, False), np.int32)[:, 0, :]
