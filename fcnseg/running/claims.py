"""Which processes are at work on an output folder: each holds a lock that the system releases when it dies."""

from __future__ import annotations

import errno
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from fcnseg.io.atomic import PART, PROCESS

_numbers = count()


class Owner:
    """The claimant of inputs that the `with` block makes this process. `name` is unique."""

    def __init__(self, records: Path) -> None:
        self.name = f"{PROCESS}-{next(_numbers)}"
        self._records = records
        self._lock = FileLock(_lock_file(records, self.name))

    def __enter__(self) -> Self:
        self._lock.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _lock_file(self._records, self.name).unlink(missing_ok=True)
        self._lock.release()


def is_alive(records: Path, name: str) -> bool:
    """Whether the owner of that name still runs. Removes the lock file of one that does not."""
    file = _lock_file(records, name)
    if not file.exists():
        return False
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError as error:  # on a file system where nothing can be held; one for reading alone has no owners
        return error.errno != errno.EROFS
    file.unlink(missing_ok=True)
    lock.release()
    return False


def remove_unfinished(name: str, folders: set[Path]) -> None:
    """Remove the unfinished files that a dead owner left in those folders."""
    process, _, _ = name.partition("-")
    for folder in folders:
        for path in folder.glob(f"{PART}{process}-*"):
            with suppress(OSError):
                path.unlink()


def _lock_file(records: Path, name: str) -> Path:
    return records / f"{name}.lock"
