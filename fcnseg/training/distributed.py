"""Several processes that train one network together: what `torchrun` started, or this one alone."""

from __future__ import annotations

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
PATIENCE = timedelta(hours=2)
"""How long a process waits for the others: longer than any validation or checkpoint takes."""


@dataclass(frozen=True)
class Processes:
    """One of the processes that train together; the first one writes and speaks. They meet on `device`."""

    rank: int = 0
    count: int = 1
    device: torch.device = CPU

    @property
    def first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def total(self, value: Tensor) -> Tensor:
        """The sum of every process's value, on the device where they meet; alone, the value itself."""
        if self.count > 1:
            value = value.to(self.device, copy=True)
            dist.all_reduce(value)
        return value

    def wait(self) -> None:
        """Until every process is here."""
        if self.count > 1:
            dist.barrier()

    def agreed(self, flag: bool) -> bool:
        """Whether any process says so: all then do the same."""
        return bool(self.total(torch.tensor(float(flag))).item())


ALONE = Processes()


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Join the processes that `torchrun` started (its environment says so), else be alone."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    options: dict[str, Any] = {"backend": "nccl" if device.type == "cuda" else "gloo", "timeout": PATIENCE}
    dist.init_process_group(**options)
    try:
        yield Processes(dist.get_rank(), count, device if device.type == "cuda" else CPU)
    finally:
        dist.destroy_process_group()


def own_device(name: str) -> torch.device:
    """The device of that name; of several processes each takes the GPU of its local rank, where there are GPUs.

    Raises SettingsError or EngineError for one that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = find_device(name)
    if device.type == "cuda":
        index = int(os.environ.get("LOCAL_RANK", "0")) if device.index is None else device.index
        device = find_device(f"cuda:{index}")
        torch.cuda.set_device(device)
    return device
