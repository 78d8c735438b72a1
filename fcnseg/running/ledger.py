"""The ledger of a run as a SQLite file among its records.

An input has no row, or one that says "claimed" (a process works on it), "done" (with its outputs' checksums) or
"failed" (stage and reason). A process claims inputs before it decodes them, and settles them when their outputs are on
disk under their names. So a process killed at any moment leaves nothing that looks finished and is not, and several
processes share one output folder.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock

from fcnseg.errors import OutputError
from fcnseg.io.names import plain
from fcnseg.io.run_records import connect_for_reading
from fcnseg.running.claims import Claimant, is_alive
from fcnseg.types import Failure, LedgerRow, RecordedOutput, Settled

SCHEMA = """
CREATE TABLE IF NOT EXISTS images (
    key BLOB PRIMARY KEY, state TEXT NOT NULL, owner TEXT, attempts INTEGER NOT NULL,
    stage TEXT, reason TEXT, stamp TEXT, outputs TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

VERSION = 1
"""The number of this schema, kept in the file's `user_version`."""

ROWS_A_QUERY = 500


class SqliteLedger:
    """The rows of one part of a run. Several threads and processes may use one file.

    `folder` is what the paths of recorded outputs are relative to. With `reading`, a file that may not be written is
    opened too, if it exists. Raises OutputError for a file that is no ledger or cannot be used.
    """

    def __init__(self, file: Path, folder: Path, *, reading: bool = False) -> None:
        self.file, self.folder = file, str(folder)
        self._lock = threading.Lock()
        self._writable = not reading or (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK))
        # SQLite does not wait for another process that turns a new file into one with a write-ahead log
        with self._alone(), _translated(file):
            self._database = _connected(file) if self._writable else connect_for_reading(file)
            version = self._database.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, VERSION):
                self._database.close()
                raise OutputError(f"{file} is of another version of fcnseg ({version}); use --overwrite to start over")
            if self._writable:
                self._database.execute("PRAGMA journal_mode=WAL")
                self._database.execute("PRAGMA synchronous=NORMAL")
            if not version:
                self._database.executescript(f"{SCHEMA} PRAGMA user_version={VERSION};")

    # ------------------------------------------------------------------ facts about the run

    def fact(self, name: str) -> Any:
        """Return the JSON value noted under that name, or None."""
        with self._reading() as database:
            row = database.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else None

    def note(self, **facts: Any) -> None:
        """Store JSON values by name."""
        with self._writing() as database:
            values = [(name, json.dumps(value)) for name, value in facts.items()]
            database.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", values)

    def agree(self, **facts: Any) -> dict[str, Any]:
        """Store JSON values under names that have none yet; returns the values that hold now."""
        with self._writing() as database:
            values = [(name, json.dumps(value)) for name, value in facts.items()]
            database.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?)", values)
        return {name: self.fact(name) for name in facts}

    # ------------------------------------------------------------------ inputs

    def new_claimant(self) -> AbstractContextManager[str]:
        """Return a unique name to claim inputs under, that is alive until the `with` block or its process ends."""
        return Claimant(self.file.parent)

    def is_alive(self, claimant: str) -> bool:
        """Tell whether the process that claims under this name still runs."""
        return is_alive(self.file.parent, claimant)

    def rows(self, keys: Sequence[str]) -> dict[str, LedgerRow]:
        """Return the rows of these inputs; inputs without one are left out."""
        found = {}
        with self._reading() as database:
            for start in range(0, len(keys), ROWS_A_QUERY):
                names = [os.fsencode(key) for key in keys[start : start + ROWS_A_QUERY]]
                marks = ",".join("?" * len(names))
                rows = database.execute(f"SELECT * FROM images WHERE key IN ({marks})", names).fetchall()
                for row, outputs in zip(rows, _outputs([row[-1] for row in rows]), strict=True):
                    found[os.fsdecode(row[0])] = LedgerRow._make([*row[1:-1], outputs])
        return found

    def claim(self, keys: Iterable[str], claimant: str, seen: Mapping[str, LedgerRow]) -> list[str]:
        """Claim inputs that have no row, or still the row that the caller has `seen`; returns those it got."""
        claimed = []
        with self._writing() as database:
            for key in keys:
                row = seen.get(key)
                if row is None:
                    cursor = database.execute(
                        "INSERT OR IGNORE INTO images (key, state, owner, attempts) VALUES (?, 'claimed', ?, 1)",
                        (os.fsencode(key), claimant),
                    )
                else:
                    cursor = database.execute(
                        "UPDATE images SET state = 'claimed', owner = ?, attempts = attempts + 1, outputs = NULL "
                        "WHERE key = ? AND state = ? AND owner IS ? AND attempts = ?",
                        (claimant, os.fsencode(key), row.state, row.claimant, row.attempts),
                    )
                if cursor.rowcount:
                    claimed.append(key)
        return claimed

    def settle(self, settled: Iterable[Settled]) -> None:
        """Record the ends of inputs, in one transaction."""
        rows = []
        for end in settled:
            state, stage, reason = (
                ("failed", end.failure.stage, end.failure.reason) if end.failure else ("done", "", "")
            )
            outputs = json.dumps(end.outputs)
            rows.append((os.fsencode(end.key), state, stage, plain(reason), end.fingerprint, outputs))
        with self._writing() as database:
            database.executemany(
                "INSERT INTO images (key, state, attempts, stage, reason, stamp, outputs) VALUES (?, ?, 1, ?, ?, ?, ?) "
                "ON CONFLICT (key) DO UPDATE SET state = excluded.state, owner = NULL, stage = excluded.stage, "
                "reason = excluded.reason, stamp = excluded.stamp, outputs = excluded.outputs",
                rows,
            )

    def release(self, claimant: str) -> None:
        """Forget the claims of `claimant` that were not settled."""
        with self._writing() as database:
            database.execute("DELETE FROM images WHERE state = 'claimed' AND owner = ?", (claimant,))

    def in_flight(self) -> dict[str, list[str]]:
        """Return the claimed inputs of each claimant."""
        claimed: dict[str, list[str]] = {}
        with self._reading() as database:
            for key, claimant in database.execute("SELECT key, owner FROM images WHERE state = 'claimed'"):
                claimed.setdefault(claimant, []).append(os.fsdecode(key))
        return claimed

    def counts(self) -> dict[str, int]:
        """Return the number of inputs in each state."""
        with self._reading() as database:
            return dict(database.execute("SELECT state, COUNT(*) FROM images GROUP BY state").fetchall())

    def failures(self) -> Iterator[Failure]:
        """Yield every failed input, by key."""
        for key, stage, reason in self._by_key("key, stage, reason", "failed"):
            yield Failure(os.fsdecode(key), stage, reason)

    def outputs(self) -> Iterator[Sequence[RecordedOutput]]:
        """Yield the outputs of every input that is done."""
        for _, outputs in self._by_key("key, outputs", "done"):
            yield from _outputs([outputs])

    def _by_key(self, columns: str, state: str) -> Iterator[tuple[Any, ...]]:
        """Yield columns (the key is the first) of the inputs in a state, by key, without holding the database."""
        last = b""
        query = f"SELECT {columns} FROM images WHERE state = ? AND key > ? ORDER BY key LIMIT {ROWS_A_QUERY}"
        while True:
            with self._reading() as database:
                rows = database.execute(query, (state, last)).fetchall()
            if not rows:
                return
            yield from rows
            last = rows[-1][0]

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


def _outputs(columns: Sequence[str | None]) -> list[list[RecordedOutput]]:
    """Parse the outputs of several rows; faster together than one by one."""
    parsed = json.loads(f"[{','.join(column or '[]' for column in columns)}]")
    return [[RecordedOutput(*output) for output in outputs] for outputs in parsed]


@contextmanager
def _translated(file: Path) -> Iterator[None]:
    """Turn SQLite's errors into OutputError."""
    try:
        yield
    except sqlite3.Error as error:
        raise OutputError(
            f"the ledger {file} cannot be used: {error}; check the disk's space and permissions, "
            "then run the same command again"
        ) from error
