"""Training losses: softmax cross-entropy per pixel, and the soft Jaccard (IoU) loss."""

import torch
import torch.nn.functional as F
from torch import Tensor


def pixel_loss(scores: Tensor, labels: Tensor, ignore: int, weights: Tensor | None = None) -> Tensor:
    """Return the softmax cross-entropy summed over pixels whose label is not `ignore`, each times its class's weight.

    Scores N x K x H x W, labels int64 N x H x W, weights K (all 1 if None). Zero where everything is void.
    Source: Long, Shelhamer & Darrell 2015, section 3.
    """
    return F.cross_entropy(scores.float(), labels, weights, ignore_index=ignore, reduction="sum")


def labelled_weight(labels: Tensor, ignore: int, weights: Tensor | None = None) -> Tensor:
    """Return the total weight of the pixels in `pixel_loss`: their number if all classes weigh 1. float64."""
    labelled = labels[labels != ignore]
    return (torch.ones(()).expand(len(labelled)) if weights is None else weights.cpu()[labelled.cpu()]).double().sum()


def jaccard_loss(scores: Tensor, labels: Tensor, ignore: int) -> Tensor:
    """Return 1 - IoU of probabilities and labels over all images given, averaged over the classes in the labels.

    Shapes as in `pixel_loss`; 0 where everything is void.
    Source: Rahman & Wang 2016 (Optimizing intersection-over-union in deep neural networks).
    """
    valid = labels != ignore
    truth = labels[valid]
    probabilities = scores.float().softmax(1).movedim(1, -1)[valid]
    pixels = torch.bincount(truth, minlength=scores.shape[1])
    true_probability = probabilities.gather(1, truth[:, None])[:, 0]
    intersection = probabilities.new_zeros(scores.shape[1]).index_add(0, truth, true_probability)
    union = probabilities.sum(0) + pixels - intersection
    losses = (1 - intersection / union.clamp_min(1e-6))[pixels > 0]
    return losses.mean() if len(losses) else scores.sum() * 0
