"""Confusion matrices: pixels of class i (row, ground truth) that were predicted as class j (column).

Counts are whole numbers, summed over the data set and divided once; the measures are in `measures`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnseg.scoring import measures
from fcnseg.scoring.measures import Tally

Counts = NDArray[np.int64]
Map = NDArray[np.integer[Any]]

STRIP_PX = 1 << 22
"""Maps are counted in strips of so many pixels."""

DENSE = 1 << 22
"""Up to so many pairs of values are counted in one table; beyond, values are numbered first."""


def joint_counts(truth: Map, predicted: Map) -> tuple[Counts, Counts, Counts]:
    """Which pairs of values two maps of one shape hold, and on how many pixels: three arrays of one length.

    Values are taken as they are, whatever they mean, so that none can be mistaken for another.
    """
    parts = [_joint_counts(truth[rows], predicted[rows]) for rows in strips(truth)]
    if len(parts) == 1:
        return parts[0]
    rows, columns, counts = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    found, places = np.unique(np.stack([rows, columns]), axis=1, return_inverse=True)
    sums = np.zeros(found.shape[1], np.int64)
    np.add.at(sums, places.ravel(), counts)
    return found[0], found[1], sums


def strips(values: NDArray[Any]) -> Iterator[slice]:
    """The rows of a map in turn, so many that what is worked out about them takes little memory."""
    step = max(1, STRIP_PX // max(1, values[:1].size))
    return (slice(start, start + step) for start in range(0, max(1, len(values)), step))


def _joint_counts(truth: Map, predicted: Map) -> tuple[Counts, Counts, Counts]:
    truth, predicted = truth.ravel(), predicted.ravel()
    lengths = None
    ends = np.flatnonzero((truth[1:] != truth[:-1]) | (predicted[1:] != predicted[:-1]))
    if len(ends) < truth.size // 8:  # few runs of one pair: as usual in label maps, and several times as fast
        ends = np.append(ends, truth.size - 1)
        lengths = np.diff(ends, prepend=-1)
        truth, predicted = truth[ends], predicted[ends]
    rows, row_values = _numbered(truth)
    columns, column_values = _numbered(predicted)
    stride = int(columns.max(initial=0)) + 1
    pairs = rows * stride + columns
    if (int(rows.max(initial=0)) + 1) * stride > DENSE:
        found, pairs = np.unique(pairs, return_inverse=True)
        counts = np.bincount(pairs, lengths)
    else:
        table = np.bincount(pairs, lengths)
        found = np.flatnonzero(table)
        counts = table[found]
    row, column = np.divmod(found, stride)
    return row_values[row], column_values[column], counts.astype(np.int64)  # floats, exact below 2**53


def _numbered(values: Map) -> tuple[Counts, Counts]:
    """Numbers from 0 for the values of a map, and the value of each number."""
    if values.size == 0 or (values.min() >= 0 and values.max() < DENSE):
        wide = np.uint16 if values.dtype == np.uint8 else np.int64  # 255 * 256 + 255 fits
        return values.astype(wide), np.arange(int(values.max(initial=0)) + 1)
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
