"""Pixel counts near boundaries: for boundary IoU, and for measures in bands around the ground truth's boundaries.

Distances are chessboard distances in px, so that a band of width w is what w dilations by a 3 x 3 square reach.
Sources: boundary IoU from Cheng et al. 2021 (Boundary IoU, section 4), whose width is 2 % of the image's diagonal;
bands ("trimaps") from Kohli et al. 2009 and Kraehenbuehl & Koltun 2011 (section 5).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnseg.scoring.confusion import Counts, Map, strips

BOUNDARY_RATIO = 0.02
"""Width of boundaries as a share of the image's diagonal: Cheng et al. 2021."""

FAR = 1 << 30
"""Distance in a map of one label."""


def distance_to_other(labels: Map) -> NDArray[np.int32]:
    """Return the distance of each pixel to the nearest one of another label, px, H x W; FAR where there is none."""
    from scipy.ndimage import distance_transform_cdt  # only boundaries need SciPy

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


def boundary_tally(truth: Map, predicted: Map, to_other: NDArray[np.int32], classes: int) -> Counts:
    """Count each class's boundary pixels: those common to both, in the ground truth, in the prediction; 3 x K.

    A boundary pixel of a class is one of its pixels that is at most 2 % of the diagonal from another label or the
    outside. `truth` and `predicted` are codes H x W; where the truth is negative (void) nothing counts, and a negative
    prediction is of no class. `to_other` is `distance_to_other(truth)`.
    """
    width = max(1, round(BOUNDARY_RATIO * float(np.hypot(*truth.shape))))
    margin = np.ones(truth.shape, bool)
    margin[width:-width, width:-width] = False
    predicted_to_other = distance_to_other(predicted)
    tally = np.zeros((3, classes), np.int64)
    for rows in strips(truth):
        true, given = truth[rows], predicted[rows]
        in_truth = (true >= 0) & (margin[rows] | (to_other[rows] <= width))
        in_predicted = (true >= 0) & (given >= 0) & (margin[rows] | (predicted_to_other[rows] <= width))
        sides = ((in_truth & in_predicted & (true == given), true), (in_truth, true), (in_predicted, given))
        tally += [np.bincount(labels[mask], minlength=classes) for mask, labels in sides]
    return tally


def band_tallies(
    truth: Map, predicted: Map, to_other: NDArray[np.int32], widths: tuple[int, ...], classes: int
) -> Counts:
    """Count each class's pixels at most `widths` px (ascending) from another ground truth label: those that are right,
    in the ground truth, in the prediction; W x 3 x K.

    Arguments are as of `boundary_tally`. Void is a label like others here, and the image's edge no boundary.
    """
    tallies = np.zeros((len(widths), 3, classes), np.int64)
    for rows in strips(truth):
        near = (truth[rows] >= 0) & (to_other[rows] <= widths[-1])
        bands, true, given = np.searchsorted(widths, to_other[rows][near]), truth[rows][near], predicted[rows][near]
        right = true == given
        named = given >= 0
        for side, (band, labels) in enumerate(
            ((bands[right], true[right]), (bands, true), (bands[named], given[named]))
        ):
            counts = np.bincount(band * classes + labels, minlength=len(widths) * classes)
            tallies[:, side] += counts.reshape(len(widths), classes)
    return tallies.cumsum(0)
