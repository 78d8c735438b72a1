"""The confusion matrix and the four measures of the FCN paper.

Counts are summed over the data set and divided once. Source: Long, Shelhamer & Darrell 2015, section 5.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


def confusion(truth: NDArray[np.uint8], predicted: NDArray[np.uint8], classes: int, ignore: int = 255) -> Counts:
    """Pixels of class i (row) predicted as class j (column), K x K; pixels whose truth is `ignore` do not count.

    Raises ValueError if the sizes differ or a label is out of range: a stray value must not land in another row.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"ground truth is {truth.shape}, the prediction {predicted.shape}")
    counted = truth != ignore
    rows, columns = truth[counted].astype(np.int64), predicted[counted].astype(np.int64)
    for what, values in (("ground truth", rows), ("prediction", columns)):
        if values.size and values.max() >= classes:
            raise ValueError(f"the {what} has label {values.max()}, but there are {classes} classes")
    return np.bincount(rows * classes + columns, minlength=classes * classes).reshape(classes, classes)


def class_iu(counts: Counts) -> NDArray[np.float64]:
    """Intersection over union of each class, 0..1; NaN where a class occurs neither in truth nor prediction."""
    hits = np.diag(counts).astype(np.float64)
    union = counts.sum(0) + counts.sum(1) - hits
    iu: NDArray[np.float64] = np.divide(hits, union, out=np.full_like(hits, np.nan), where=union > 0)
    return iu


def mean_iu(counts: Counts) -> float:
    """Mean intersection over union over the classes that occur, 0..1."""
    return float(np.nanmean(class_iu(counts)))


def pixel_accuracy(counts: Counts) -> float:
    """The share of counted pixels with the right label, 0..1."""
    return float(np.trace(counts) / counts.sum())
