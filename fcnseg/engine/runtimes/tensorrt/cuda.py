"""A CUDA stream of our own and the memory that is used on it, through torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class CudaStream:
    """A stream on a device, never the default one: work on that waits for all other streams.

    `handle` is the cudaStream_t as a number, `device` the device with its index.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.device = self._stream.device
        self.handle: int = self._stream.cuda_stream

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make its device the current one, as libraries beside torch expect."""
        with torch.cuda.device(self.device):
            yield

    def allocate(self, size_bytes: int) -> Tensor:
        """Allocate device memory as a uint8 tensor; torch gives it back to this stream's pool."""
        with torch.cuda.stream(self._stream):
            return torch.empty(size_bytes, dtype=torch.uint8, device=self.device)

    def pin(self, size_bytes: int) -> Tensor:
        """Allocate page-locked host memory as a uint8 tensor: what asynchronous copies need."""
        return torch.empty(size_bytes, dtype=torch.uint8, pin_memory=True)

    def copy(self, target: Tensor, source: Tensor) -> None:
        """Copy between device and pinned memory, in the stream's order."""
        with torch.cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)

    def mark(self) -> Any:
        """Record an event after all that is on the stream; `synchronize()` sleeps until it is reached."""
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        event.record(self._stream)
        return event

    def synchronize(self) -> None:
        """Wait for all that is on the stream."""
        self._stream.synchronize()

    @staticmethod
    def give_back() -> None:
        """Give memory that is allocated no more back to the device: what is opened next may not ask torch for it."""
        torch.cuda.empty_cache()
