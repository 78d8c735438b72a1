"""Which images each step sees, in which process, and how they are put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from fcnseg.errors import FcnsegError, TrainingError
from fcnseg.training.augmentation import View, Views, Visit
from fcnseg.training.distributed import Processes
from fcnseg.training.presets import Regime
from fcnseg.training.samples import Samples
from fcnseg.workers.process import ignore_interrupts, starting_by_multiprocessing


@dataclass(frozen=True)
class Batch:
    """Views of one size: `inputs` by modality N x H x W x C, `labels` by head int64 N x H x W."""

    names: tuple[str, ...]
    inputs: dict[str, Tensor]
    labels: dict[str, Tensor]


Item = TypeVar("Item")
Step = list[Batch]
"""All that one process sees in a step, in as many batches as sizes and memory ask for; gradients are summed."""


class Visits(Sampler[list[Visit]]):
    """The images of each step from `start` to `end`, as this process sees them.

    The images of an epoch come in an order of their own, epoch after epoch, and steps are cut from that row without
    regard to where epochs end: no image is left out, and every step is full. What a step sees follows from its number.
    """

    def __init__(self, images: int, batch: int, seed: Sequence[int], start: int, end: int, mine: Processes) -> None:
        self.images, self.batch, self.seed, self.mine = images, batch, tuple(seed), mine
        self.start, self.end = start, end
        self._order = lru_cache(2)(self._epoch)

    def __len__(self) -> int:
        return self.end - self.start

    def __iter__(self) -> Iterator[list[Visit]]:
        for step in range(self.start, self.end):
            numbers = range(step * self.batch, (step + 1) * self.batch)[self.mine.rank :: self.mine.count]
            yield [(int(self._order(n // self.images)[n % self.images]), n) for n in numbers]

    def _epoch(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((*self.seed, epoch)).permutation(self.images)


def together(views: Sequence[View], most: int) -> Step:
    """Views as batches of equal sizes, of at most so many images."""
    step = []
    for _, group in groupby(views, lambda view: next(iter(view.labels.values())).shape):
        alike = list(group)
        for first in range(0, len(alike), most):
            part = alike[first : first + most]
            inputs = {k: torch.stack([view.inputs[k] for view in part]) for k in part[0].inputs}
            labels = {k: torch.stack([view.labels[k] for view in part]) for k in part[0].labels}
            step.append(Batch(tuple(view.name for view in part), inputs, labels))
    return step


def steps(
    samples: Samples,
    regime: Regime,
    seed: Sequence[int],
    start: int,
    end: int,
    mine: Processes,
    workers: int,
    most: int,
) -> Iterator[Step]:
    """The steps of a stage from number `start`, read ahead by `workers` processes (0: by this one)."""
    visits = Visits(len(samples), regime.batch, seed, start, end, mine)
    yield from read_ahead(Views(samples, regime, seed), visits, workers, partial(together, most=most))


def read_ahead(
    data: Dataset[Item], row: Iterable[Any], workers: int, collate: Callable[[list[Item]], Any] | None = None
) -> Iterator[Any]:
    """The items of a data set at the places in a row, read ahead by `workers` processes (0: by this one); with
    `collate`, the row holds lists of places, and it makes one of their items. Raises what reading raises."""
    places = {"batch_sampler": row} if collate else {"sampler": row, "batch_size": None}
    loader: DataLoader[Item] = DataLoader(
        _Told(data),
        num_workers=workers,
        collate_fn=_Collate(collate),
        multiprocessing_context="forkserver" if workers else None,
        worker_init_fn=ignore_interrupts,
        **places,
    )
    with starting_by_multiprocessing():
        items = iter(loader)
    try:
        for item in items:
            if isinstance(item, FcnsegError):
                raise item
            yield item
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise TrainingError("a process that reads images died; try fewer --workers, which take less memory") from error


class _Told(Dataset[Any]):
    """A data set whose errors are items: a worker would wrap them into tracebacks."""

    def __init__(self, data: Dataset[Any]) -> None:
        self.data = data

    def __getitem__(self, place: Any) -> Any:
        try:
            return self.data[place]
        except FcnsegError as error:
            return error


@dataclass(frozen=True)
class _Collate:
    """The first error among items, else what `collate` makes of them."""

    collate: Callable[[list[Any]], Any] | None

    def __call__(self, items: Any) -> Any:
        if self.collate is None:
            return items
        return next((item for item in items if isinstance(item, FcnsegError)), None) or self.collate(items)
