"""Measures of segmentation: accuracy, IoU, Dice and kappa, from the pixel counts of each class; calibration.

Those of labels take a `Tally` and work on its last axis, for many resamplings at once. A class that occurs neither in
the ground truth nor in the prediction has no figure (NaN) and is left out of the means, as in the authors' scorer. `iu`
is intersection over union (IoU), as in the source of the first four: Long, Shelhamer & Darrell 2015, section 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnseg.scoring.confusion import Map

Floats = NDArray[np.float64]

BINS = 15
"""Number of equal bins of confidence from 0 to 1: Guo et al. 2017 (On Calibration of Modern Neural Networks)."""


@dataclass(frozen=True)
class Tally:
    """Pixels of each class: right (`hits`), in the ground truth, predicted. Each is ... x K, whole numbers.

    `included` (K, bool) says which classes enter the means; all if None.
    """

    hits: NDArray[np.int64]
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    included: NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, counts: NDArray[np.int64], included: NDArray[np.bool_] | None = None) -> Tally:
        """Make the tally of a confusion matrix, K x K (rows ground truth); column K + 1, if any, is of no class."""
        return cls(np.diag(counts), counts.sum(1), counts.sum(0)[: len(counts)], included)

    @classmethod
    def of_margins(cls, margins: NDArray[np.int64], included: NDArray[np.bool_] | None = None) -> Tally:
        """Make the tally of right, ground truth and predicted pixels in one array, ... x 3 x K."""
        return cls(margins[..., 0, :], margins[..., 1, :], margins[..., 2, :], included)


def class_iu(tally: Tally) -> Floats:
    """Return the intersection over union (IoU) of each class, ... x K, 0..1: n_ii / (t_i + sum_j n_ji - n_ii)."""
    return _ratio(tally.hits, tally.truth + tally.predicted - tally.hits)


def class_accuracy(tally: Tally) -> Floats:
    """Return the share of each class's pixels that were predicted as it (recall), ... x K, 0..1: n_ii / t_i."""
    return _ratio(tally.hits, tally.truth)


def class_precision(tally: Tally) -> Floats:
    """Return the share of the pixels predicted as each class that are of it, ... x K, 0..1: n_ii / sum_j n_ji."""
    return _ratio(tally.hits, tally.predicted)


def class_dice(tally: Tally) -> Floats:
    """Return the Dice coefficient (F1) of each class, ... x K, 0..1: 2 n_ii / (t_i + sum_j n_ji). Source: Dice 1945."""
    return _ratio(2 * tally.hits, tally.truth + tally.predicted)


def pixel_accuracy(tally: Tally) -> Floats:
    """Return the share of counted pixels with the right label, 0..1: sum n_ii / sum t_i."""
    return _ratio(tally.hits.sum(-1), tally.truth.sum(-1))


def mean_accuracy(tally: Tally) -> Floats:
    """Return the mean of `class_accuracy` over the classes of the ground truth, 0..1."""
    return _mean(class_accuracy(tally), tally.included)


def mean_iu(tally: Tally) -> Floats:
    """Return the mean of `class_iu` over the classes that occur, 0..1."""
    return _mean(class_iu(tally), tally.included)


def mean_dice(tally: Tally) -> Floats:
    """Return the mean of `class_dice` over the classes that occur, 0..1."""
    return _mean(class_dice(tally), tally.included)


def frequency_weighted_iu(tally: Tally) -> Floats:
    """Return the mean of `class_iu` weighted by the pixels of each class, 0..1: sum t_i iu_i / sum t_k."""
    weighted = tally.truth * np.nan_to_num(class_iu(tally))
    return _ratio(weighted.sum(-1), tally.truth.sum(-1))


def averaged_classes(tally: Tally) -> dict[str, int]:
    """Return the number of classes that each of the three means is over."""
    counted = {
        "mean_accuracy": tally.truth > 0,
        "mean_iu": (tally.truth + tally.predicted) > 0,
        "mean_dice": (tally.truth + tally.predicted) > 0,
    }
    included = np.ones(tally.truth.shape, bool) if tally.included is None else tally.included
    return {name: int((occurs & included).sum()) for name, occurs in counted.items()}


def per_image_means(tally: Tally) -> dict[str, float]:
    """Return the means of IoU and Dice per image: of each class over the images that have it, then over the classes.

    `tally` is that of N images, N x K. Those with `foreground_` leave out class 0. Source: nnU-Net (Isensee et al.
    2021), `compute_metrics_on_folder` in its `evaluation/evaluate_predictions.py`.
    """
    included = np.ones(tally.truth.shape[-1], bool) if tally.included is None else tally.included
    foreground = included & (np.arange(len(included)) > 0)
    means: dict[str, float] = {}
    for name, measure in (("mean_iu", class_iu), ("mean_dice", class_dice)):
        values = measure(tally)
        known = ~np.isnan(values)
        of_class = _ratio(np.where(known, values, 0).sum(0), known.sum(0))
        means[name] = float(_mean(of_class, included))
        means[f"foreground_{name}"] = float(_mean(of_class, foreground))
    return means


def kappa(tally: Tally) -> Floats:
    """Return Cohen's kappa, agreement beyond chance, -1..1; NaN where chance alone agrees fully. Source: Cohen 1960."""
    total = tally.truth.sum(-1).astype(np.float64)
    observed = pixel_accuracy(tally)
    chance = _ratio((tally.truth.astype(np.float64) * tally.predicted).sum(-1), total**2)
    return _ratio(observed - chance, 1 - chance)


FIGURES = {
    "pixel_accuracy": pixel_accuracy,
    "mean_accuracy": mean_accuracy,
    "mean_iu": mean_iu,
    "frequency_weighted_iu": frequency_weighted_iu,
    "mean_dice": mean_dice,
    "kappa": kappa,
}
"""The figures of a whole data set, in the order in which they are shown."""


# ---------------------------------------------------------------------- calibration of probabilities


def confidence_bins(confidence: NDArray[np.floating[Any]], predicted: Map, truth: Map) -> Floats:
    """Return the pixels, the right ones, and the sum of confidences in each bin of confidence, 3 x BINS.

    All are H x W: `confidence` is the probability of the `predicted` class; `truth` is negative where nothing counts.
    """
    counted = truth >= 0
    confidence = confidence[counted].astype(np.float64)
    right = predicted[counted] == truth[counted]
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)  # (low, high]
    weights = (None, right, confidence)
    return np.stack([np.bincount(bins, w, BINS).astype(np.float64) for w in weights])


def calibration_error(bins: Floats) -> float:
    """Return the expected calibration error, 0..1: the gap of confidence and accuracy, averaged over the pixels."""
    pixels, right, confidence = bins
    return float(np.abs(right - confidence).sum() / pixels.sum()) if pixels.sum() else float("nan")


def _ratio(part: NDArray[np.generic], whole: NDArray[np.generic]) -> Floats:
    parts, wholes = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    ratio: Floats = np.divide(parts, wholes, out=np.full(parts.shape, np.nan), where=wholes > 0)
    return ratio


def _mean(values: Floats, included: NDArray[np.bool_] | None) -> Floats:
    counted = ~np.isnan(values) if included is None else ~np.isnan(values) & included
    return _ratio(np.where(counted, values, 0).sum(-1), counted.sum(-1))
