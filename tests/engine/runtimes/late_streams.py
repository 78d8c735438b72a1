"""Streams as a device has them, in memory: what is put on one is done as early or as late as the protocol allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fcnseg.engine.runtimes.batched import BatchedTorchEngine
from fcnseg.engine.runtimes.streams import Mark, ProcessorStreams


@dataclass
class Queue:
    """One stream: work in order, each with the places of other queues that it waits for."""

    work: list[tuple[Callable[[], object], list[tuple[Queue, int]]]] = field(default_factory=list)
    done: int = 0
    waits: list[tuple[Queue, int]] = field(default_factory=list)

    def put(self, work: Callable[[], object]) -> None:
        self.work.append((work, self.waits))
        self.waits = []

    def wait_for(self, other: Queue) -> None:
        self.waits.append((other, len(other.work)))

    def run_to(self, place: int) -> None:
        while self.done < place:
            work, needs = self.work[self.done]
            for other, there in needs:
                other.run_to(there)
            self.done += 1
            work()


class LateStreams(ProcessorStreams):
    """Uploads are done at once, before what was put on the device earlier; all else when it is waited for."""

    def __init__(self) -> None:
        self.up, self.middle, self.down = Queue(), Queue(), Queue()
        self.most_in_flight = self.in_flight = 0

    def upload(self, target: Tensor, source: Tensor) -> None:
        self.up.put(lambda: target.copy_(source))
        self.up.run_to(len(self.up.work))
        self.middle.wait_for(self.up)

    def download(self, target: Tensor, source: Tensor) -> None:
        self.down.wait_for(self.middle)
        self.down.put(lambda: target.copy_(source))

    def mark(self) -> Mark:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        return _LateMark(self, len(self.down.work))

    def synchronize(self) -> None:
        for queue in (self.up, self.middle, self.down):
            queue.run_to(len(queue.work))
        self.in_flight = 0

    @property
    def idle(self) -> bool:
        """Nothing is left to do."""
        return all(queue.done == len(queue.work) for queue in (self.up, self.middle, self.down))


@dataclass
class _LateMark:
    streams: LateStreams
    place: int

    def synchronize(self) -> None:
        self.streams.down.run_to(self.place)
        self.streams.in_flight -= 1


class LateEngine(BatchedTorchEngine):
    """The engine on late streams: its network runs when it is waited for, too."""

    def __enter__(self) -> LateEngine:
        super().__enter__()
        self._streams = self.late = LateStreams()
        for slot in self._slots:
            slot._streams = self.late
        self._replays._streams = self.late
        return self

    def _enqueue(self, tensors: dict[str, torch.Tensor], probabilities: bool) -> None:  # type: ignore[override]
        self.late.middle.put(lambda: super(LateEngine, self)._enqueue(tensors, probabilities))
