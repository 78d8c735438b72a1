"""Comparing pairs in processes of their own: two threads of one process take longer than one, by measurement.

The processes are started afresh, so that callers need no `__main__` guard. Work and results cross pipes as pickles.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, BinaryIO, Protocol, TypeVar

from fcnseg.errors import FcnsegError


class Keyed(Protocol):
    """Anything with a name."""

    @property
    def key(self) -> str:
        """The name."""


Item = TypeVar("Item", bound=Keyed)
Result = TypeVar("Result")

AT_ONCE = 16
"""Items a process takes at once."""

KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 26), "MALLOC_TRIM_THRESHOLD_": str(1 << 28)}
"""glibc hands memory of maps back after each and has it cleared for the next: kept, a tenth of the time is saved."""

WORTH_IT = 200
"""With fewer items for each, processes take longer to start than they save."""


def results(function: Callable[[Item], Result], items: Sequence[Item], workers: int | None = None) -> Iterator[Result]:
    """What a function gives for each item, in order; few wait at any time.

    So many processes work, or as many as pay off if None; with more than one the function must be picklable.
    """
    count = workers or min(len(items) // WORTH_IT, _cores())
    if count < 2:
        yield from map(function, items)
        return
    batches = (items[start : start + AT_ONCE] for start in range(0, len(items), AT_ONCE))
    waiting: deque[Future[list[Result]]] = deque()
    processes = _Processes(function)
    executor = ThreadPoolExecutor(count, "fcnseg-score")
    try:
        waiting.extend(executor.submit(processes.work, batch) for batch in islice(batches, 4 * count))
        while waiting:
            yield from waiting.popleft().result()
            waiting.extend(executor.submit(processes.work, batch) for batch in islice(batches, 1))
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        processes.close()  # what they are at is not waited for
        executor.shutdown(wait=True)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Processes:
    """A worker process for each thread that asks."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.local, self.started = function, threading.local(), list[subprocess.Popen[bytes]]()
        self.lock, self.closed = threading.Lock(), False

    def work(self, batch: Sequence[Any]) -> list[Any]:
        """The function's results, by this thread's process."""
        try:
            if not hasattr(self.local, "process"):
                self.local.process = self._start()
            _send(self.local.process.stdin, batch)
            found: list[Any] | Exception = pickle.load(self.local.process.stdout)  # written by our own worker
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise FcnsegError(
                f"a process that compared {batch[0].key} and the next died; fewer --workers need less memory"
            ) from error
        if isinstance(found, Exception):
            raise found
        return found

    def _start(self) -> subprocess.Popen[bytes]:
        with self.lock:
            if self.closed:
                raise EOFError
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "fcnseg.workers"],  # -P: no modules from where the user is
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # interruptions are the parent's, which ends its workers
                env={**KEEP_MEMORY, **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
            self.started.append(process)
        _send(process.stdin, self.function)
        return process

    def close(self) -> None:
        """End all processes."""
        with self.lock:
            self.closed = True
        for process in self.started:
            process.kill()
            process.wait()


def _send(pipe: Any, value: object) -> None:
    pickle.dump(value, pipe, pickle.HIGHEST_PROTOCOL)
    pipe.flush()


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Be a worker process: read a function, then answer batches of items until there are no more."""
    try:
        function = pickle.load(requests)
        while True:
            batch = pickle.load(requests)
            try:
                found: list[Any] | Exception = list(map(function, batch))
            except Exception as error:
                found = error
            _send(answers, found)
    except (EOFError, BrokenPipeError):  # there is no more, or nobody waits for it
        return


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
