"""Times of the stages of a run: the busiest one, and advice about it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from fcnseg.types import StageTimes

ADVICE = {
    "list": "listing the inputs is slow; read them from a faster disk, or from an archive or HDF5 file",
    "decode": "decoding is slow; raise --workers, or split the inputs over machines with --num-parts",
    "predict": "the network is slow; a lower --precision, a GPU, or --num-parts on more machines would help",
    "write": "writing is slow; raise --workers, use a faster disk, or leave out --save-probabilities and --overlay",
}


class StageClock:
    """A clock that sums the seconds that the threads of each stage work (not wait)."""

    def __init__(self, threads: Mapping[str, int]) -> None:
        self.threads = threads
        self._busy = dict.fromkeys(threads, 0.0)
        self._lock = threading.Lock()
        self._start = time.monotonic()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the block as work of that stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - start)

    def add(self, stage: str, seconds: float) -> None:
        """Count so many seconds of work of a stage (negative: take them back)."""
        with self._lock:
            self._busy[stage] += seconds

    def times(self) -> dict[str, StageTimes]:
        """Return the times of each stage so far."""
        wall = max(time.monotonic() - self._start, 1e-9)
        with self._lock:
            busy = dict(self._busy)
        return {s: StageTimes(n, busy[s], min(1.0, busy[s] / (n * wall))) for s, n in self.threads.items()}


def bottleneck(times: Mapping[str, StageTimes]) -> tuple[str, str]:
    """Return the busiest stage, and advice to make it faster."""
    stage = max(times, key=lambda name: times[name].utilisation)
    return stage, ADVICE[stage]
