"""Comparing pairs in processes of their own: two threads of one process take longer than one, by measurement.

The processes are started afresh (`python -m fcnseg.scoring.workers`), so that callers need no `__main__` guard. Work
and results cross pipes as pickles.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, BinaryIO

from fcnseg.errors import FcnsegError
from fcnseg.scoring.counting import Comparison, Fault, PairCounts, compare
from fcnseg.scoring.pairing import Pair

AT_ONCE = 16
"""Pairs a process takes at once."""

WORTH_IT = 200
"""With fewer pairs for each, processes take longer to start than they save."""

Found = list[PairCounts | Fault]


def compare_all(pairs: Sequence[Pair], how: Comparison, workers: int | None = None) -> Iterator[PairCounts | Fault]:
    """The results of `compare`, in order, by so many processes (as many as pay off if None); few wait at any time."""
    count = workers or min(len(pairs) // WORTH_IT, _cores())
    if count < 2:
        yield from (compare(pair, how) for pair in pairs)
        return
    batches = (pairs[start : start + AT_ONCE] for start in range(0, len(pairs), AT_ONCE))
    waiting: deque[Future[Found]] = deque()
    processes = _Processes(how)
    executor = ThreadPoolExecutor(count, "fcnseg-score")
    try:
        waiting.extend(executor.submit(processes.compare, batch) for batch in islice(batches, 4 * count))
        while waiting:
            yield from waiting.popleft().result()
            waiting.extend(executor.submit(processes.compare, batch) for batch in islice(batches, 1))
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        processes.close()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Processes:
    """A worker process for each thread that asks."""

    def __init__(self, how: Comparison) -> None:
        self.how, self.local, self.started = how, threading.local(), list[subprocess.Popen[bytes]]()

    def compare(self, batch: Sequence[Pair]) -> Found:
        """Compare pairs in this thread's process."""
        try:
            if not hasattr(self.local, "process"):
                self.local.process = self._start()
            _send(self.local.process.stdin, batch)
            found: Found | Exception = pickle.load(self.local.process.stdout)  # written by our own worker
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise FcnsegError(
                f"a process that compared {batch[0].key} and the next died; fewer --workers need less memory"
            ) from error
        if isinstance(found, Exception):
            raise found
        return found

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "fcnseg.scoring.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self.started.append(process)
        _send(process.stdin, self.how)
        return process

    def close(self) -> None:
        """End all processes."""
        for process in self.started:
            process.kill()
            process.communicate()


def _send(pipe: Any, value: object) -> None:
    pickle.dump(value, pipe, pickle.HIGHEST_PROTOCOL)
    pipe.flush()


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Be a worker process: read a Comparison, then answer batches of pairs until there are no more."""
    how = pickle.load(requests)
    while True:
        try:
            batch = pickle.load(requests)
        except EOFError:
            return
        try:
            found: Found | Exception = [compare(pair, how) for pair in batch]
        except Exception as error:
            found = error
        try:
            _send(answers, found)
        except BrokenPipeError:  # nobody waits for it
            return


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    serve(sys.stdin.buffer, sys.stdout.buffer)
