"""How good a segmentation is near boundaries: boundary IU, and the measures inside bands around them.

Distances are chessboard distances in px, so that a band of width w is what w dilations by a 3 x 3 square reach.
Sources: boundary IU from Cheng et al. 2021 (Boundary IoU, section 4), whose width is 2 % of the image's diagonal;
bands ("trimaps") from Kohli et al. 2009 and Kraehenbuehl & Koltun 2011 (section 5).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnseg.scoring.confusion import Counts, Map

BOUNDARY_RATIO = 0.02
"""The width of boundaries, as a share of the image's diagonal: Cheng et al. 2021."""

FAR = 1 << 30


def distance_to_other(labels: Map) -> NDArray[np.int32]:
    """How far each pixel is from the nearest one of another label, px, H x W; FAR where there is none."""
    from scipy.ndimage import distance_transform_cdt

    edge = np.zeros(labels.shape, bool)
    for here, there in _NEIGHBOURS:
        differs = labels[here] != labels[there]
        edge[here] |= differs
        edge[there] |= differs
    if not edge.any():
        return np.full(labels.shape, FAR, np.int32)
    distance: NDArray[np.int32] = distance_transform_cdt(~edge, "chessboard")
    distance += 1
    return distance


_ALL, _FIRST, _LAST = slice(None), slice(None, -1), slice(1, None)
_NEIGHBOURS: tuple[tuple[Any, Any], ...] = (
    ((_FIRST, _ALL), (_LAST, _ALL)),
    ((_ALL, _FIRST), (_ALL, _LAST)),
    ((_FIRST, _FIRST), (_LAST, _LAST)),
    ((_FIRST, _LAST), (_LAST, _FIRST)),
)


def distance_to_outside(height: int, width: int) -> NDArray[np.int64]:
    """How far each pixel is from the nearest one outside the image, px, H x W."""
    rows, columns = np.arange(1, height + 1), np.arange(1, width + 1)
    return np.minimum.outer(np.minimum(rows, rows[::-1]), np.minimum(columns, columns[::-1]))


def boundary_tally(truth: Map, predicted: Map, to_other: NDArray[np.int32], classes: int) -> Counts:
    """Of each class's boundary pixels: common to both, in the ground truth, in the prediction; 3 x K.

    A boundary pixel of a class is one of its pixels that is at most 2 % of the diagonal from another label or the
    outside. `truth` and `predicted` are codes H x W; where the truth is negative (void) nothing counts. `to_other` is
    `distance_to_other(truth)`.
    """
    width = max(1, round(BOUNDARY_RATIO * float(np.hypot(*truth.shape))))
    margin = distance_to_outside(*truth.shape) <= width
    counted = truth >= 0
    in_truth = counted & (margin | (to_other <= width))
    in_predicted = counted & (margin | (distance_to_other(predicted) <= width))
    common = in_truth & in_predicted & (truth == predicted)
    sides = ((common, truth), (in_truth, truth), (in_predicted, predicted))
    return np.stack([np.bincount(labels[chosen], minlength=classes) for chosen, labels in sides])


def band_tallies(
    truth: Map, predicted: Map, to_other: NDArray[np.int32], widths: tuple[int, ...], classes: int
) -> Counts:
    """Of each class's pixels at most `widths` px (ascending) from another ground truth label: right, in the ground
    truth, in the prediction; W x 3 x K.

    Arguments are as of `boundary_tally`. Void is a label like others here, and the image's edge no boundary.
    """
    near = (truth >= 0) & (to_other <= widths[-1])
    bands, truth, predicted = np.searchsorted(widths, to_other[near]), truth[near], predicted[near]
    right = truth == predicted
    sides = ((bands[right], truth[right]), (bands, truth), (bands, predicted))
    shape = len(widths), classes
    tallies = [np.bincount(b * classes + labels, minlength=len(widths) * classes).reshape(shape) for b, labels in sides]
    return np.stack(tallies, 1).cumsum(0)
