"""A function mapped over items by several subprocesses: two threads of one process take longer than one, measured."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any, Protocol, TypeVar

from fcnseg.errors import FcnsegError, NoMoreThreadsError
from fcnseg.workers.limits import startable_threads, usable_cores
from fcnseg.workers.process import WorkerDiedError
from fcnseg.workers.remote import RemoteFunction


class Keyed(Protocol):
    """Anything with a name."""

    @property
    def key(self) -> str:
        """The name."""


Item = TypeVar("Item", bound=Keyed)
Result = TypeVar("Result")

BATCH_ITEMS = 16
"""Items a process takes at once."""

KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 26), "MALLOC_TRIM_THRESHOLD_": str(1 << 28)}
"""glibc returns the memory of each label map to the system, which clears it for the next: keeping it saves a tenth."""

MIN_ITEMS_PER_PROCESS = 200
"""With fewer items for each, processes take longer to start than they save."""


def map_in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int | None = None
) -> Iterator[Result]:
    """Yield the function's result for each item, in order; few wait at any time.

    `workers` processes do it, or as many as pay off if None; with more than one the function must be picklable.
    Raises what the function raises, FcnsegError if a process dies.
    """
    count = workers or min(len(items) // MIN_ITEMS_PER_PROCESS, usable_cores())
    if count < 2 or (count := startable_threads(count)) < 1:
        yield from map(function, items)
        return
    batches = (items[start : start + BATCH_ITEMS] for start in range(0, len(items), BATCH_ITEMS))
    waiting: deque[Future[list[Result]]] = deque()
    processes = _Processes(function)
    executor = ThreadPoolExecutor(count, "fcnseg-score")
    try:
        waiting.extend(executor.submit(processes.map, batch) for batch in islice(batches, 4 * count))
        while waiting:
            yield from waiting.popleft().result()
            waiting.extend(executor.submit(processes.map, batch) for batch in islice(batches, 1))
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        processes.kill()  # their current batches are not waited for
        executor.shutdown(wait=True)


class _Processes:
    """A process for each thread that asks."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.local, self.started = partial(_map, function), threading.local(), list[Any]()
        self.lock, self.closed = threading.Lock(), False

    def map(self, batch: Sequence[Any]) -> list[Any]:
        """The function's results, by this thread's process."""
        try:
            return self._process(batch)
        except NoMoreThreadsError:  # the processes there are, and this thread, go on without one more
            return _map(self.function.args[0], batch)
        except WorkerDiedError as died:
            raise FcnsegError(
                f"a process that compared {batch[0].key} and the next died ({died}); fewer --workers need less memory"
            ) from died

    def _process(self, batch: Sequence[Any]) -> list[Any]:
        if not hasattr(self.local, "process"):
            with self.lock:
                if self.closed:
                    raise WorkerDiedError("the comparison ended")
                self.local.process = RemoteFunction(self.function, KEEP_MEMORY)
                self.started.append(self.local.process)
        return self.local.process(batch)  # type: ignore[no-any-return]

    def kill(self) -> None:
        """End all processes at once."""
        with self.lock:
            self.closed = True
        for process in self.started:
            process.stop(grace_seconds=0)


def _map(function: Callable[[Any], Any], batch: Sequence[Any]) -> list[Any]:
    return list(map(function, batch))
