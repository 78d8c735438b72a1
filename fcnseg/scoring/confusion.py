"""Confusion matrices: pixels of class i (row, ground truth) that were predicted as class j (column).

Counts are whole numbers, summed over the data set and divided once; the measures are in `measures`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnseg.scoring import measures
from fcnseg.scoring.measures import Tally

Counts = NDArray[np.int64]
Map = NDArray[np.integer[Any]]

DENSE = 1 << 22
"""Up to so many pairs of values are counted in one table; beyond, values are numbered first."""


def joint_counts(truth: Map, predicted: Map) -> tuple[Counts, Counts, Counts]:
    """Which pairs of values two maps of one shape hold, and on how many pixels: three arrays of one length.

    Values are taken as they are, whatever they mean, so that none can be mistaken for another.
    """
    if truth.dtype == np.uint8 and predicted.dtype == np.uint8:
        joint = truth.astype(np.uint16)  # truth * 256 + predicted
        joint <<= 8
        joint |= predicted
        return _nonzero(np.bincount(joint.ravel(), minlength=1 << 16), 256)
    rows, row_values = _numbered(truth)
    columns, column_values = _numbered(predicted)
    stride = int(columns.max(initial=0)) + 1
    if (int(rows.max(initial=0)) + 1) * stride > DENSE:
        pairs, counts = np.unique(rows * stride + columns, return_counts=True)
        row, column = np.divmod(pairs, stride)
    else:
        row, column, counts = _nonzero(np.bincount((rows * stride + columns).ravel()), stride)
    return row_values[row], column_values[column], counts


def _nonzero(table: Counts, stride: int) -> tuple[Counts, Counts, Counts]:
    pairs = np.flatnonzero(table)
    row, column = np.divmod(pairs, stride)
    return row, column, table[pairs]


def _numbered(values: Map) -> tuple[Counts, Counts]:
    """Numbers from 0 for the values of a map, and the value of each number."""
    if values.size == 0 or (values.min() >= 0 and values.max() < DENSE):
        return values.astype(np.int64), np.arange(int(values.max(initial=0)) + 1)
    found, numbers = np.unique(values, return_inverse=True)
    return numbers.reshape(values.shape).astype(np.int64), found.astype(np.int64)


def confusion(truth: NDArray[np.uint8], predicted: NDArray[np.uint8], classes: int, ignore: int = 255) -> Counts:
    """The confusion matrix of one map, K x K; pixels whose truth is `ignore` do not count.

    `truth` and `predicted` are H x W, labels 0 to `classes` - 1. Raises ValueError if the sizes differ or a label is
    out of range: a stray value must not land in another row.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"ground truth is {truth.shape}, the prediction {predicted.shape}")
    rows, columns, counts = joint_counts(truth, predicted)
    counted = rows != ignore
    rows, columns, counts = rows[counted], columns[counted], counts[counted]
    for what, values in (("ground truth", rows), ("prediction", columns)):
        if values.size and values.max() >= classes:
            raise ValueError(f"the {what} has label {values.max()}, but there are {classes} classes")
    matrix = np.zeros((classes, classes), np.int64)
    matrix[rows, columns] = counts
    return matrix


def class_iu(counts: Counts) -> NDArray[np.float64]:
    """Intersection over union of each class, K, 0..1; NaN where a class occurs neither in truth nor prediction."""
    return measures.class_iu(Tally.of(counts))


def mean_iu(counts: Counts) -> float:
    """Mean intersection over union over the classes that occur, 0..1."""
    return float(measures.mean_iu(Tally.of(counts)))


def pixel_accuracy(counts: Counts) -> float:
    """The share of counted pixels with the right label, 0..1."""
    return float(measures.pixel_accuracy(Tally.of(counts)))
