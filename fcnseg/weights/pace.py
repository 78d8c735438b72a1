"""Bounds on how slowly a server may answer: httpx bounds the wait for each piece alone, and pieces may be bytes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import httpx

ANSWER_SECONDS = 60.0
"""The longest wait for the whole header of an answer."""

PACE_SECONDS, LEAST_BYTES_A_SECOND = 60.0, 1024
"""The least average speed over so many seconds: a server that sends a byte now and then would hold a pull for ever."""


class TooSlowError(Exception):
    """A server is too slow ever to send all."""


class Pace:
    """The average speed of what comes, over all connections."""

    def __init__(self) -> None:
        self.since, self.received = time.monotonic(), 0

    def add(self, nbytes: int) -> None:
        """Count bytes. Raises TooSlowError if too few came in the last PACE_SECONDS."""
        self.received += nbytes
        seconds = time.monotonic() - self.since
        if seconds < PACE_SECONDS:
            return
        if self.received < seconds * LEAST_BYTES_A_SECOND:
            raise TooSlowError(
                f"sent {self.received:,} bytes in {seconds:.0f} s, which would not come to an end; what has come is "
                "kept, and a later pull goes on"
            )
        self.since, self.received = time.monotonic(), 0


class Connection:
    """The newest connection of a client, which another thread can cut."""

    def __init__(self) -> None:
        self.socket: socket.socket | None = None

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Note a connection: a function for the extension `trace` of httpx."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self.socket = info["return_value"].get_extra_info("socket")

    @contextmanager
    def cut_after(self, seconds: float) -> Iterator[None]:
        """Cut the connection if the block takes longer, and raise TooSlowError. httpx bounds the wait for each piece,
        and a server may send an answer's header in a great many."""
        expired = threading.Event()

        def cut() -> None:
            expired.set()
            with suppress(OSError):
                if self.socket is not None:
                    self.socket.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(seconds, cut)
        timer.daemon = True
        with suppress(RuntimeError):  # no thread can be started: go on without
            timer.start()
        try:
            yield
        except httpx.TransportError as error:
            if expired.is_set():
                raise TooSlowError(f"has not answered within {seconds:.0f} s") from error
            raise
        finally:
            timer.cancel()
