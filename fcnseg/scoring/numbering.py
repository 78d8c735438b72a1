"""Signs that predictions number the classes otherwise than the ground truth: by a constant shift, or permuted."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fcnseg.scoring.confusion import Counts

FITS = 0.5
"""IoU from which a class counts as found by another number ..."""

MISSES = 0.25
"""... and up to which as missed by its own."""

LEAST_CLASSES = 2
"""Number of classes that must be found by another number: one alone may just be mistaken for another."""

SHIFTED = 0.75
"""Share of the classes that fit better permuted from which a shift that they have in common is said instead."""

NAMED = 3


def misnumbering(counts: Counts, names: Sequence[str], side: str = "predictions") -> str | None:
    """Return a warning if another numbering of the predictions fits far better than theirs, else None.

    `counts` is K x K or K x (K + 1), rows ground truth. Compared are every constant shift, and the permutation that
    pairs the classes with most pixels in common, the largest first.
    """
    square = counts[:, : len(counts)]
    unions = counts.sum(1)[:, None] + square.sum(0)[None] - square
    ius = np.divide(square, unions, out=np.zeros(square.shape), where=unions > 0)
    permutation = _largest_first(square)
    shift = _best_shift(square)
    shifted = {i: i + shift for i in range(len(square)) if 0 <= i + shift < len(square)}
    moved, exchanged = _moved(ius, shifted) if shift else [], _moved(ius, permutation)
    if len(moved) >= max(LEAST_CLASSES, SHIFTED * len(exchanged)):
        above = "above" if shift > 0 else "below"
        remedy = {1: "--reduce-pred-labels counts theirs from 1", -1: "--reduce-labels counts the ground truth from 1"}
        return (
            f"the {side} fit far better shifted: {len(moved)} classes are {abs(shift)} {above} the ground truth; "
            f"{remedy.get(shift, '--pred-label-map FILE says what their values mean')}"
        )
    if len(exchanged) < LEAST_CLASSES:
        return None
    pairs = ", ".join(f"{names[i]} is predicted as {names[permutation[i]]}" for i in exchanged[:NAMED])
    more = f" and {len(exchanged) - NAMED} more" if len(exchanged) > NAMED else ""
    return (
        f"the {side} fit far better with classes exchanged: {pairs}{more}; --pred-label-map FILE says what their "
        "values mean"
    )


def _moved(ius: NDArray[np.float64], numbering: dict[int, int]) -> list[int]:
    """Return the classes of the ground truth that are found by another number and missed by their own."""
    return [i for i, j in sorted(numbering.items()) if i != j and ius[i, j] >= FITS and ius[i, i] <= MISSES]


def _best_shift(counts: Counts) -> int:
    """Return the s, 0 if none is better, for which most pixels of class i are predicted as i + s."""
    rows, columns = np.nonzero(counts)
    offsets = columns - rows + len(counts) - 1
    sums = np.bincount(offsets, counts[rows, columns], minlength=2 * len(counts) - 1)
    best = int(sums.argmax()) - len(counts) + 1
    return best if sums[best + len(counts) - 1] > sums[len(counts) - 1] else 0


def _largest_first(counts: Counts) -> dict[int, int]:
    """Return the class predicted for each class of the ground truth, each used once, by falling number of pixels."""
    rows, columns = np.nonzero(counts)
    order = np.argsort(-counts[rows, columns], kind="stable")
    numbering: dict[int, int] = {}
    taken: set[int] = set()
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in numbering and column not in taken:
            numbering[row] = column
            taken.add(column)
    return numbering
