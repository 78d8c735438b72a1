"""What training makes small."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def pixel_loss(scores: Tensor, labels: Tensor, ignore: int, weights: Tensor | None = None) -> Tensor:
    """Softmax cross-entropy summed over the pixels whose label is not `ignore`, each times its class's weight.

    Scores N x K x H x W, labels int64 N x H x W, weights K (all 1 if None). Zero where everything is void.
    Source: Long, Shelhamer & Darrell 2015, section 3.
    """
    return F.cross_entropy(scores.float(), labels, weights, ignore_index=ignore, reduction="sum")


def counted(labels: Tensor, ignore: int, weights: Tensor | None = None) -> Tensor:
    """The weight of all pixels that `pixel_loss` counts: their number, where all classes weigh 1. float64."""
    kept = labels[labels != ignore]
    return (torch.ones(()).expand(len(kept)) if weights is None else weights.cpu()[kept.cpu()]).double().sum()


def jaccard_loss(scores: Tensor, labels: Tensor, ignore: int) -> Tensor:
    """1 - intersection over union of the probabilities and the labels over all images given, mean over the classes
    that occur in the labels; 0 where all is void. Shapes as in `pixel_loss`.

    Source: Rahman & Wang 2016 (Optimizing intersection-over-union in deep neural networks).
    """
    kept = labels != ignore
    truth = labels[kept]
    shares = scores.float().softmax(1).movedim(1, -1)[kept]
    pixels = torch.bincount(truth, minlength=scores.shape[1])
    right = shares.gather(1, truth[:, None])[:, 0]
    common = shares.new_zeros(scores.shape[1]).index_add(0, truth, right)
    union = shares.sum(0) + pixels - common
    losses = (1 - common / union.clamp_min(1e-6))[pixels > 0]
    return losses.mean() if len(losses) else scores.sum() * 0
