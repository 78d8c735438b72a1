"""Batches: the images of each step, shared by ranks, collated by size."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fcnseg.training.augmentation import AugmentedSamples, View, Visit
from fcnseg.training.distributed import Ranks

NAMES_SHOWN = 4
"""Images that a message names at most."""

Array = NDArray[Any]


@dataclass(frozen=True)
class LabelledBatch:
    """Views of one size: `inputs` by modality N x H x W x C, `labels` by head int64 N x H x W."""

    names: tuple[str, ...]
    inputs: dict[str, Tensor]
    labels: dict[str, Tensor]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle arrays, with labels of few bytes: faster than tensors."""
        inputs = {k: x.numpy() for k, x in self.inputs.items()}
        return _unpacked, (self.names, inputs, {k: _narrowed(y) for k, y in self.labels.items()})


MicroBatches = list[LabelledBatch]
"""One rank's images of a step, in as many batches as sizes and memory require; their gradients are summed."""


class VisitSampler:
    """Sample the rank's visits of each step from `start` to `end`.

    Every epoch is a new permutation; steps are cut from the concatenated epochs, across their ends: no image is left
    out, and every step is full. The visits of a step follow from its number alone.
    """

    def __init__(self, images: int, batch_size: int, seed: Sequence[int], start: int, end: int, ranks: Ranks) -> None:
        self.images, self.batch_size, self.seed, self.ranks = images, batch_size, tuple(seed), ranks
        self.start, self.end = start, end
        self._order = lru_cache(2)(self._permutation)

    def __len__(self) -> int:
        return self.end - self.start

    def __iter__(self) -> Iterator[list[Visit]]:
        for step in range(self.start, self.end):
            step_visits = range(step * self.batch_size, (step + 1) * self.batch_size)
            own = step_visits[self.ranks.rank :: self.ranks.world_size]
            yield [(int(self._order(n // self.images)[n % self.images]), n) for n in own]

    def _permutation(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((*self.seed, epoch)).permutation(self.images)


def collate(views: Sequence[View], micro_batch: int) -> MicroBatches:
    """Stack consecutive views of equal size into batches of at most `micro_batch` images."""
    batches = []
    for _, group in groupby(views, lambda view: next(iter(view.labels.values())).shape):
        same_size = list(group)
        for first in range(0, len(same_size), micro_batch):
            part = same_size[first : first + micro_batch]
            inputs = {k: torch.stack([view.inputs[k] for view in part]) for k in part[0].inputs}
            labels = {k: torch.stack([view.labels[k] for view in part]) for k in part[0].labels}
            batches.append(LabelledBatch(tuple(view.name for view in part), inputs, labels))
    return batches


@dataclass(frozen=True)
class StepReader:
    """Function from the visits of a step to its batches, as `collate` makes them of the views."""

    views: AugmentedSamples
    micro_batch: int

    def __call__(self, visits: Sequence[Visit]) -> MicroBatches:
        """Read the batches."""
        return collate([self.views[visit] for visit in visits], self.micro_batch)

    def names(self, visits: Sequence[Visit]) -> str:
        """Return the names of the images that are visited, in words."""
        return named([self.views.samples.names[index] for index, _ in visits])


def named(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def _narrowed(labels: Tensor) -> Array:
    """Return labels as an array of the smallest type that holds them."""
    values = labels.numpy()
    return values.astype(np.min_scalar_type(values.max(initial=0)) if values.min(initial=0) >= 0 else values.dtype)


def _unpacked(names: tuple[str, ...], inputs: Mapping[str, Array], labels: Mapping[str, Array]) -> LabelledBatch:
    return LabelledBatch(
        names,
        {k: torch.from_numpy(x) for k, x in inputs.items()},
        {k: torch.from_numpy(y.astype(np.int64)) for k, y in labels.items()},
    )
