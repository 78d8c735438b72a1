"""The losses are those that the papers define, written out here again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fcnseg.training.losses import jaccard_loss, labelled_weight, pixel_loss


def written_out(scores: Any, labels: Any, ignore: int) -> tuple[float, int]:
    """The sum of -log(softmax) over labelled pixels, and how many those are, in float64, pixel by pixel."""
    total, pixels = 0.0, 0
    for n, row, column in np.ndindex(labels.shape):
        label = int(labels[n, row, column])
        if label != ignore:
            x = scores[n, :, row, column].astype(np.float64)
            total += float(np.log(np.exp(x - x.max()).sum()) + x.max() - x[label])
            pixels += 1
    return total, pixels


@given(st.integers(0, 10**6), st.floats(0, 1))
def test_the_loss_is_the_sum_over_labelled_pixels(seed: int, void: float) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 3, (2, 4, 3, 5)).astype(np.float32)
    labels = rng.integers(0, 4, (2, 3, 5))
    labels[rng.random(labels.shape) < void] = 255
    total, pixels = written_out(scores, labels, 255)
    found = pixel_loss(torch.from_numpy(scores), torch.from_numpy(labels), 255)
    assert float(found) == pytest.approx(total, rel=1e-6, abs=1e-6)
    assert int(labelled_weight(torch.from_numpy(labels), 255)) == pixels


def test_weights_of_classes_count_in_the_loss_and_in_what_divides_it() -> None:
    labels = torch.tensor([[[0, 1, 255, 1]]])
    weights = torch.tensor([2.0, 0.5])
    assert float(labelled_weight(labels, 255, weights)) == 3.0
    assert float(pixel_loss(torch.zeros(1, 2, 1, 4), labels, 255, weights)) == pytest.approx(3 * np.log(2))


def test_an_image_that_is_all_void_weighs_nothing() -> None:
    scores = torch.randn(1, 3, 4, 4, requires_grad=True)
    labels = torch.full((1, 4, 4), 255)
    for loss in (pixel_loss(scores, labels, 255), jaccard_loss(scores, labels, 255)):
        (gradient,) = torch.autograd.grad(loss, scores)
        assert loss.item() == 0
        assert not gradient.any()


def test_the_jaccard_loss_of_certain_scores_is_one_minus_the_mean_iu() -> None:
    labels = torch.tensor([[[0, 0, 1, 1], [255, 2, 2, 1]]])
    predicted = torch.tensor([[[0, 1, 1, 1], [0, 2, 0, 1]]])
    scores = 1e4 * torch.nn.functional.one_hot(predicted, 4).movedim(-1, 1).float()
    # of the seven labelled pixels: class 0 has 1 of 3, class 1 3 of 4, class 2 1 of 2; class 3 does not occur
    assert float(jaccard_loss(scores, labels, 255)) == pytest.approx(1 - (1 / 3 + 3 / 4 + 1 / 2) / 3)
