"""One candidate of a benchmark in a process of its own: it waits for commands, and its death is only its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from fcnseg.engine.ceiling import matrix_product_gflops, network_gflop, peak_memory_bytes
from fcnseg.recipes import Recipe
from fcnseg.types import Engine, Frame, Labels, Pixels


@dataclass(frozen=True)
class Candidate:
    """A backend and a precision."""

    backend: str
    precision: str

    def __str__(self) -> str:
        return f"{self.backend}:{self.precision}"


STOP_SECONDS = 10
"""How long a process may take to end before it is killed."""

Opener = Callable[[Candidate], Engine]
"""Gives a candidate's engine, not entered yet; raises FcnsegError if it cannot be had."""


@dataclass(frozen=True)
class Workload:
    """What every candidate runs: a recipe's model over `frames`, on `device` where a backend has a choice.

    `opener` opens a candidate's engine in its own process and is therefore picklable: a module's function, or a
    `functools.partial` of one.
    """

    recipe: Recipe
    frames: tuple[Frame, ...]
    opener: Opener
    device: str = "auto"


class LostError(Exception):
    """A worker died or its command failed; `str` is one line that says why."""


class Worker:
    """A process for one candidate: it waits for commands (the methods of _Session) and answers each.

    It ends when stopped, and by itself when this process is gone.
    """

    def __init__(self, candidate: Candidate, workload: Workload, batch_size: int) -> None:
        context = multiprocessing.get_context("spawn")
        descriptor, self._log = tempfile.mkstemp(prefix="fcnseg-bench-")
        os.close(descriptor)
        self._connection, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(theirs, self._log, candidate, workload, batch_size), name=f"fcnseg bench {candidate}"
        )
        with _interrupts_held():
            self.process.start()
        theirs.close()  # so that its death is seen as the end of the pipe

    def ask(self, command: str, **settings: Any) -> Any:
        """Run a command there and wait for its answer. Raises LostError."""
        try:
            self._connection.send((command, settings))
            failed, answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise LostError(self._last_words()) from error
        if failed:
            raise LostError(answer)
        return answer

    def stop(self) -> None:
        """End the process, after the library call it may be in, and clean up; more than once does no harm."""
        self._connection.close()
        self.process.terminate()
        self.process.join(STOP_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        Path(self._log).unlink(missing_ok=True)

    def _last_words(self) -> str:
        self.process.join(STOP_SECONDS)
        code = self.process.exitcode or 0
        if code == -signal.SIGKILL:
            return "its process was killed, as systems do when memory runs out; leave other engines out with --engines"
        lines = Path(self._log).read_text(errors="replace").split("\n")
        last = next((" ".join(line.split()) for line in reversed(lines) if line.strip()), "")
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"its process died ({how}{f': {last[:200]}' if last else ''})"


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Children start with Ctrl-C blocked: it reaches the whole terminal, and only the parent decides."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, log: str, candidate: Candidate, workload: Workload, batch_size: int) -> None:
    """The process: answer commands until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that temporary files are removed
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)  # libraries print, and standard output is for results
    os.dup2(descriptor, 2)
    session = _Session(candidate, workload, batch_size)
    while True:
        try:
            command, settings = connection.recv()
        except EOFError:  # also when the parent was killed and cannot clean up
            Path(log).unlink(missing_ok=True)
            return
        try:
            answer = False, getattr(session, command)(**settings)
        except Exception as error:
            traceback.print_exc()
            lines = str(error).strip().splitlines()
            answer = True, " ".join(lines[0].split()) if lines else type(error).__name__
        try:
            connection.send(answer)
        except OSError:
            return


class _Session:
    """What a worker does: each public method is a command."""

    def __init__(self, candidate: Candidate, workload: Workload, batch_size: int) -> None:
        self.candidate, self.workload = candidate, workload
        self.batches = _batches(workload.frames, batch_size)
        self.engine: Engine | None = None

    def open(self) -> float:
        """Open the engine; the seconds that took."""
        start = time.perf_counter()
        self.engine = self.workload.opener(self.candidate).__enter__()
        return time.perf_counter() - start

    def close(self) -> None:
        if self.engine is not None:
            self.engine.close()
        self.engine = None

    def device(self) -> str:
        return self._opened.info.device

    def labels(self) -> list[list[Labels]]:
        """The label maps of every image, head by head."""
        found: dict[int, list[Labels]] = {}
        for numbers, inputs in self.batches:
            labels, _ = self._opened.infer(inputs)
            for row, number in enumerate(numbers):
                found[number] = [labels[head.name][row] for head in self.workload.recipe.heads]
        return [found[number] for number in sorted(found)]

    def round(self) -> list[float]:
        """Run every image once; the seconds of each call."""
        engine, seconds = self._opened, []
        for _, inputs in self.batches:
            start = time.perf_counter()
            engine.infer(inputs)
            seconds.append(time.perf_counter() - start)
        return seconds

    def peak(self) -> int:
        return peak_memory_bytes()

    def gflop(self) -> float:
        """10^9 operations of an image, the mean over all."""
        return sum(network_gflop(self.workload.recipe, *f.size) for f in self.workload.frames) / len(
            self.workload.frames
        )

    def ceiling(self, precision: str) -> float | None:
        return matrix_product_gflops(precision, self.workload.device)

    @property
    def _opened(self) -> Engine:
        assert self.engine is not None, "open comes first"
        return self.engine


def _batches(frames: Sequence[Frame], batch_size: int) -> list[tuple[list[int], dict[str, Pixels]]]:
    """The images in calls of one size: their numbers, and each modality N x H x W x C."""
    by_size: dict[tuple[int, int], list[int]] = {}
    for number, frame in enumerate(frames):
        by_size.setdefault(frame.size, []).append(number)
    calls = [same[i : i + batch_size] for same in by_size.values() for i in range(0, len(same), batch_size)]
    return [(call, {m: np.stack([frames[n].inputs[m] for n in call]) for m in frames[0].inputs}) for call in calls]
