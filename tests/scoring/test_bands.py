"""Boundaries and calibration against definitions written out pixel by pixel."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fcnseg.scoring.bands import FAR, band_tallies, boundary_tally, distance_to_other
from fcnseg.scoring.measures import BINS, calibration_error, confidence_bins


def blobs(seed: int, classes: int, void: bool = True) -> NDArray[np.int64]:
    """Smooth regions, some of them void (-1)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(-1 if void else 0, classes, (4, 5)).astype(np.float32)
    return np.rint(cv2.resize(coarse, (31, 23), interpolation=cv2.INTER_NEAREST)).astype(np.int64)


@pytest.mark.parametrize("seed", range(4))
def test_distances_are_to_the_nearest_other_label(seed: int) -> None:
    labels = blobs(seed, 3)
    distances = distance_to_other(labels)
    for y, x in np.ndindex(labels.shape):
        others = np.argwhere(labels != labels[y, x])
        assert distances[y, x] == np.abs(others - (y, x)).max(1).min()


def test_a_map_of_one_label_has_no_boundary() -> None:
    assert (distance_to_other(np.zeros((3, 4), np.int64)) == FAR).all()
    assert (distance_to_other(np.zeros((1, 1), np.int64)) == FAR).all()


def reference_boundary(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Cheng et al.'s boundary of a mask: what an erosion takes away that also eats in from the image's edge."""
    width = max(1, round(0.02 * float(np.hypot(*mask.shape))))
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1]
    return mask & (eroded == 0)


@pytest.mark.parametrize("seed", range(4))
def test_boundary_iu_is_that_of_its_paper(seed: int) -> None:
    truth, predicted = blobs(seed, 3, void=False), blobs(seed + 100, 3, void=False)
    common, in_truth, in_predicted = boundary_tally(truth, predicted, distance_to_other(truth), 3)
    for c in range(3):
        ours, theirs = reference_boundary(truth == c), reference_boundary(predicted == c)
        assert (common[c], in_truth[c], in_predicted[c]) == ((ours & theirs).sum(), ours.sum(), theirs.sum())


def test_void_counts_in_no_boundary() -> None:
    truth, predicted = blobs(1, 3), blobs(2, 3, void=False)
    assert (truth < 0).any()
    tally = boundary_tally(truth, predicted, distance_to_other(truth), 3)
    assert tally[2].sum() <= (truth >= 0).sum()
    assert (boundary_tally(np.full_like(truth, -1), predicted, distance_to_other(truth), 3) == 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_bands_hold_what_is_near_another_label(seed: int) -> None:
    truth, predicted = blobs(seed, 3), blobs(seed + 50, 3, void=False)
    widths = (1, 2, 5)
    found = band_tallies(truth, predicted, distance_to_other(truth), widths, 3)
    for width, counts in zip(widths, found, strict=True):
        square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
        spread = [cv2.dilate((truth == label).astype(np.uint8), square) for label in range(-1, 3)]
        near = (sum(s.astype(int) for s in spread) > 1) & (truth >= 0)  # labels of two kinds within reach
        for c in range(3):
            is_, said = truth[near] == c, predicted[near] == c
            assert counts[:, c].tolist() == [(is_ & said).sum(), is_.sum(), said.sum()]


def test_calibration_is_the_gap_of_confidence_and_accuracy() -> None:
    probabilities = np.array([[[0.9, 0.9, 0.6, 0.5]], [[0.1, 0.1, 0.4, 0.5]]])
    truth = np.array([[0, 1, 0, -1]])
    bins = confidence_bins(probabilities.max(0), probabilities.argmax(0), truth)
    assert bins.shape == (3, BINS)
    assert bins[0].sum() == 3
    # two pixels at 0.9 of which one is right, one at 0.6 that is right
    assert calibration_error(bins) == pytest.approx((2 * abs(0.5 - 0.9) + abs(1 - 0.6)) / 3)


def test_certain_and_right_is_calibrated() -> None:
    ones = np.ones((4, 5), np.int64)
    assert calibration_error(confidence_bins(ones.astype(float), ones, ones)) == 0
    assert np.isnan(calibration_error(confidence_bins(ones.astype(float), ones, -ones)))
