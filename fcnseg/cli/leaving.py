"""The end of the process, which waits for no thread that is busy in a library."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from contextlib import suppress
from typing import NoReturn

LEFT_BEHIND = ("list", "decode-")
"""The first letters of the names of threads that an interrupted run leaves at their work."""


class _Ending:
    """The exit code, once it is known."""

    code: int | None = None
    prepared = False


def prepare_leaving() -> None:
    """Have the process end as `leave` says. To be called first, for then it is the last thing at the exit."""
    if not _Ending.prepared:
        atexit.register(_cut_short)
        _Ending.prepared = True


def leave(code: int) -> NoReturn:
    """Exit with a code. Raises SystemExit."""
    _Ending.code = code
    sys.exit(code)


def _cut_short() -> None:
    """End the process at once if a thread is still decoding: libraries crash when they are unloaded meanwhile."""
    if _Ending.code is None or not any(thread.name.startswith(LEFT_BEHIND) for thread in threading.enumerate()):
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(_Ending.code)
