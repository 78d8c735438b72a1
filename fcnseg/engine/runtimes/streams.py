"""The streams that an engine works on, with the memory that is used on them: of a CUDA device, or of the processor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor

Work = Callable[[], None]


class Mark(Protocol):
    """A place in the streams' order."""

    def synchronize(self) -> None:
        """Wait until all that was before it is done."""


class Streams(Protocol):
    """Three streams: to the device, on it, and back. What is put on one begins when what it needs has ended."""

    device: torch.device

    def current(self) -> AbstractContextManager[None]:
        """Make the device the current one, as libraries beside torch expect."""

    def computing(self) -> AbstractContextManager[None]:
        """Have torch compute on the middle stream."""

    def allocate(self, size_bytes: int) -> Tensor:
        """Allocate device memory as a uint8 tensor."""

    def pin(self, size_bytes: int) -> Tensor:
        """Allocate host memory for copies, as a uint8 tensor."""

    def upload(self, target: Tensor, source: Tensor) -> None:
        """Copy host memory to the device; what is computed from now on waits for it."""

    def download(self, target: Tensor, source: Tensor) -> None:
        """Copy device memory, once all that was computed until now is there, to the host."""

    def mark(self) -> Mark:
        """Mark the end of all downloads until now."""

    def synchronize(self) -> None:
        """Wait for all streams."""

    def give_back(self) -> None:
        """Give memory that is allocated no more back to the device: what is opened next may not ask torch for it."""

    def capture(self, work: Work) -> Work:
        """Return what does the same work again, on the same memory, at less expense; it is not done now."""

    def reserved_bytes(self) -> int:
        """Return the device memory that torch holds."""


class CudaStreams:
    """Streams of a CUDA device, never the default one: work on that waits for all other streams.

    `handle` is the cudaStream_t of the middle one as a number, `device` the device with its index.
    """

    def __init__(self, device: torch.device) -> None:
        self._up, self._middle, self._down = (torch.cuda.Stream(device) for _ in range(3))  # type: ignore[no-untyped-call]
        self.device = self._middle.device
        self.handle: int = self._middle.cuda_stream
        self._pool: Any = None

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make its device the current one."""
        with torch.cuda.device(self.device):
            yield

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Have torch compute on the middle stream."""
        with torch.cuda.stream(self._middle):
            yield

    def allocate(self, size_bytes: int) -> Tensor:
        """Allocate device memory as a uint8 tensor; torch gives it back to the middle stream's pool.

        It may have been that of a map which is still computed with there, so the first upload waits for that.
        """
        with torch.cuda.stream(self._middle):
            memory = torch.empty(size_bytes, dtype=torch.uint8, device=self.device)
        self._up.wait_stream(self._middle)
        return memory

    def pin(self, size_bytes: int) -> Tensor:
        """Allocate page-locked host memory as a uint8 tensor: what asynchronous copies need."""
        return torch.empty(size_bytes, dtype=torch.uint8, pin_memory=True)

    def upload(self, target: Tensor, source: Tensor) -> None:
        """Copy page-locked memory to the device, beside what is computed."""
        with torch.cuda.stream(self._up):
            target.copy_(source, non_blocking=True)
        self._middle.wait_stream(self._up)

    def download(self, target: Tensor, source: Tensor) -> None:
        """Copy device memory to page-locked memory, beside what is computed next."""
        self._down.wait_stream(self._middle)
        with torch.cuda.stream(self._down):
            target.copy_(source, non_blocking=True)

    def mark(self) -> Mark:
        """Record an event after all downloads; `synchronize()` sleeps until it is reached."""
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        event.record(self._down)
        return event

    def synchronize(self) -> None:
        """Wait for all streams."""
        for stream in (self._up, self._middle, self._down):
            stream.synchronize()

    def give_back(self) -> None:
        """Give memory that is allocated no more back to the device."""
        torch.cuda.empty_cache()

    def capture(self, work: Work) -> Work:
        """Record a CUDA graph of the work. All graphs share one pool of memory: they never run at once, and nothing in
        it is read after they ran. Other threads may use the device meanwhile."""
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._middle, capture_error_mode="thread_local"):
            work()
        return graph.replay

    def reserved_bytes(self) -> int:
        """Return the device memory that torch holds."""
        return torch.cuda.memory_reserved(self.device)


class ProcessorStreams:
    """The same on the processor, where everything is done at once."""

    device = torch.device("cpu")

    def current(self) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()

    def computing(self) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()

    def allocate(self, size_bytes: int) -> Tensor:
        """Allocate memory as a uint8 tensor."""
        return torch.empty(size_bytes, dtype=torch.uint8)

    def pin(self, size_bytes: int) -> Tensor:
        """Allocate memory as a uint8 tensor."""
        return torch.empty(size_bytes, dtype=torch.uint8)

    def upload(self, target: Tensor, source: Tensor) -> None:
        """Copy."""
        target.copy_(source)

    def download(self, target: Tensor, source: Tensor) -> None:
        """Copy."""
        target.copy_(source)

    def mark(self) -> Mark:
        """Mark the present, which is over."""
        return self

    def synchronize(self) -> None:
        """Nothing is under way."""

    def give_back(self) -> None:
        """Nothing is kept."""

    def capture(self, work: Work) -> Work:
        """Return the work."""
        return work

    def reserved_bytes(self) -> int:
        """Return 0."""
        return 0


def streams_of(device: torch.device) -> Streams:
    """Return new streams of a CUDA device, or of the processor."""
    return CudaStreams(device) if device.type == "cuda" else ProcessorStreams()
