"""The process's standard streams: always open, standard error never fatal, and on request nothing but JSON.

A progress line that cannot be written (a full disk, a reader that left or does not read, a closed or stopped terminal)
is dropped; the command goes on. C libraries write to descriptor 2 directly, so for `--json-logs` that descriptor
becomes a pipe whose lines are logged as events.
"""

from __future__ import annotations

import atexit
import io
import json
import os
import select
import stat
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

STALL_SECONDS = 1.0
"""The longest that a line waits for room in standard error; while it stays full, no further line does."""

PIECE_BYTES: int = getattr(select, "PIPE_BUF", 512)
"""What is written at once: a pipe takes it whole or not at all, and has room for it if it has any."""

POLL_SECONDS = 0.001

PIPE_BYTES = 1 << 20

LONGEST_LINE = 1 << 16

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class StandardError(io.RawIOBase):
    """A descriptor that takes whatever is written, and drops what cannot be delivered soon.

    Whole writes are dropped; the rest of one that was begun comes before the next, so that lines stay lines.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.name, self.mode = "<stderr>", "wb"
        self._descriptor, self._stalled, self._begun = descriptor, False, b""

    def writable(self) -> bool:
        """Say yes."""
        return True

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Tell whether it is a terminal."""
        return os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        """Write all of it, or nothing if there is no room; never fails, and waits for STALL_SECONDS at the most."""
        content = bytes(data)
        with _not_blocking(self._descriptor) as descriptor:
            self._begun = self._delivered(self._begun, descriptor)
            if not self._begun:
                rest = self._delivered(content, descriptor)
                self._begun = rest if len(rest) < len(content) else b""
        return len(content)

    def _delivered(self, content: bytes, descriptor: int) -> bytes:
        """Write as much as there is room for, and return the rest; nothing where no reader will ever come for it."""
        deadline = time.monotonic() + (0 if self._stalled else STALL_SECONDS)
        while content:
            try:
                if descriptor == self._descriptor and not self._has_room(0):
                    raise BlockingIOError
                content = content[os.write(descriptor, content[:PIECE_BYTES]) :]
                self._stalled = False
            except BlockingIOError:
                left = deadline - time.monotonic()
                if left <= 0 or not self._has_room(left):
                    self._stalled = True
                    return content
                time.sleep(POLL_SECONDS)  # a terminal may have room, and not enough
            except OSError:
                return b""
        return b""

    def _has_room(self, seconds: float) -> bool:
        """Wait for room so long. A reader that left counts as room, for writing then fails."""
        if not hasattr(select, "poll"):  # Windows, where nothing but sockets can be waited for
            return not seconds
        waiting = select.poll()
        waiting.register(self._descriptor, select.POLLOUT)
        return bool(waiting.poll(1000 * seconds))


@contextmanager
def _not_blocking(descriptor: int) -> Iterator[int]:
    """Give a descriptor of the same pipe or terminal that does not block; the same one for others, or where there is
    none. It is opened anew: others, such as the shell, use the old one and expect it to block."""
    opened = None
    with suppress(OSError):
        kind = os.fstat(descriptor).st_mode
        if sys.platform == "linux" and (stat.S_ISFIFO(kind) or stat.S_ISCHR(kind)):
            opened = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        yield descriptor if opened is None else opened
    finally:
        if opened is not None:
            os.close(opened)


class Errors:
    """The form of standard error: `as_json` if a command's logs are JSON, `ended` once their last event is written."""

    as_json = False
    ended = False


class _JsonLogs:
    """The state of `--json-logs`: where events go, once standard error is a pipe to `relay`."""

    events: StandardError | None = None
    relay: threading.Thread | None = None
    lock = threading.Lock()


def open_standard_streams() -> None:
    """Open those that are closed on the null device, and make standard error never fail. A second call does nothing.

    A closed descriptor would be given to the next file that is opened, and C libraries would print into it.
    """
    closed = [stream is None for stream in (sys.stdin, sys.stdout, sys.stderr)]
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
            os.set_inheritable(descriptor, True)
    if closed[0]:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    if closed[1]:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    elif sys.stdout is sys.__stdout__ and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if closed[2] or sys.stderr is sys.__stderr__:
        encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
        buffer = io.BufferedWriter(StandardError(2))
        sys.stderr = io.TextIOWrapper(buffer, encoding, "backslashreplace", line_buffering=True)


def end_standard_output() -> OSError | None:
    """Write what is left for standard output; return the error if that fails, and drop the rest."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return error
    return None


def log_event(event: str, **values: Any) -> None:
    """Write an event as one line of JSON on standard error."""
    Errors.ended = event in ("end", "error")
    values = {"time": round(time.time(), 3), "event": event, **values}
    try:
        text = json.dumps(values, default=str, allow_nan=False)
    except ValueError:  # JSON has neither nan nor infinity
        text = json.dumps(json.loads(json.dumps(values, default=str), parse_constant=lambda _: None))
    with _JsonLogs.lock:
        if _JsonLogs.events is not None:
            _JsonLogs.events.write(f"{text}\n".encode())
            return
        with suppress(OSError, ValueError):
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()


def log_end(code: int) -> None:
    """Write the last event, unless the command has done so or its logs are no JSON."""
    if Errors.as_json and not Errors.ended:
        log_event("end", exit_code=code)


def begin_json_logs() -> None:
    """Let nothing but events reach standard error until the process ends: other lines become events `stderr`."""
    if _JsonLogs.relay is not None or not _is_own(sys.stderr):
        return
    warnings.showwarning = _log_warning
    events, (lines, entrance) = os.dup(2), os.pipe()
    # A C library may print while it holds the interpreter's lock, which the relay needs: the pipe must not block.
    os.set_blocking(entrance, False)
    with suppress(OSError, AttributeError):  # only Linux has it
        fcntl.fcntl(entrance, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    relay = threading.Thread(target=_relay, args=(lines,), name="json-logs", daemon=True)
    _JsonLogs.events = StandardError(events)
    try:
        relay.start()
    except RuntimeError:  # no thread can be started; that is for the command to report
        os.close(entrance)
        os.close(lines)
        return
    sys.stderr.flush()
    os.dup2(entrance, 2)
    os.close(entrance)
    _JsonLogs.relay = relay
    atexit.register(_end_json_logs)


def _is_own(stream: Any) -> bool:
    """Tell whether a stream is the one of `open_standard_streams`, and no substitute in a test."""
    return isinstance(getattr(getattr(stream, "buffer", None), "raw", None), StandardError)


def _relay(lines: int) -> None:
    """Log the lines that come through the pipe until its last writer has closed it."""
    rest = b""
    while True:
        data = os.read(lines, LONGEST_LINE)
        *whole, rest = (rest + data).replace(b"\r", b"\n").split(b"\n")
        if not data or len(rest) > LONGEST_LINE:
            whole, rest = [*whole, rest], b""
        for line in whole:
            if text := line.decode("utf-8", "replace").strip():
                log_event("stderr", text=text)
        if not data:
            return


def _log_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    log_event("warning", category=category.__name__, text=str(message))


def _end_json_logs() -> None:
    """Log what is left; what the interpreter's last steps print is dropped."""
    relay = _JsonLogs.relay
    if relay is None:
        return
    sys.stderr.flush()
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    relay.join(timeout=1)  # longer only if a subprocess survives and holds the pipe
