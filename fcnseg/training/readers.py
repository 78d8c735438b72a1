"""Samples read ahead of the training, by a thread of this process or by subprocesses.

What subprocesses read comes through pipes: shared memory, of which containers have 64 MB, would spare one copy only.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from functools import partial
from itertools import count
from queue import SimpleQueue
from typing import Any, Self, TypeVar

import torch

from fcnseg.errors import NoMoreThreadsError, TrainingError, is_out_of_memory
from fcnseg.workers.limits import OTHER_THREADS, affine_cores, has_threads, startable_threads
from fcnseg.workers.process import KILLED, WorkerDiedError
from fcnseg.workers.remote import RemoteFunction
from fcnseg.workers.threads import map_in_threads

POLL_SECONDS = 0.2
"""Time between two looks at a request to stop, while nothing has been read."""

SLOW_SECONDS = 30.0
"""A wait for images that is longer is said ..."""

SAY_EVERY_SECONDS = 600.0
"""... and said again."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class ReadingStoppedError(Exception):
    """The user asked to stop while nothing had been read."""


class Readers:
    """`workers` subprocesses that read ahead, or a thread of this process if 0. Processes start at the first use.

    `stop` is asked while nothing has been read. `on_warning` is called if reading takes long, and when a process dies:
    its item is read by another one, and in the end by this process. A context manager.
    """

    def __init__(
        self,
        workers: int = 0,
        stop: Callable[[], bool] = lambda: False,
        on_warning: Callable[[str], None] = lambda warning: None,
    ) -> None:
        if workers and not has_threads(workers * (2 + affine_cores()) + OTHER_THREADS):
            workers = 0
        self._threads = max(1, workers)
        self._stop, self._on_warning = stop, on_warning
        self._processes = ReadingProcesses(workers, on_warning)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes, whatever they are doing."""
        self._processes.close()

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item], names: Callable[[Item], str] = str
    ) -> Iterator[Result]:
        """Yield the function's result for each item, in order, two a process ahead. With processes it is pickled.

        `names` describes an item. Raises what the function raises, TrainingError for an item whose reading crashes,
        ReadingStoppedError on a request to stop.
        """
        if not startable_threads(self._threads):
            yield from map(function, items)
            return
        call = self._processes.caller(function, names)

        def awaited(item: Item, future: Future[Any]) -> Any:
            return self._awaited(future, partial(names, item))

        for _, result in map_in_threads(call, items, self._threads, "decode-train", awaited):
            yield result

    def _awaited(self, future: Future[Any], name: Callable[[], str]) -> Any:
        began, say_after = time.monotonic(), SLOW_SECONDS
        while not wait([future], POLL_SECONDS).done:
            if self._stop():
                raise ReadingStoppedError
            if time.monotonic() > began + say_after:
                seconds, say_after = round(time.monotonic() - began), say_after + SAY_EVERY_SECONDS
                self._on_warning(f"reading {name()} has taken {seconds} s so far; is the disk or the network slow?")
        return future.result()


class ReadingProcesses:
    """Subprocesses for `Readers`; any thread may call.

    With none left, functions run in the calling thread; but the last one that crashes, instead of being killed for want
    of memory, is replaced: this process must not crash too.
    """

    def __init__(self, processes: int, on_warning: Callable[[str], None]) -> None:
        self._left, self._on_warning, self._closed = processes, on_warning, False
        self._idle: SimpleQueue[_ReadingProcess | None] = SimpleQueue()  # None: the calling thread
        self._all = [_ReadingProcess() for _ in range(processes)]
        for process in (*self._all, *(() if processes else (None,))):
            self._idle.put(process)
        self._numbers = count()

    def caller(self, function: Callable[[Item], Result], names: Callable[[Item], str]) -> Callable[[Item], Result]:
        """Return the function as a call of it in one of the processes."""
        number, pickled = next(self._numbers), pickle.dumps(function) if self._all else b""

        def call(item: Item) -> Result:
            crashes = list[str]()
            while True:
                process = self._idle.get()
                left: _ReadingProcess | None = process
                try:
                    return function(item) if process is None else process.call(number, pickled, item)
                except (WorkerDiedError, NoMoreThreadsError, MemoryError, RuntimeError) as error:
                    if process is None or (isinstance(error, RuntimeError) and not is_out_of_memory(error)):
                        raise
                    left = None
                    crashed = isinstance(error, WorkerDiedError) and str(error) != KILLED
                    self._leave_out(process, str(error) or KILLED, crashed)
                    crashes += [str(error)] if crashed else []
                    if len(crashes) > 1:
                        raise _unreadable(names(item), crashes[1]) from error
                finally:
                    if process is None or left is not None:
                        self._idle.put(process)

        return call

    def _leave_out(self, process: _ReadingProcess, cause: str, crashed: bool) -> None:
        """Go on without a process that died."""
        process.stop()
        if self._closed:
            return
        if self._left == 1 and crashed:
            self._all.append(_ReadingProcess())
            self._idle.put(self._all[-1])
            rest = "another one is started"
        else:
            self._left -= 1
            if not self._left:
                self._idle.put(None)
            rest = f"{self._left} read on" if self._left else "images are read without workers now"
        self._on_warning(f"a process that reads images died ({cause}); {rest}")

    def close(self) -> None:
        """End all processes."""
        self._closed = True
        for process in self._all:
            process.stop()


def _unreadable(name: str, cause: str) -> TrainingError:
    return TrainingError(f"two processes that read {name} died ({cause}); correct these files, or take them out")


class _ReadingProcess:
    """A subprocess that is started when first called."""

    def __init__(self) -> None:
        self._remote: RemoteFunction[Any, Any] | None = None
        self._function_number = -1

    def call(self, number: int, pickled: bytes, item: Any) -> Any:
        """Call the function of that number, which is sent once."""
        if self._remote is None:
            self._remote = RemoteFunction(_LatestFunction(), {"OMP_NUM_THREADS": "1"})
        new = pickled if number != self._function_number else None
        self._function_number = number
        return self._remote((new, item))

    def stop(self) -> None:
        """End the process."""
        if self._remote is not None:
            self._remote.stop(grace_seconds=0)


class _LatestFunction:
    """In the subprocess: call the function that came last."""

    def __init__(self) -> None:
        self.function: Callable[[Any], Any] | None = None

    def __call__(self, request: tuple[bytes | None, Any]) -> Any:
        pickled, item = request
        if pickled is not None:
            torch.set_num_threads(1)
            self.function = pickle.loads(pickled)  # here, for this is the main thread, which some modules insist on
        assert self.function is not None
        return self.function(item)
