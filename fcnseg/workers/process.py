"""A subprocess of this very fcnseg: how it starts, ends with its parent, and what is said when it dies.

Its standard input carries requests and its standard output answers; the end of its input ends it, so that it never
outlives whoever started it. It runs in a session of its own: Ctrl-C reaches the parent alone, which then ends it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

import fcnseg
from fcnseg.errors import NO_MORE_THREADS, NoMoreThreadsError, is_out_of_threads

ENDING_SECONDS = 5
"""Time a subprocess gets to end by itself before it is killed."""

STDERR_LINES = 20
"""Last lines of standard error that are kept to explain a death."""

PARENTS_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGHUP", "SIGUSR1") if hasattr(signal, name))
"""Signals that a subprocess ignores: its parent ends it. SIGTERM is not among them, by which libraries end theirs."""

# The folder that holds fcnseg comes first only while fcnseg is imported: other files there must not shadow libraries.
START = (
    f"import signal; [signal.signal(number, signal.SIG_IGN) for number in {tuple(map(int, PARENTS_SIGNALS))}]; "
    "import sys; sys.path.insert(0, sys.argv[1]); import fcnseg; sys.path.append(sys.path.pop(0)); "
    "from importlib import import_module; import_module(sys.argv[2]).main()"
)


KILLED = "it ran out of memory and was killed"
"""The cause of death by SIGKILL: that is how operating systems end the process that takes most memory."""


class WorkerDiedError(Exception):
    """A subprocess did not start, or ended before it answered; `str` is the cause."""


class WorkerProcess:
    """A subprocess that runs `module.main`, started on construction; `stop` it, or use it as a context manager.

    `environment` holds defaults for variables that are not set here. Its module path is this process's, but no file
    that happens to lie in the current folder is executed. Raises NoMoreThreadsError, WorkerDiedError
    if there is no Python to start.
    """

    requests: IO[bytes]
    answers: IO[bytes]

    def __init__(self, module: str, environment: Mapping[str, str] | None = None) -> None:
        root = str(Path(fcnseg.__file__).parents[1])
        try:
            with _threads_counted():
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", START, root, module],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                    env={**(environment or {}), **os.environ, "PYTHONPATH": os.pathsep.join(_module_path())},
                )
        except OSError as error:
            raise WorkerDiedError(f"{sys.executable or 'Python'} does not start: {error.strerror}") from error
        assert self._process.stdin
        assert self._process.stdout
        self.requests, self.answers = self._process.stdin, self._process.stdout
        self._stderr_tail: deque[bytes] = deque(maxlen=STDERR_LINES)
        self._stderr_reader = threading.Thread(target=self._read_stderr, daemon=True)
        try:
            with _threads_counted():
                self._stderr_reader.start()
        except NoMoreThreadsError:
            self._process.kill()
            self._process.communicate()
            raise

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def wait(self) -> int:
        """Wait until the process ends by itself; its exit code, negative for a signal."""
        return self._process.wait()

    def stop(self, grace_seconds: float = ENDING_SECONDS) -> None:
        """End the process whatever it is doing; it may be called again."""
        if grace_seconds <= 0:
            self._process.kill()
        with suppress(OSError):  # requests it no longer reads
            self.requests.close()
        try:
            self._process.wait(grace_seconds or None)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.answers.close()
        self._stderr_reader.join(timeout=1)  # a process started by it may still hold the pipe

    def cause_of_death(self) -> str:
        """Wait for the process to end; why it did: KILLED, or e.g. "exit code 1: ImportError: no module named ..."."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(ENDING_SECONDS)
        self.stop()
        code = self._process.returncode
        if code == -signal.SIGKILL:
            return KILLED
        text = b"".join(self._stderr_tail).decode("utf-8", "replace")
        if is_out_of_threads(text):
            return NO_MORE_THREADS
        last_line = next((" ".join(line.split()) for line in reversed(text.splitlines()) if line.strip()), "")
        ending = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"{ending}: {last_line[:200]}" if last_line else ending

    def _read_stderr(self) -> None:
        assert self._process.stderr
        with self._process.stderr as lines:
            self._stderr_tail.extend(lines)


@contextmanager
def _threads_counted() -> Iterator[None]:
    """Raise NoMoreThreadsError for a thread or process that cannot be started."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if is_out_of_threads(error):
            raise NoMoreThreadsError from error
        raise


def _module_path() -> Iterator[str]:
    """The module path of this process without the current folder, unless PYTHONPATH names it."""
    named = set(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))
    try:
        current = str(Path.cwd())
    except FileNotFoundError:  # it was removed meanwhile
        current = ""
    return (folder for folder in sys.path if folder in named or folder not in ("", current))


def take_over_pipes() -> tuple[BinaryIO, BinaryIO]:
    """In the subprocess: its requests and answers. What libraries print goes to standard error instead."""
    ignore_interrupts()
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
    return requests, answers


def ignore_interrupts(*_: object) -> None:
    """In the subprocess: leave it to the parent, which may still need answers, to end its workers on Ctrl-C and the
    like. Batch systems signal all processes of a job."""
    for number in PARENTS_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
