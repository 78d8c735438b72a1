"""Claims: the processes at work on an output folder, each with a lock that the system releases when it dies."""

from __future__ import annotations

import errno
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from fcnseg.io.atomic import PART, PROCESS

_numbers = count()


class Claimant:
    """A unique name to claim inputs under, alive inside the `with` block: a lock file among the records says so."""

    def __init__(self, records: Path) -> None:
        self.name = f"{PROCESS}-{next(_numbers)}"
        self._file = _lock_file(records, self.name)
        self._lock = FileLock(self._file)

    def __enter__(self) -> str:
        self._lock.acquire()
        return self.name

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.unlink(missing_ok=True)
        self._lock.release()


def is_alive(records: Path, name: str) -> bool:
    """Tell whether the claimant of that name still runs; the lock file of one that does not is removed."""
    file = _lock_file(records, name)
    if not file.exists():
        return False
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError as error:  # no locks on this file system; a read-only one has no claimants
        return error.errno != errno.EROFS
    file.unlink(missing_ok=True)
    lock.release()
    return False


def remove_unfinished(name: str, folders: set[Path]) -> None:
    """Remove the unfinished files that a dead claimant left in those folders."""
    process, _, _ = name.partition("-")
    for folder in folders:
        for path in folder.glob(f"{PART}{process}-*"):
            with suppress(OSError):
                path.unlink()


def _lock_file(records: Path, name: str) -> Path:
    return records / f"{name}.lock"
