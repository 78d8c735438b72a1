"""Claims: the processes at work on an output folder, each with a lock that the system releases when it dies.

The lock's file says on which machine the process runs, and is touched now and then: on a network drive a lock may be
invisible to other machines.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import TracebackType

from filelock import FileLock, SoftFileLock, Timeout

from fcnseg.errors import OutputError
from fcnseg.io.atomic import PART, PROCESS, flush_folder
from fcnseg.io.locks import LockHolder, lock_holder
from fcnseg.running.drives import locks_reach_all

BEAT_SECONDS = 10.0
"""The time between two touches of a lock file."""

DEAD_SECONDS = 60.0
"""The age from which on a lock file that nobody holds is of a dead process, if locks cannot be trusted."""

_numbers = count()


class Claimant:
    """A unique name to claim inputs under, alive inside the `with` block: a lock file among the records says so."""

    def __init__(self, records: Path) -> None:
        self.name = f"{PROCESS}-{next(_numbers)}"
        self._file = _lock_file(records, self.name)
        self._lock = FileLock(self._file)
        self._ended = threading.Event()

    def __enter__(self) -> str:
        try:
            self._lock.acquire()
            if not isinstance(self._lock, SoftFileLock):  # whose file has a content of its own
                with self._file.open("w", encoding="utf-8") as file:
                    json.dump({**this_machine(), "pid": os.getpid()}, file)
                    file.flush()
                    os.fsync(file.fileno())
            flush_folder(self._file.parent)
        except OSError as error:
            raise OutputError(f"{self._file} cannot be locked: {error.strerror or error}; write elsewhere") from error
        try:
            refuse_other_hosts(self._file.parent)
        except OutputError:
            self._release()
            raise
        if not locks_reach_all(self._file.parent):
            with suppress(RuntimeError):  # no more threads are allowed: the lock has to do
                threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()
        return self.name

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            with suppress(OSError):
                os.utime(self._file)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._release()

    def _release(self) -> None:
        with suppress(OSError):
            self._file.unlink(missing_ok=True)
        self._lock.release()


def this_machine() -> dict[str, str]:
    """Return the name of this machine, and of its kernel's start: containers on one machine share that."""
    with suppress(OSError):
        return {"host": platform.node(), "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip()}
    return {"host": platform.node(), "boot": ""}


def is_alive(records: Path, name: str) -> bool:
    """Tell whether the claimant of that name still runs."""
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
    lock.release()
    return bool(_other_host(file)) and not locks_reach_all(records) and _age_seconds(file) < DEAD_SECONDS


def dead_claimants(records: Path) -> list[str]:
    """Return the names of claimants that died without releasing their locks."""
    return [file.stem for file in records.glob("*.lock") if _was_held(file) and not is_alive(records, file.stem)]


def _was_held(file: Path) -> bool:
    """Tell whether a lock file was locked once: one without content may be about to be."""
    with suppress(OSError):
        return file.stat().st_size > 0 or _age_seconds(file) > DEAD_SECONDS
    return False


def claimant_process(records: Path, name: str) -> LockHolder:
    """Return the process behind a claimant, as far as its lock file tells."""
    return lock_holder(_lock_file(records, name))


def living_claimants(records: Path) -> list[LockHolder]:
    """Return the processes at work among the records."""
    names = [file.stem for file in records.glob("*.lock")]
    return [claimant_process(records, name) for name in names if is_alive(records, name)]


def forget(records: Path, names: Iterable[str]) -> None:
    """Remove the lock files of dead claimants, and their unfinished files among the records."""
    for name in names:
        remove_unfinished(name, {records})
        lock = FileLock(_lock_file(records, name))
        with suppress(OSError, Timeout):
            lock.acquire(timeout=0)
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()


def refuse_other_hosts(records: Path) -> None:
    """Raise OutputError if a process of another machine works on the same ledger, which is for one machine's memory."""
    for file in records.glob("*.lock"):
        if (host := _other_host(file)) and is_alive(records, file.stem):
            raise OutputError(
                f"a process on {host} works on {records}, and gave a sign of life {max(0.0, _age_seconds(file)):.0f} s "
                "ago: one ledger is for one machine; divide the inputs with --num-parts, or, if that machine is gone, "
                f"run the same command again in {DEAD_SECONDS:.0f} s"
            )


def remove_unfinished(name: str, folders: Iterable[Path]) -> None:
    """Remove the unfinished files that a dead claimant left in those folders."""
    process, _, _ = name.partition("-")
    for folder in folders:
        for path in folder.glob(f"{PART}{process}-*"):
            with suppress(OSError):
                path.unlink()


def _lock_file(records: Path, name: str) -> Path:
    return records / f"{name}.lock"


def _other_host(file: Path) -> str:
    """Return the name of the machine that a lock file is of; empty for this one, also before it was started anew."""
    try:
        machine = json.loads(file.read_text(encoding="utf-8"))
        host, boot = str(machine["host"]), str(machine["boot"])
    except (OSError, ValueError, TypeError, KeyError):  # gone, or not written yet
        return ""
    this = this_machine()
    return "" if host == this["host"] or boot == this["boot"] else host


def _age_seconds(file: Path) -> float:
    """Return how long ago a file was touched, by the clock of its drive."""
    probe = file.with_name(f"{PART}{PROCESS}-clock-{threading.get_ident()}")
    try:
        probe.touch()
        return probe.stat().st_mtime - file.stat().st_mtime
    except OSError:
        with suppress(OSError):
            return time.time() - file.stat().st_mtime
        return DEAD_SECONDS
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
