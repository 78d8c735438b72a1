"""The losses are those that the papers define, written out here again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fcnseg.training.losses import class_sums, labelled_weight, overlap_loss, overlap_slopes, pixel_loss


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
    overlap = overlap_loss(class_sums(scores, labels, 255), 1.0, 1.0)
    for loss in (pixel_loss(scores, labels, 255), pixel_loss(scores, labels, 255, None, 2.0), overlap):
        (gradient,) = torch.autograd.grad(loss, scores)
        assert loss.item() == 0
        assert not gradient.any()


def test_the_jaccard_loss_of_certain_scores_is_one_minus_the_mean_iu() -> None:
    labels = torch.tensor([[[0, 0, 1, 1], [255, 2, 2, 1]]])
    predicted = torch.tensor([[[0, 1, 1, 1], [0, 2, 0, 1]]])
    scores = 1e4 * torch.nn.functional.one_hot(predicted, 4).movedim(-1, 1).float()
    # of the seven labelled pixels: class 0 has 1 of 3, class 1 3 of 4, class 2 1 of 2; class 3 does not occur
    sums = class_sums(scores, labels, 255)
    assert float(overlap_loss(sums, 1.0, 0.0)) == pytest.approx(1 - (1 / 3 + 3 / 4 + 1 / 2) / 3)
    assert float(overlap_loss(sums, 0.0, 2.0)) == pytest.approx(2 * (1 - (2 / 4 + 6 / 7 + 2 / 3) / 3))


@given(st.integers(0, 10**6), st.sampled_from([0.5, 1.0, 2.0]))
def test_the_focal_loss_is_that_of_its_paper(seed: int, gamma: float) -> None:
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy(rng.normal(0, 3, (2, 4, 3, 5))).requires_grad_()
    labels = torch.from_numpy(rng.integers(0, 4, (2, 3, 5)))
    labels[0, 0] = 255
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0])
    chances = scores.softmax(1).movedim(1, -1)[labels != 255]
    truth = labels[labels != 255]
    p = chances.gather(1, truth[:, None])[:, 0]
    expected = -(weights[truth] * (1 - p) ** gamma * p.log()).sum()
    found = pixel_loss(scores, labels, 255, weights, gamma)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    (ours,), (theirs,) = (torch.autograd.grad(loss, scores) for loss in (found, expected))
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_pixel_that_is_certain_has_a_focal_slope() -> None:
    scores = torch.tensor([[[[100.0]], [[0.0]]]], requires_grad=True)
    pixel_loss(scores, torch.zeros(1, 1, 1, dtype=torch.int64), 255, None, 0.5).backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()


def test_shares_times_slopes_have_the_gradient_of_the_whole() -> None:
    scores = torch.randn(6, 3, 5, 4, requires_grad=True)
    labels = torch.randint(0, 3, (6, 5, 4))
    whole = overlap_loss(class_sums(scores, labels, 255), 1.0, 0.7)
    (expected,) = torch.autograd.grad(whole, scores)
    slopes, value = overlap_slopes(class_sums(scores, labels, 255), 1.0, 0.7)
    parts = [(slopes * class_sums(scores[i : i + 2], labels[i : i + 2], 255)).sum() for i in (0, 2, 4)]
    (found,) = torch.autograd.grad(torch.stack(parts).sum(), scores)
    assert value == pytest.approx(float(whole))
    assert torch.allclose(found, expected, atol=1e-7)
