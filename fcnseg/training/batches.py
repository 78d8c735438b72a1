"""Batches: the images of each step, shared by ranks, read ahead by worker processes, collated by size."""

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
from fcnseg.training.augmentation import View, Visit
from fcnseg.training.distributed import Ranks
from fcnseg.workers.limits import OTHER_THREADS, affine_cores, has_threads
from fcnseg.workers.process import ignore_interrupts, starting_by_multiprocessing


@dataclass(frozen=True)
class LabelledBatch:
    """Views of one size: `inputs` by modality N x H x W x C, `labels` by head int64 N x H x W."""

    names: tuple[str, ...]
    inputs: dict[str, Tensor]
    labels: dict[str, Tensor]


Item = TypeVar("Item")
MicroBatches = list[LabelledBatch]
"""One rank's images of a step, in as many batches as sizes and memory require; their gradients are summed."""


class VisitSampler(Sampler[list[Visit]]):
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


def read_ahead(
    data: Dataset[Item], indices: Iterable[Any], workers: int, collate: Callable[[list[Item]], Any] | None = None
) -> Iterator[Any]:
    """Yield the items of a data set at `indices`, read ahead by `workers` processes (0: by this one).

    Where the system allows too few processes, this one reads. With `collate`, each index is a list, whose items it
    joins. Raises an item's FcnsegError, or TrainingError if a worker dies.
    """
    if workers and not has_threads(workers * (2 + affine_cores()) + OTHER_THREADS):
        workers = 0
    sampling = {"batch_sampler": indices} if collate else {"sampler": indices, "batch_size": None}
    loader: DataLoader[Item] = DataLoader(
        ErrorsAsItems(data),
        num_workers=workers,
        collate_fn=partial(_first_error_or, collate),
        multiprocessing_context="forkserver" if workers else None,
        worker_init_fn=ignore_interrupts,
        **sampling,
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


class ErrorsAsItems(Dataset[Any]):
    """Return FcnsegError instead of raising it: a DataLoader worker would wrap it into a traceback."""

    def __init__(self, data: Dataset[Any]) -> None:
        self.data = data

    def __getitem__(self, index: Any) -> Any:
        try:
            return self.data[index]
        except FcnsegError as error:
            return error


def _first_error_or(collate: Callable[[list[Any]], Any] | None, items: Any) -> Any:
    """Return the first error among items, else the items as `collate` joins them (None: a single item as it is)."""
    if collate is None:
        return items
    return next((item for item in items if isinstance(item, FcnsegError)), None) or collate(items)
