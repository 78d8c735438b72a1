"""Training losses: softmax cross-entropy per pixel, focal or not; and soft Jaccard (IoU) and Dice, of whole steps.

Losses of overlap are functions of sums over all pixels of a step. Where a step is cut into micro-batches or shared by
processes, its gradient is that of each one's share of the sums, times the slope of the loss at the whole sums.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def pixel_loss(
    scores: Tensor, labels: Tensor, ignore: int, weights: Tensor | None = None, focal_gamma: float = 0.0
) -> Tensor:
    """Return the softmax cross-entropy summed over pixels whose label is not `ignore`, each times its class's weight.

    With `focal_gamma`, that of a pixel is also multiplied by (1 - p)^gamma, where p is the probability of its label.
    Scores N x K x H x W, labels int64 N x H x W, weights K (all 1 if None). Zero where everything is void.
    Sources: Long, Shelhamer & Darrell 2015, section 3; Lin et al. 2017 (Focal loss for dense object detection).
    """
    if not focal_gamma:
        return F.cross_entropy(scores.float(), labels, weights, ignore_index=ignore, reduction="sum")
    entropy = F.cross_entropy(scores.float(), labels, ignore_index=ignore, reduction="none")  # 0 where void
    focus = (1 - torch.exp(-entropy)).clamp_min(1e-12) ** focal_gamma  # a slope at 0, whatever gamma is
    of_label = 1.0 if weights is None else weights[torch.where(labels == ignore, 0, labels)]
    return (of_label * focus * entropy).sum()


def labelled_weight(labels: Tensor, ignore: int, weights: Tensor | None = None) -> Tensor:
    """Return the total weight of the pixels in `pixel_loss`: their number if all classes weigh 1. float64."""
    if weights is None:
        return (labels != ignore).sum().double()
    pixels = torch.bincount(labels.flatten(), minlength=max(len(weights), ignore + 1)).double().cpu()
    pixels[ignore] = 0
    return pixels[: len(weights)] @ weights.double().cpu()


def class_sums(scores: Tensor, labels: Tensor, ignore: int) -> Tensor:
    """Return 3 x K sums over the labelled pixels: the probability of the right class, that of each class, pixels.

    Shapes as in `pixel_loss`. The sums of several batches are those of all their images.
    """
    valid = labels != ignore
    truth = labels[valid]
    probabilities = scores.float().softmax(1).movedim(1, -1)[valid]
    pixels = torch.bincount(truth, minlength=scores.shape[1])
    true_probability = probabilities.gather(1, truth[:, None])[:, 0]
    intersection = probabilities.new_zeros(scores.shape[1]).index_add(0, truth, true_probability)
    return torch.stack([intersection, probabilities.sum(0), pixels.to(intersection.dtype)])


def overlap_loss(sums: Tensor, jaccard_weight: float, dice_weight: float) -> Tensor:
    """Return the weighted soft Jaccard and Dice losses of `class_sums`, averaged over the classes in the labels.

    They are 1 - I / (P + T - I) and 1 - 2 I / (P + T); 0 where everything is void. Sources: Rahman & Wang 2016
    (Optimizing intersection-over-union in deep neural networks); Drozdzal et al. 2016 (arXiv 1608.04117).
    """
    intersection, predicted, pixels = sums
    present = pixels > 0
    if not present.any():
        return sums.sum() * 0
    jaccard = 1 - intersection / (predicted + pixels - intersection).clamp_min(1e-6)
    dice = 1 - 2 * intersection / (predicted + pixels).clamp_min(1e-6)
    losses: Tensor = jaccard_weight * jaccard + dice_weight * dice
    return losses[present].mean()


def overlap_slopes(sums: Tensor, jaccard_weight: float, dice_weight: float) -> tuple[Tensor, float]:
    """Return the slope of `overlap_loss` at the sums of a whole step, 3 x K, and its value."""
    with torch.enable_grad():
        at = sums.detach().requires_grad_()
        loss = overlap_loss(at, jaccard_weight, dice_weight)
        (slopes,) = torch.autograd.grad(loss, at)
    return slopes, float(loss.detach())
