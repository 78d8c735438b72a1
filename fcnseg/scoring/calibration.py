"""Calibration of probabilities: the accuracy of labels by their confidence (reliability)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnseg.scoring.confusion import Map

BINS = 15
"""Number of equal bins of confidence from 0 to 1: Guo et al. 2017 (On Calibration of Modern Neural Networks)."""

Bins = NDArray[np.float64]


def confidence_bins(confidence: NDArray[np.floating[Any]], predicted: Map, truth: Map) -> Bins:
    """Return the pixels, the right ones, and the sum of confidences in each bin of confidence, 3 x BINS.

    All arguments are H x W: `confidence` is the probability of the `predicted` class; `truth` is negative where nothing
    counts.
    """
    counted = truth >= 0
    confidence = confidence[counted].astype(np.float64)
    right = predicted[counted] == truth[counted]
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)  # (low, high]
    weights = (None, right, confidence)
    return np.stack([np.bincount(bins, w, BINS).astype(np.float64) for w in weights])


def calibration_error(bins: Bins) -> float:
    """Return the expected calibration error, 0..1: the gap of confidence and accuracy, averaged over the pixels."""
    pixels, right, confidence = bins
    return float(np.abs(right - confidence).sum() / pixels.sum()) if pixels.sum() else float("nan")
