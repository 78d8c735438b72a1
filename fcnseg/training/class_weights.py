"""Class frequencies, and class weights by median-frequency balancing."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fcnseg.recipes import Recipe
from fcnseg.training.distributed import Ranks
from fcnseg.training.readers import Readers
from fcnseg.training.samples import Samples

MAX_IMAGES = 20_000
"""Of larger data sets only this many images are read, evenly spaced."""


def count_class_pixels(
    samples: Samples,
    recipe: Recipe,
    ranks: Ranks,
    readers: Readers,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Tensor]:
    """Return the number of pixels of each class, int64 K by head, over all samples; the ranks share the reading.

    `on_progress` is called with the images done and their total. Raises the errors of reading a sample.
    """
    count = min(len(samples), MAX_IMAGES)
    indices = [index * len(samples) // count for index in range(ranks.rank, count, ranks.world_size)]
    pixels = {head.name: torch.zeros(head.labels.classes, dtype=torch.int64) for head in recipe.heads}
    for done, counts in enumerate(readers.map(_ClassPixels(samples, recipe), indices, samples.names.__getitem__), 1):
        for head, image_pixels in counts.items():
            pixels[head] += image_pixels
        on_progress(min(done * ranks.world_size, count), count)
    return {head: ranks.total(own).cpu() for head, own in pixels.items()}


class _ClassPixels:
    """Function from an image's index to the number of its pixels of each class: int64 K by head."""

    def __init__(self, samples: Samples, recipe: Recipe) -> None:
        self.samples = samples
        self.heads = [(head.name, head.labels.classes, head.labels.ignore) for head in recipe.heads]

    def __call__(self, index: int) -> dict[str, Tensor]:
        labels = self.samples[index].labels
        return {
            head: torch.from_numpy(np.bincount(labels[head][labels[head] != ignore], minlength=classes))
            for head, classes, ignore in self.heads
        }


def balanced_weights(pixels: Tensor, power: float) -> Tensor:
    """Return class weights K: (median frequency / own frequency) to `power`, clipped to 1/2 and 3; 1 if absent.

    After Eigen & Fergus 2015 (arXiv 1411.4734), who take frequencies over the images that show a class only.
    """
    frequency = (pixels / pixels.sum().clamp_min(1)).float()
    present = frequency > 0
    weights = torch.ones(len(frequency))
    weights[present] = (frequency[present].median() / frequency[present]).pow(power).clamp(0.5, 3.0)
    return weights
