"""Signals that ask a process to stop: beside Ctrl-C, those of batch systems, `kill`, and a terminal that closes."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SYSTEM_STOPS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)
)  # SIGUSR1 is what Slurm's --signal and Condor send some time before they kill
"""Signals that stop a process as Ctrl-C does."""

SAME_REQUEST_SECONDS = 5.0
"""Within this time a second one is the same request: a closing terminal and its shell both send SIGHUP."""


@contextmanager
def handling(numbers: tuple[signal.Signals, ...], handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Handle signals in the block, but not SIGHUP where `nohup` had it ignored. In other threads than the main one
    nothing changes."""
    before = {}
    for number in numbers if threading.current_thread() is threading.main_thread() else ():
        if number.name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, known in before.items():
            signal.signal(number, known)


@contextmanager
def stops_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt in the block for any of SYSTEM_STOPS: whatever ends cleanly on Ctrl-C does on these."""
    asked_at = float("-inf")

    def interrupt(*_: object) -> None:
        nonlocal asked_at
        if time.monotonic() < asked_at + SAME_REQUEST_SECONDS:
            return
        asked_at = time.monotonic()
        raise KeyboardInterrupt

    with handling(SYSTEM_STOPS, interrupt):
        yield
