"""Lock files: who holds one, and how to go on where one is held.

The system releases a lock when its process ends. Where the file system has no locks, `filelock` takes the file itself
for one, which stays when a host dies; then only a person can tell. Both kinds hold the number and the host of their
process.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

SAY_AFTER_SECONDS = 10.0
"""A wait that is longer is said ..."""

SAY_EVERY_SECONDS = 300.0
"""... and said again."""


@dataclass(frozen=True)
class LockHolder:
    """The process that holds a lock file: its number (0: unknown) and host, and when it took the lock."""

    file: Path
    pid: int = 0
    host: str = ""
    since: float = 0.0

    @property
    def is_here(self) -> bool:
        """Tell whether it is a process of this host."""
        return bool(self.pid) and self.host == platform.node()

    def __str__(self) -> str:
        since = f" since {datetime.fromtimestamp(self.since):%Y-%m-%d %H:%M}" if self.since else ""
        if not self.pid:
            return f"an unknown process{since}"
        where = "this host" if self.is_here else self.host
        return f"process {self.pid} on {where}{since}{', stopped' if self._is_stopped else ''}"

    @property
    def remedy(self) -> str:
        """The thing to do if it does not end by itself."""
        if not self.is_here:
            return f"if it is gone with its host, remove {self.file}"
        if self._is_stopped:
            return f"`kill -CONT {self.pid}` lets it go on, `kill -KILL {self.pid}` ends it"
        return f"`kill {self.pid}` ends it"

    @property
    def _is_stopped(self) -> bool:
        with suppress(OSError, IndexError):
            return self.is_here and Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
        return False


def note_holder(file: Path) -> None:
    """Write into a lock file, which this process holds, who does."""
    text = f"{os.getpid()}\n{platform.node()}\n"
    with suppress(OSError):
        if not file.read_text().startswith(text):  # `filelock` may have written it, and more
            file.write_text(text)


def lock_holder(file: Path) -> LockHolder:
    """Return who holds a lock file, as far as it tells: in lines, or (a claimant) in JSON."""
    try:
        text = file.read_text(errors="replace")
        since = file.stat().st_mtime
    except OSError:
        return LockHolder(file)
    lines = text.splitlines()
    with suppress(ValueError, TypeError, KeyError):
        known = json.loads(text)
        lines = [str(known["pid"]), str(known["host"])]
    if len(lines) < 2 or not lines[0].isdecimal():
        return LockHolder(file, since=since)
    return LockHolder(file, int(lines[0]), "".join(c for c in lines[1] if c.isprintable()), since)


def is_held(file: Path) -> bool:
    """Tell whether a process holds a lock file. Never waits."""
    if not file.exists():
        return False
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return True
    lock.release()
    return False


@contextmanager
def held(file: Path, purpose: str, on_wait: Callable[[str], None], at_once: bool = False) -> Iterator[FileLock]:
    """Hold a lock in the block; its file is gone afterwards.

    While another process holds it, `on_wait` is told of it and of the `purpose` ("it builds this engine") after some
    seconds (or `at_once`), and now and then again.
    """
    lock = FileLock(file)
    patience = 0.0 if at_once else SAY_AFTER_SECONDS
    while True:
        try:
            lock.acquire(timeout=patience)
            break
        except Timeout:
            holder = lock_holder(file)
            on_wait(f"waiting for {holder}: {purpose}; {holder.remedy}")
            patience = SAY_EVERY_SECONDS
    try:
        note_holder(file)
        yield lock
    finally:
        with suppress(OSError):  # while it is held: who waits for a file without a name tries again with a new one
            file.unlink()
        lock.release()


class WaitNotice:
    """Tells when a wait has become long enough to speak of it, again and again."""

    def __init__(self) -> None:
        self._due = time.monotonic() + SAY_AFTER_SECONDS

    def is_due(self) -> bool:
        """Return True once after some seconds, then seldom."""
        if time.monotonic() < self._due:
            return False
        self._due = time.monotonic() + SAY_EVERY_SECONDS
        return True
