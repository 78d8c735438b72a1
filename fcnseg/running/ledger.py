"""What became of every input: a SQLite file in the output's hidden folder.

An input has no row, or one that says "claimed" (a process works on it), "done" (with its outputs' checksums) or
"failed" (stage and reason). A process claims inputs before it decodes them and settles them after their outputs are
on disk under their names, so that a process killed at any moment leaves nothing that looks finished and is not, and
several processes share one folder. Rows of inputs that are done are believed only as long as the files are as they
were written (`is_whole`).
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from filelock import FileLock

from fcnseg.errors import OutputError
from fcnseg.io.atomic import checksum
from fcnseg.io.names import plain
from fcnseg.io.run_records import connect_for_reading
from fcnseg.types import Failure, Output

SCHEMA = """
CREATE TABLE IF NOT EXISTS images (
    key BLOB PRIMARY KEY, state TEXT NOT NULL, owner TEXT, attempts INTEGER NOT NULL,
    stage TEXT, reason TEXT, stamp TEXT, outputs TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

VERSION = 1
"""The number of this schema, kept in the file's `user_version`."""

KEYS_A_QUERY = 500


class Kept(NamedTuple):
    """An output as it was when it was written: its path relative to the ledger's folder, bytes, checksum, and the
    time of its last change of any kind (ns), which no program can set back."""

    path: str
    size: int
    checksum: str
    changed_ns: int

    def is_whole(self, folder: Path | str) -> bool:
        """Whether the file is still the one that was written. Its bytes are read only if something touched it."""
        path = place_of(folder, self.path)
        try:
            status = os.stat(path)  # noqa: PTH116 - for every input of a resumed run: a Path costs more
            return status.st_size == self.size and (
                status.st_ctime_ns == self.changed_ns or checksum(Path(path)) == self.checksum
            )
        except OSError:
            return False


def place_of(folder: Path | str, path: str) -> str:
    """Where a path that is recorded relative to a folder leads. What is recorded was found from names alone, so a
    folder that is a link does not count."""
    whole = f"{folder}{os.sep}{path}"
    return os.path.normpath(whole) if path.startswith(os.pardir) else whole


class Entry(NamedTuple):
    """The row of one input."""

    state: str
    owner: str | None
    attempts: int
    stage: str | None
    reason: str | None
    fingerprint: str | None
    outputs: list[Kept]


@dataclass(frozen=True)
class Settled:
    """How one input ended: with its outputs, or with a failure."""

    key: str
    fingerprint: str
    outputs: tuple[Output, ...] = ()
    failure: Failure | None = None


class Ledger:
    """The rows of one part of a run. Several threads and processes may use one file; paths are relative to `folder`.

    With `reading`, a file where nothing can be written is opened too, if it is there.
    """

    def __init__(self, file: Path, folder: Path, *, reading: bool = False) -> None:
        self.file, self.folder = file, folder
        self._folder = str(folder)
        self._lock = threading.Lock()
        self._writable = not reading or (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK))
        # SQLite does not wait for another process that turns a new file into one with a write-ahead log
        with self._alone(), _translated(file):
            self._database = _connected(file) if self._writable else connect_for_reading(file)
            found = self._database.execute("PRAGMA user_version").fetchone()[0]
            if found not in (0, VERSION):
                self._database.close()
                raise OutputError(f"{file} is of another version of fcnseg ({found}); use --overwrite to start over")
            if self._writable:
                self._database.execute("PRAGMA journal_mode=WAL")
                self._database.execute("PRAGMA synchronous=NORMAL")
            if not found:
                self._database.executescript(f"{SCHEMA} PRAGMA user_version={VERSION};")

    # ------------------------------------------------------------------ facts about the run

    def fact(self, name: str) -> Any:
        """What was noted under that name, or None."""
        with self._reading() as database:
            row = database.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else None

    def note(self, **facts: Any) -> None:
        """Remember JSON values by name."""
        with self._writing() as database:
            values = [(name, json.dumps(value)) for name, value in facts.items()]
            database.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", values)

    def agree(self, **facts: Any) -> dict[str, Any]:
        """Remember those values unless there are others under their names; returns what holds now."""
        with self._writing() as database:
            values = [(name, json.dumps(value)) for name, value in facts.items()]
            database.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?)", values)
        return {name: self.fact(name) for name in facts}

    # ------------------------------------------------------------------ inputs

    def relative(self, path: Path) -> str:
        """A path as rows hold it: relative to the ledger's folder."""
        text, prefix = str(path), self._folder + os.sep
        return text[len(prefix) :] if text.startswith(prefix) else os.path.relpath(path, self.folder)

    def entries(self, keys: Sequence[str]) -> dict[str, Entry]:
        """The rows of those inputs; inputs without one are left out."""
        found = {}
        with self._reading() as database:
            for start in range(0, len(keys), KEYS_A_QUERY):
                names = [os.fsencode(key) for key in keys[start : start + KEYS_A_QUERY]]
                marks = ",".join("?" * len(names))
                rows = database.execute(f"SELECT * FROM images WHERE key IN ({marks})", names).fetchall()
                for row, outputs in zip(rows, _outputs([row[-1] for row in rows]), strict=True):
                    found[os.fsdecode(row[0])] = Entry._make([*row[1:-1], outputs])
        return found

    def claim(self, keys: Iterable[str], owner: str, replaced: Mapping[str, Entry]) -> list[str]:
        """Take those inputs for `owner`; returns the ones it got. `replaced` holds the rows as the caller saw them:
        an input whose row has changed since is someone else's."""
        got = []
        with self._writing() as database:
            for key in keys:
                seen = replaced.get(key)
                if seen is None:
                    done = database.execute(
                        "INSERT OR IGNORE INTO images (key, state, owner, attempts) VALUES (?, 'claimed', ?, 1)",
                        (os.fsencode(key), owner),
                    )
                else:
                    done = database.execute(
                        "UPDATE images SET state = 'claimed', owner = ?, attempts = attempts + 1, outputs = NULL "
                        "WHERE key = ? AND state = ? AND owner IS ? AND attempts = ?",
                        (owner, os.fsencode(key), seen.state, seen.owner, seen.attempts),
                    )
                if done.rowcount:
                    got.append(key)
        return got

    def settle(self, ended: Iterable[Settled]) -> None:
        """Record how inputs ended, in one transaction."""
        rows = []
        for one in ended:
            state, stage, reason = (
                ("failed", one.failure.stage, one.failure.reason) if one.failure else ("done", "", "")
            )
            outputs = json.dumps(
                [[self.relative(o.path), o.size, o.checksum, _changed_ns(o.path)] for o in one.outputs]
            )
            rows.append((os.fsencode(one.key), state, stage, plain(reason), one.fingerprint, outputs))
        with self._writing() as database:
            database.executemany(
                "INSERT INTO images (key, state, attempts, stage, reason, stamp, outputs) VALUES (?, ?, 1, ?, ?, ?, ?) "
                "ON CONFLICT (key) DO UPDATE SET state = excluded.state, owner = NULL, stage = excluded.stage, "
                "reason = excluded.reason, stamp = excluded.stamp, outputs = excluded.outputs",
                rows,
            )

    def release(self, owner: str) -> None:
        """Give back what `owner` claimed and did not settle."""
        with self._writing() as database:
            database.execute("DELETE FROM images WHERE state = 'claimed' AND owner = ?", (owner,))

    def in_flight(self) -> dict[str, list[str]]:
        """The claimed inputs of every owner."""
        found: dict[str, list[str]] = {}
        with self._reading() as database:
            for key, owner in database.execute("SELECT key, owner FROM images WHERE state = 'claimed'"):
                found.setdefault(owner, []).append(os.fsdecode(key))
        return found

    def counts(self) -> dict[str, int]:
        """How many inputs are in each state."""
        with self._reading() as database:
            return dict(database.execute("SELECT state, COUNT(*) FROM images GROUP BY state").fetchall())

    def failures(self) -> Iterator[Failure]:
        """Every failed input, by key."""
        last = b""
        while True:
            with self._reading() as database:
                rows = database.execute(
                    "SELECT key, stage, reason FROM images WHERE state = 'failed' AND key > ? ORDER BY key LIMIT 500",
                    (last,),
                ).fetchall()
            if not rows:
                return
            for key, stage, reason in rows:
                yield Failure(os.fsdecode(key), stage, reason)
            last = rows[-1][0]

    def outputs(self) -> Iterator[list[Kept]]:
        """The outputs of every input that is done."""
        last = b""
        while True:
            with self._reading() as database:
                rows = database.execute(
                    "SELECT key, outputs FROM images WHERE state = 'done' AND key > ? ORDER BY key LIMIT 500", (last,)
                ).fetchall()
            if not rows:
                return
            yield from _outputs([outputs for _, outputs in rows])
            last = rows[-1][0]

    # ------------------------------------------------------------------ files that hold the outputs of many inputs

    def expect_volumes(self, volumes: Mapping[Path, Path]) -> None:
        """Remember which files (by the folders where their parts are staged) this run is to write, if it is new."""
        known = self.fact("volumes") or {}
        expected = {self.relative(staged): [self.relative(file), -1, "", 0] for staged, file in volumes.items()}
        self.note(volumes={**expected, **known})

    def note_volume(self, staged: Path, file: Output, content: str) -> None:
        """Remember that what was staged in a folder is in that file now; `content` tells what that is."""
        value = [self.relative(file.path), file.size, file.checksum, file.path.stat().st_ctime_ns]
        self.note(
            volumes={**(self.fact("volumes") or {}), self.relative(staged): value},
            contents={**(self.fact("contents") or {}), self.relative(staged): content},
        )

    def volumes(self) -> dict[str, Kept]:
        """The files of many inputs that this run is to write, by the folders where their parts are staged."""
        return {staged: Kept(*value) for staged, value in (self.fact("volumes") or {}).items()}

    def intact_volumes(self) -> tuple[str, ...]:
        """The staging folders whose files are in a volume that is still as it was written."""
        return tuple(staged + os.sep for staged, kept in self.volumes().items() if kept.is_whole(self.folder))

    def is_whole(self, outputs: Iterable[Kept], intact: tuple[str, ...]) -> bool:
        """Whether an input's outputs are as they were written: each by itself or in an intact volume."""
        return all(kept.path.startswith(intact) or kept.is_whole(self._folder) for kept in outputs)

    # ------------------------------------------------------------------ the database

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _translated(self.file):
            yield self._database

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _translated(self.file):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def _alone(self) -> AbstractContextManager[Any]:
        return FileLock(self.file.with_name(f"{self.file.name}-opening")) if self._writable else nullcontext()

    def close(self) -> None:
        """Close the file; the last one to do so removes the write-ahead log."""
        with self._lock, self._alone():
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _connected(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(file, timeout=60, isolation_level=None, check_same_thread=False)


def _outputs(written: Sequence[str | None]) -> list[list[Kept]]:
    """The outputs of several rows, read at once: that is faster."""
    found = json.loads(f"[{','.join(one or '[]' for one in written)}]")
    return [[Kept(*one) for one in outputs] for outputs in found]


def _changed_ns(path: Path) -> int:
    """When a file last changed; 0 if it is gone already, so that it will be made again."""
    try:
        return path.stat().st_ctime_ns
    except OSError:
        return 0


@contextmanager
def _translated(file: Path) -> Iterator[None]:
    """SQLite's errors as one line."""
    try:
        yield
    except sqlite3.Error as error:
        raise OutputError(
            f"the ledger {file} cannot be used: {error}; check the disk's space and permissions, "
            "then run the same command again"
        ) from error
