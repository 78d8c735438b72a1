"""Batches: decoded images of one size, grouped as they come."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from dataclasses import dataclass

from fcnseg.running.stage_times import StageClock
from fcnseg.types import Frame


@dataclass
class Decoded:
    """A decoded frame, the fingerprint of its input, and the bytes that were reserved for it."""

    frame: Frame
    fingerprint: str
    reserved_bytes: int


def batches(
    decoded: queue.SimpleQueue[Decoded | None],
    workers: int,
    largest: int,
    under_way: dict[str, Decoded],
    clock: StageClock,
) -> Iterator[list[Frame]]:
    """Yield up to `largest` frames of one size, oldest first, as many as there are at the moment.

    `decoded` ends with a None from each of the `workers`. What is yielded is put `under_way`, by its key. An empty list
    says that there is nothing at the moment: what is still in the engine should come out. The time until the next call
    counts as the engine's.
    """
    window: list[Decoded] = []
    ended_workers = 0
    started: float | None = None
    while True:
        if started is not None:
            clock.add("predict", time.perf_counter() - started)
        if not window and under_way and decoded.empty():
            yield []
        while ended_workers < workers and (not window or not decoded.empty()):
            image = decoded.get()
            if image is None:
                ended_workers += 1
            else:
                window.append(image)
        if not window:
            return
        size = window[0].frame.size
        batch = [image for image in window if image.frame.size == size][:largest]
        under_way.update((image.frame.key, image) for image in batch)
        window = [image for image in window if image.frame.key not in under_way]
        started = time.perf_counter()
        yield [image.frame for image in batch]
