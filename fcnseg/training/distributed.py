"""Data-parallel training: the ranks that `torchrun` started, or a single process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from fcnseg.engine.runtimes.pytorch import find_device

CPU = torch.device("cpu")
TIMEOUT = timedelta(hours=2)
"""Wait of a rank for the others: longer than any validation or checkpoint takes."""


@dataclass(frozen=True)
class Ranks:
    """The rank of this process among all that train together, and the device on which they exchange tensors."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = CPU

    @property
    def is_first(self) -> bool:
        """True for rank 0, which writes files and shows progress."""
        return self.rank == 0

    def total(self, value: Tensor) -> Tensor:
        """Return the sum of all ranks' values, on their device; the value itself in a single process."""
        if self.world_size > 1:
            value = value.to(self.device, copy=True)
            dist.all_reduce(value)
        return value

    def wait(self) -> None:
        """Block until every rank has come here."""
        if self.world_size > 1:
            dist.barrier()

    def any_rank(self, flag: bool) -> bool:
        """Return True in all ranks if the flag is set in one of them."""
        return bool(self.total(torch.tensor(float(flag))).item())


SINGLE = Ranks()
"""A single process."""


@contextmanager
def joined_ranks(device: torch.device) -> Iterator[Ranks]:
    """Join the process group that `torchrun` describes in the environment, if it started this process."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield Ranks()
        return
    options: dict[str, Any] = {"backend": "nccl" if device.type == "cuda" else "gloo", "timeout": TIMEOUT}
    dist.init_process_group(**options)
    try:
        yield Ranks(dist.get_rank(), world_size, device if device.type == "cuda" else CPU)
    finally:
        dist.destroy_process_group()


def device_of_rank(name: str) -> torch.device:
    """Return the device of that name; on GPUs, several ranks take the one of their local rank each.

    Raises SettingsError or EngineError for a device that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = find_device(name)
    if device.type == "cuda":
        index = int(os.environ.get("LOCAL_RANK", "0")) if device.index is None else device.index
        device = find_device(f"cuda:{index}")
        torch.cuda.set_device(device)
    return device
