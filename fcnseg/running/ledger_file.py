"""The file of a ledger: made whole, opened durably, and still in its place at every commit.

A commit is on the disk when it returns (`synchronous=EXTRA`). SQLite's write-ahead log is used where the drive grants
it the shared memory map that the log needs, else its rollback journal.
"""

from __future__ import annotations

import mmap
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from fcnseg.errors import OutputError
from fcnseg.io.atomic import flush_folder
from fcnseg.io.locks import lock_holder, note_holder
from fcnseg.io.run_records import connect_for_reading

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SCHEMA = """
CREATE TABLE IF NOT EXISTS images (
    key BLOB PRIMARY KEY, state TEXT NOT NULL, owner TEXT, attempts INTEGER NOT NULL,
    stage TEXT, reason TEXT, stamp TEXT, outputs TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entries (
    kind TEXT NOT NULL, key BLOB NOT NULL, content BLOB NOT NULL, PRIMARY KEY (kind, key)
);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

VERSION = 1
"""The number of this schema, kept in the file's `user_version`."""

_MAKE = f"BEGIN; {SCHEMA} PRAGMA user_version={VERSION}; COMMIT;"

BESIDE = ("-wal", "-shm", "-journal")
"""The ends of the names of SQLite's files beside a database."""

BUSY_SECONDS = 20
"""The longest wait for another process that writes, or opens the file: both take it moments."""

READING_SECONDS = 5
"""The same of one who only looks."""


def open_database(file: Path) -> sqlite3.Connection:
    """Open a ledger for writing; one that is missing or blank is made. Only one process at a time may do so."""
    if is_blank(file):
        _make(file)
    database = _connected(file)
    try:
        begun = _check_version(database, file)
        mode = database.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()  # maps the log's memory, not before
    except sqlite3.OperationalError as error:
        database.close()
        if not _may_lack_shared_memory(error):
            raise
        begun, mode = False, ""
    if mode != "wal":
        database.close()
        database = _with_rollback_journal(file)
        begun = _check_version(database, file)
    database.execute("PRAGMA synchronous=EXTRA")
    if not begun:
        database.executescript(_MAKE)
    database.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
    return database


def open_for_reading(file: Path) -> sqlite3.Connection:
    """Open a ledger without waiting for others, also where nothing may be written; a blank one has no rows."""
    if not is_blank(file):
        database = _opened(file)
        try:
            begun = _check_version(database, file)
        except sqlite3.OperationalError as error:
            database.close()
            if not _may_lack_shared_memory(error) or not _is_writable(file):
                raise
            database = _with_rollback_journal(file)  # a log from another drive: no process can work with it here
            begun = _check_version(database, file)
        if begun:
            return database
        database.close()
    database = _connected(":memory:")
    database.executescript(_MAKE)
    return database


def _opened(file: Path) -> sqlite3.Connection:
    """Open a ledger to be read, for writing if that is allowed: SQLite then restores what a crash left in its log."""
    if not _is_writable(file):
        return connect_for_reading(file)
    uri = f"{file.absolute().as_uri()}?mode=rw"
    return sqlite3.connect(uri, timeout=READING_SECONDS, isolation_level=None, check_same_thread=False, uri=True)


def _is_writable(file: Path) -> bool:
    return os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)


def is_blank(file: Path) -> bool:
    """Tell whether a ledger is missing, or holds nothing because its making was cut off."""
    try:
        with file.open("rb") as opened:
            return not opened.read(100).strip(b"\0")
    except FileNotFoundError:
        return True


def remove_ledger(file: Path) -> None:
    """Remove a ledger and SQLite's files beside it, in an order that leaves no log to a later ledger of its name."""
    for end in (*BESIDE, ""):
        file.with_name(file.name + end).unlink(missing_ok=True)
    flush_folder(file.parent)


