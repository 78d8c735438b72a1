"""The process's standard streams: always open, standard error never fatal, and on request nothing but JSON.

A progress line that cannot be written (a full disk, a reader that left, a closed terminal) is dropped; the command goes
on. C libraries write to descriptor 2 directly, so for `--json-logs` that descriptor becomes a pipe whose lines are
logged as events.
"""

from __future__ import annotations

import atexit
import io
import json
import os
import select
import sys
import threading
import time
import warnings
from contextlib import suppress
from typing import Any

STALL_SECONDS = 1.0
"""How long a line waits for room in standard error where it does not block (a pipe shared with another program)."""

PIPE_BYTES = 1 << 20

LONGEST_LINE = 1 << 16

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class StandardError(io.RawIOBase):
    """A descriptor that takes whatever is written and drops what cannot be delivered."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.name, self.mode = "<stderr>", "wb"
        self._descriptor, self._stalled = descriptor, False

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
        """Write all of it, or as much as can be; never fails."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
                self._stalled = False
            except BlockingIOError:
                if not self._has_room():
                    break
            except OSError:
                break
        return size

    def _has_room(self) -> bool:
        """Wait for room, but not again for every line while there is none."""
        if not hasattr(select, "poll"):  # Windows, where nothing but sockets can be waited for
            return False
        waiting = select.poll()
        waiting.register(self._descriptor, select.POLLOUT)
        self._stalled = not waiting.poll(0 if self._stalled else 1000 * STALL_SECONDS)
        return not self._stalled


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
