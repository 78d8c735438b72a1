"""Maps with a plane for each class: one-hot labels, probabilities and logits, whichever axis the classes are on."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnseg.errors import LabelsError

Planes = NDArray[Any]

SUM_TOLERANCE = 0.02
"""By how much probabilities may miss the sum 1: those in float16, or in 8 bits, do."""


def class_planes(values: Planes, classes: int) -> Planes:
    """Return the planes K x H x W of an array K x H x W or H x W x K; where both fit, sums of 1 tell.

    Raises LabelsError if neither axis is K long.
    """
    first, last = (values.shape[axis] == classes for axis in (0, 2))
    if first and not (last and not _sums_to_one(values, 0) and _sums_to_one(values, 2)):
        return values
    if last:
        return np.moveaxis(values, 2, 0)
    if values.dtype.kind == "f":
        turned = values.shape[2] < values.shape[0] and _sums_to_one(values, 2)
        number = values.shape[2] if turned else len(values)
        raise LabelsError(f"holds probabilities of {number} classes{' (H x W x K)' * turned}, expected {classes}")
    shape = " x ".join(map(str, values.shape))
    raise LabelsError(
        f"holds {values.dtype} {shape}; one-hot labels are K x H x W or H x W x K with K = {classes}, and of several "
        "maps N x H x W the file itself is given, not its folder"
    )


def _sums_to_one(values: Planes, axis: int) -> bool:
    return bool((np.abs(values.sum(axis, dtype=np.float64) - 1) <= SUM_TOLERANCE).all())


def is_one_hot(planes: Planes) -> bool:
    """Tell if planes K x H x W hold 0 and 1, and at most one 1 a pixel."""
    return bool(((planes == 0) | (planes == 1)).all() and planes.sum(0, dtype=np.int64).max() <= 1)


def labels_of_one_hot(planes: Planes) -> NDArray[np.intp]:
    """Return the class of each pixel of one-hot planes, H x W: K where all planes are 0.

    Raises LabelsError for other whole numbers.
    """
    if not is_one_hot(planes):
        raise LabelsError(
            f"holds {planes.dtype} planes of values up to {planes.max()} that are not one-hot; each pixel is 1 in one "
            "plane"
        )
    return np.where(planes.any(0), planes.argmax(0), len(planes))


def probabilities_of(planes: Planes, logits: bool) -> Planes:
    """Return the probabilities K x H x W of planes that hold them, or with `logits` scores before softmax.

    Raises LabelsError for floats that are neither.
    """
    _check_finite(planes)
    if logits:
        shifted = np.exp((planes - planes.max(0)).astype(np.float64))
        softmax: Planes = shifted / shifted.sum(0)
        return softmax
    low, high = float(planes.min()), float(planes.max())
    sums = planes.sum(0, dtype=np.float64)
    if low < 0 or high > 1.001:
        raise LabelsError(
            f"holds values from {low:.4g} to {high:.4g}; probabilities are 0 to 1, with sum 1; --logits reads scores "
            "before softmax"
        )
    if abs(sums - 1).max() > SUM_TOLERANCE:
        raise LabelsError(
            f"holds values from {low:.4g} to {high:.4g} whose sums are {sums.min():.4g} to {sums.max():.4g}; "
            "probabilities are 0 to 1, with sum 1: of independent (sigmoid) scores save the largest as a label map"
        )
    return planes


def foreground_probabilities(values: Planes, logits: bool) -> Planes:
    """Return the probabilities of background and foreground, 2 x H x W, from those of the foreground, H x W floats.

    With `logits` they are scores before the sigmoid. Raises LabelsError for values that are neither.
    """
    _check_finite(values)
    if logits:
        values = 0.5 * (1 + np.tanh(values.astype(np.float64) / 2))  # the sigmoid, without overflow
    if values.min() < 0 or values.max() > 1:
        raise LabelsError(
            f"holds values from {values.min():.4g} to {values.max():.4g}; foreground probabilities are 0 to 1; "
            "--logits reads scores before the sigmoid"
        )
    return np.stack([1 - values, values])


def _check_finite(values: Planes) -> None:
    if not np.isfinite(values).all():
        raise LabelsError("holds probabilities that are not finite")
