"""Confusion matrices: pixels of class i (row, ground truth) that were predicted as class j (column).

Counts are whole numbers, summed over the data set and divided once, in `measures`.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Map = NDArray[np.integer[Any]]

STRIP_PX = 1 << 22
"""Pixels that are counted at once, which bounds memory."""

DENSE = 1 << 22
"""Largest table of pairs of values; beyond that, the values that occur are numbered first."""


def joint_counts(truth: Map, predicted: Map) -> tuple[Counts, Counts, Counts]:
    """Count the pairs of values at the same pixel of two maps of one shape.

    Returns the value in `truth`, the value in `predicted` and the number of pixels of each pair that occurs, three
    arrays of one length. Values are taken as they are, whatever they mean, so that none can be mistaken for another.
    """
    parts = [_joint_counts(truth[rows], predicted[rows]) for rows in strips(truth)]
    if len(parts) == 1:
        return parts[0]
    rows, columns, counts = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    pairs, positions = np.unique(np.stack([rows, columns]), axis=1, return_inverse=True)
    sums = np.zeros(pairs.shape[1], np.int64)
    np.add.at(sums, positions.ravel(), counts)
    return pairs[0], pairs[1], sums


def strips(values: NDArray[Any]) -> Iterator[slice]:
    """Yield slices of rows that together are the whole map, each of about STRIP_PX pixels."""
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
        occurring, pairs = np.unique(pairs, return_inverse=True)
        counts = np.bincount(pairs, lengths)
    else:
        table = np.bincount(pairs, lengths)
        occurring = np.flatnonzero(table)
        counts = table[occurring]
    row, column = np.divmod(occurring, stride)
    return row_values[row], column_values[column], counts.astype(np.int64)  # floats, exact below 2**53


def _numbered(values: Map) -> tuple[Counts, Counts]:
    """Number the values of a map from 0. Returns the numbers, in the map's shape, and the value of each number."""
    if values.size == 0 or (values.min() >= 0 and values.max() < DENSE):
        wide = np.uint16 if values.dtype == np.uint8 else np.int64  # 255 * 256 + 255 fits
        return values.astype(wide), np.arange(int(values.max(initial=0)) + 1)
    distinct, numbers = np.unique(values, return_inverse=True)
    return numbers.reshape(values.shape).astype(np.int64), distinct.astype(np.int64)


def confusion(truth: NDArray[np.uint8], predicted: NDArray[np.uint8], classes: int, ignore: int = 255) -> Counts:
    """Return the confusion matrix of one label map, K x K; pixels whose ground truth is `ignore` do not count.

    `truth` and `predicted` are H x W, labels 0 to `classes` - 1. Raises ValueError if the sizes differ or a label is
    out of range: a stray value must not land in another row.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"ground truth is {truth.shape}, the prediction {predicted.shape}")
    rows, columns, counts = joint_counts(truth, predicted)
    counted = rows != ignore
    rows, columns, counts = rows[counted], columns[counted], counts[counted]
    for side, values in (("ground truth", rows), ("prediction", columns)):
        if values.size and values.max() >= classes:
            raise ValueError(f"the {side} has label {values.max()}, but there are {classes} classes")
    matrix = np.zeros((classes, classes), np.int64)
    matrix[rows, columns] = counts
    return matrix
