"""Precision and recall of the second of two classes at every threshold of its probability."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnseg.scoring.confusion import Counts, Map

STEPS = 100
"""Thresholds are 0, 1/100 ... 1; a pixel is foreground where its probability is above the threshold."""


@dataclass(frozen=True)
class ThresholdFigures:
    """The figures of the foreground, 0..1, where it is what has a probability above `threshold`; NaN without any."""

    threshold: float
    precision: float
    recall: float
    iu: float
    dice: float


@dataclass(frozen=True)
class ThresholdCurve:
    """Figures at thresholds 0, 0.01 ... 1, and the average precision over them, 0..1.

    `counts` are the background and foreground pixels in each step of probability, 2 x 101.
    """

    average_precision: float
    points: tuple[ThresholdFigures, ...]
    counts: Counts


def threshold_counts(foreground: NDArray[np.floating[Any]], truth: Map) -> Counts:
    """Return the background and foreground pixels in each step of probability, 2 x (STEPS + 1).

    All are H x W: `foreground` are probabilities 0..1; `truth` is negative where nothing counts. Step i has those above
    (i - 1) / STEPS and at most i / STEPS.
    """
    counted = truth >= 0
    steps = np.clip(np.ceil(foreground[counted].astype(np.float64) * STEPS).astype(np.int64), 0, STEPS)
    cells = np.bincount((truth[counted] == 1) * (STEPS + 1) + steps, minlength=2 * (STEPS + 1))
    return cells.reshape(2, STEPS + 1).astype(np.int64)


def threshold_curve(counts: Counts) -> ThresholdCurve:
    """Return the figures at each threshold from what `threshold_counts` gave, summed over the data set.

    The average precision is the sum of precisions weighted by the steps of recall, over these thresholds.
    """
    above = counts[:, ::-1].cumsum(1)[:, ::-1]  # in step i and those after it
    wrong, right = (np.append(side[1:], 0) for side in above)  # above threshold i / STEPS
    total = int(counts[1].sum())
    points = tuple(_figures(i / STEPS, int(right[i]), int(wrong[i]), total) for i in range(STEPS + 1))
    hits, predicted = above[1], above.sum(0)
    gains = np.append(hits[:-1] - hits[1:], hits[-1]) / max(1, total)
    precisions = np.divide(hits, predicted, out=np.zeros(len(hits)), where=predicted > 0)
    return ThresholdCurve(float((gains * precisions).sum()) if total else float("nan"), points, counts)


def _figures(threshold: float, right: int, wrong: int, total: int) -> ThresholdFigures:
    predicted = right + wrong
    union = total + wrong
    return ThresholdFigures(
        threshold,
        precision=right / predicted if predicted else float("nan"),
        recall=right / total if total else float("nan"),
        iu=right / union if union else float("nan"),
        dice=2 * right / (total + predicted) if total + predicted else float("nan"),
    )