def _make(file: Path) -> None:
    """Make an empty ledger under another name, and give it its own when it is durable."""
    new = file.with_name(f"{file.name}-new")
    for path in (file, new):
        remove_ledger(path)
    with closing(_connected(new)) as database:
        database.executescript(_MAKE)
    with new.open("rb+") as written:
        os.fsync(written.fileno())
    new.replace(file)
    flush_folder(file.parent)


def _connected(file: Path | str) -> sqlite3.Connection:
    return sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)


def _check_version(database: sqlite3.Connection, file: Path) -> bool:
    """Raise OutputError for a ledger of another version; tell whether it has its tables."""
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version not in (0, VERSION):
        database.close()
        raise OutputError(f"{file} is of another version of fcnseg ({version}); use --overwrite to start over")
    return bool(version)


def _may_lack_shared_memory(error: sqlite3.OperationalError) -> bool:
    """Tell whether an error may come from a drive without shared memory maps, or without locks, for the log."""
    primary = error.sqlite_errorcode & 0xFF
    return primary in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


def _with_rollback_journal(file: Path) -> sqlite3.Connection:
    """Open a ledger that cannot have a write-ahead log; one that has it from another drive is turned.

    In exclusive mode SQLite reads such a log without shared memory.
    """
    database = _connected(file)
    try:
        database.execute("PRAGMA locking_mode=EXCLUSIVE")
        mode = database.execute("PRAGMA journal_mode=DELETE").fetchone()[0]
        database.execute("PRAGMA locking_mode=NORMAL")
        database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()  # gives the exclusive lock back
        if mode != "delete":
            raise sqlite3.OperationalError(f"journal_mode is {mode}")
        with suppress(OSError):
            file.with_name(f"{file.name}-shm").unlink(missing_ok=True)  # of a log that could not be mapped
    except BaseException:
        database.close()
        raise
    return database


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """Hold a lock file, removed at the end: whoever waited for it then makes a new one. Raises OutputError."""
    lock = FileLock(file)
    try:
        lock.acquire(timeout=BUSY_SECONDS)
        note_holder(file)
    except Timeout as error:
        process = lock_holder(file)
        raise OutputError(
            f"{process} is opening the ledger and does not end: {process.remedy}; then run the same command again"
        ) from error
    except OSError as error:
        raise OutputError(f"{file} cannot be locked: {error.strerror or error}; {advice(file.parent)}") from error
    try:
        yield
    finally:
        with suppress(OSError):
            file.unlink(missing_ok=True)
        lock.release()


@contextmanager
def translated(file: Path) -> Iterator[None]:
    """Turn SQLite's errors into OutputError, with the cause as far as it can be found out."""
    try:
        yield
    except sqlite3.Error as error:
        raise OutputError(f"the ledger {file} cannot be used: {error}; {_cause(file, error)}") from error


def _cause(file: Path, error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_BUSY and not lacks(file.parent):
        return "another process keeps it so and does not go on; end that, then run the same command again"
    if code == sqlite3.SQLITE_FULL:
        return "make room on its drive, then run the same command again"
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return "it is damaged: bring it back from a copy, or start over with --overwrite"
    return advice(file.parent)


def advice(folder: Path) -> str:
    """Return what a folder's drive lacks for a ledger, and what to do; found out by trying."""
    if lacking := lacks(folder):
        return f"this drive has no {lacking}, which a ledger needs: write to a local drive, and copy the outputs"
    return "check the disk's space and permissions, then run the same command again"


def lacks(folder: Path) -> str:
    """Return in words what the drive of a folder does not have of what SQLite needs; empty if all is there."""
    missing = []
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(mmap.PAGESIZE))
            file.flush()
            if fcntl:
                try:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    missing.append("POSIX locks")
            try:
                mmap.mmap(file.fileno(), mmap.PAGESIZE).close()
            except OSError:
                missing.append("shared memory maps")
    except OSError:
        return ""  # it is not its locks that are at fault
    return " and no ".join(missing)
