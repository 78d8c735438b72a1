"""How often classes occur, and class weights: classes that few pixels show count more."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fcnseg.recipes import Recipe
from fcnseg.training.batches import read_ahead
from fcnseg.training.distributed import Processes
from fcnseg.training.samples import Samples

MOST = 20_000
"""Of larger data sets so many images are read, evenly spaced."""


def class_pixels(
    samples: Samples,
    recipe: Recipe,
    mine: Processes,
    workers: int = 0,
    each: Callable[[int, int], None] = lambda done, images: None,
) -> dict[str, Tensor]:
    """How many pixels each class has, int64 K by head. Reads all samples, shared by the processes; `each` is told how
    many of how many are done. Raises what reading raises."""
    count = min(len(samples), MOST)
    chosen = [index * len(samples) // count for index in range(mine.rank, count, mine.count)]
    pixels = {head.name: torch.zeros(head.labels.classes, dtype=torch.int64) for head in recipe.heads}
    for done, counts in enumerate(read_ahead(_ClassPixels(samples, recipe), chosen, workers), 1):
        for head, found in counts.items():
            pixels[head] += found
        each(min(done * mine.count, count), count)
    return {head: mine.total(found).cpu() for head, found in pixels.items()}


class _ClassPixels(Dataset[Mapping[str, Tensor]]):
    """How many pixels of each class an image has: int64 K by head."""

    def __init__(self, samples: Samples, recipe: Recipe) -> None:
        self.samples = samples
        self.heads = [(head.name, head.labels.classes, head.labels.ignore) for head in recipe.heads]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        labels = self.samples[index].labels
        return {
            head: torch.from_numpy(np.bincount(labels[head][labels[head] != ignore], minlength=classes))
            for head, classes, ignore in self.heads
        }


def balanced_weights(pixels: Tensor, power: float) -> Tensor:
    """Class weights K of class pixels K: (median share of the labelled pixels / own share) to `power`, within 1/2 and
    3; 1 for classes that do not occur."""
    shares = (pixels / pixels.sum().clamp_min(1)).float()
    present = shares > 0
    weights = torch.ones(len(shares))
    weights[present] = (shares[present].median() / shares[present]).pow(power).clamp(0.5, 3.0)
    return weights
