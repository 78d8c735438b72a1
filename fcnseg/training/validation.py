"""Validation: whole images through the network, huge ones in tiles that change no score, counted and ranked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fcnseg.errors import DivergedError
from fcnseg.labels import LabelSpace
from fcnseg.models.halo import Halo, halo_of
from fcnseg.models.label_network import LabelNetwork, labels_of
from fcnseg.running.tile_grid import Tile, cut_axis, cut_image
from fcnseg.scoring import measures
from fcnseg.scoring.confusion import Counts, confusion
from fcnseg.scoring.measures import Tally
from fcnseg.training.losses import pixel_loss
from fcnseg.training.samples import LabelledSample
from fcnseg.types import Labels

MOST_PX = 2048 * 2048
"""Images of more pixels are cut into tiles."""

WORST = 4
"""Images of lowest mean IoU whose predictions are kept."""


@dataclass(frozen=True)
class ImageResult:
    """An image of a validation: its index, its mean IoU (a share of 1), its predicted labels H x W."""

    index: int
    mean_iu: float
    predicted: Labels = field(repr=False)


@dataclass(frozen=True)
class Validation:
    """A validation of one head: its confusion matrix K x K, the mean cross-entropy of the labelled pixels, and the
    images of lowest mean IoU (of those that this process validated), the worst first."""

    counts: Counts
    loss: float
    worst: tuple[ImageResult, ...] = ()


class HeadTally:
    """The counts, the sum of losses and the worst images of one head so far."""

    def __init__(self, space: LabelSpace) -> None:
        self.space, self.loss = space, 0.0
        self.counts = np.zeros((space.classes,) * 2, np.int64)
        self.worst: list[ImageResult] = []

    def add(self, index: int, truth: Labels, predicted: Labels, loss: float) -> None:
        """Count an image, whose pixels have that loss in all."""
        counts = confusion(truth, predicted, self.space.classes, self.space.ignore)
        self.counts += counts
        self.loss += loss
        mean_iu = float(measures.mean_iu(Tally.of(counts)))
        if not math.isnan(mean_iu):
            self.worst = sorted([*self.worst, ImageResult(index, mean_iu, predicted)], key=_rank)[:WORST]


def _rank(image: ImageResult) -> tuple[float, int]:
    return image.mean_iu, image.index


class TiledPrediction:
    """Function from a sample to the labels of each head, H x W, and the sum of its pixels' cross-entropy.

    Raises DivergedError for scores that are not finite; `after` which step is for the error.
    """

    def __init__(
        self,
        graph: LabelNetwork,
        device: torch.device,
        autocast: Callable[[Tensor], AbstractContextManager[Any]],
        after: str,
    ) -> None:
        self.graph, self.device, self.autocast, self.after = graph, device, autocast, after
        self.spaces = {head.name: head.labels for head in graph.recipe.heads}
        self._halo: Halo | None = None

    def __call__(self, sample: LabelledSample) -> dict[str, tuple[Labels, float]]:
        """Predict the labels of an image."""
        images = {m: torch.from_numpy(sample.inputs[m])[None] for m in self.graph.recipe.modalities}
        labels = {head: sample.labels[head].astype(np.int64) for head in self.spaces}
        size = next(iter(labels.values())).shape
        predicted = {head: np.empty(size, np.uint16) for head in self.spaces}
        losses = dict.fromkeys(self.spaces, 0.0)
        for rows, columns in self._tiles((size[0], size[1])):
            place = rows.labels, columns.labels
            pixels = [image[:, rows.pixels, columns.pixels].to(self.device) for image in images.values()]
            with self.autocast(pixels[0]):
                scores_by_head = self.graph.scores(*pixels)
            for head, scores in zip(self.spaces, scores_by_head, strict=True):
                kept = scores[:, :, rows.kept, columns.kept]
                truth = torch.from_numpy(labels[head][place])[None].to(self.device)
                loss = float(pixel_loss(kept, truth, self.spaces[head].ignore))
                if not math.isfinite(loss):
                    raise DivergedError(f"the scores of {sample.name} are not finite after {self.after}")
                losses[head] += loss
                predicted[head][place] = labels_of(kept)[0].cpu().numpy()
        return {head: (predicted[head], losses[head]) for head in self.spaces}

    def _tiles(self, size: tuple[int, int]) -> tuple[Tile, ...]:
        """Return the tiles of a huge image, or the image itself."""
        whole = (cut_axis(size[0], size[0], NO_HALO)[0], cut_axis(size[1], size[1], NO_HALO)[0])
        if size[0] * size[1] <= MOST_PX:
            return (whole,)
        self._halo = self._halo or halo_of(self.graph.network.spec)
        return cut_image(size, self._halo, most_px=MOST_PX) or (whole,)


NO_HALO = Halo(0, 0, 1)


def totals(tallies: Mapping[str, HeadTally], total: Callable[[Tensor], Tensor]) -> dict[str, Validation]:
    """Return the validations of all ranks' tallies by head; `total` sums a tensor over them."""
    validations = {}
    for head, of in tallies.items():
        counts = total(torch.from_numpy(of.counts)).cpu().numpy()
        loss = float(total(torch.tensor(of.loss, dtype=torch.float64)).cpu())
        validations[head] = Validation(counts, loss / max(1, int(counts.sum())), tuple(of.worst))
    return validations
