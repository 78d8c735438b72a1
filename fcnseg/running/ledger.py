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
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fcnseg.errors import OutputError
from fcnseg.io.names import plain
from fcnseg.io.storage import identity_of
from fcnseg.running.claims import Claimant, claimant_process, dead_claimants, forget, is_alive, refuse_other_hosts
from fcnseg.running.ledger_file import alone, open_database, open_for_reading, translated
from fcnseg.types import Failure, LedgerRow, RecordedOutput, Settled

ROWS_A_QUERY = 500


class SqliteLedger:
    """The rows of one part of a run. Several threads and processes of one machine may use one file.

    `folder` is what the paths of recorded outputs are relative to. With `reading`, no other process is waited for and a
    file that may not be written is opened too, if it exists. Raises OutputError for a file that is no ledger or cannot
    be used, that a process of another machine works with, or that is removed or replaced after it was opened.
    """

    def __init__(self, file: Path, folder: Path, *, reading: bool = False) -> None:
        self.file, self.folder = file, str(folder)
        self._lock = threading.Lock()
        self._writable = not reading
        if reading:
            with translated(file):
                self._database = open_for_reading(file)
        else:
            refuse_other_hosts(file.parent)
            # SQLite does not wait for another process that turns a new file into one with a write-ahead log
            with self._alone(), translated(file):
                self._database = open_database(file)
        self._identity = identity_of(file)

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
        """Return a unique name to claim inputs under, that is alive until the `with` block or its process ends.

        Raises OutputError if a process of another machine works here.
        """
        return Claimant(self.file.parent)

    def describe(self, claimant: str) -> str:
        """Return in words which process claims under this name, and what to do if it does not end."""
        process = claimant_process(self.file.parent, claimant)
        return f"{process}; {process.remedy}"

    def is_alive(self, claimant: str) -> bool:
        """Tell whether the process that claims under this name still runs."""
        return is_alive(self.file.parent, claimant)

    def dead_claimants(self) -> list[str]:
        """Return the claimants that died without an end, and were not forgotten since."""
        return dead_claimants(self.file.parent)

    def forget(self, claimants: Iterable[str]) -> None:
        """Forget dead claimants; what they left unfinished among the records is removed."""
        forget(self.file.parent, claimants)

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
        """Record the ends of inputs, in one transaction. Those that nobody claimed have no attempts."""
        rows, ends = [], list(settled)
        for end in ends:
            state, stage, reason = (
                ("failed", end.failure.stage, end.failure.reason) if end.failure else ("done", "", "")
            )
            outputs = json.dumps(end.outputs)
            rows.append((os.fsencode(end.key), state, stage, plain(reason), end.fingerprint, outputs))
        entries = [(kind, os.fsencode(end.key), content) for end in ends for kind, content in end.entries.items()]
        with self._writing() as database:
            database.executemany(
                "INSERT INTO images (key, state, attempts, stage, reason, stamp, outputs) VALUES (?, ?, 0, ?, ?, ?, ?) "
                "ON CONFLICT (key) DO UPDATE SET state = excluded.state, owner = NULL, stage = excluded.stage, "
                "reason = excluded.reason, stamp = excluded.stamp, outputs = excluded.outputs",
                rows,
            )
            if entries:  # ledgers of earlier versions have no table for them
                database.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", entries)

    def release(self, claimant: str) -> None:
        """Forget the claims of `claimant` that were not settled, of inputs that nobody claimed before.

        The other claims stay as those of a dead claimant: files of an earlier attempt may be there.
        """
        with self._writing() as database:
            database.execute("DELETE FROM images WHERE state = 'claimed' AND owner = ? AND attempts = 1", (claimant,))

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

    def entries(self, kind: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Return what these inputs added to a file of all images when they were last done; the others are left out."""
        found: dict[str, bytes] = {}
        with self._reading() as database:
            for start in range(0, len(keys), ROWS_A_QUERY):
                names = [os.fsencode(key) for key in keys[start : start + ROWS_A_QUERY]]
                marks = ",".join("?" * len(names))
                query = f"SELECT key, content FROM entries WHERE kind = ? AND key IN ({marks})"
                found |= {os.fsdecode(key): content for key, content in database.execute(query, [kind, *names])}
        return found

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
        with self._lock, translated(self.file):
            yield self._database

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._check_place()
            try:
                with translated(self.file):
                    self._database.execute("BEGIN IMMEDIATE")
                    try:
                        yield self._database
                    except BaseException:
                        if self._database.in_transaction:  # SQLite ends it itself at some errors
                            self._database.execute("ROLLBACK")
                        raise
                    self._database.execute("COMMIT")
            finally:
                self._check_place()

    def _check_place(self) -> None:
        """Raise OutputError if the file is not the one that was opened: nobody would find what is written to that."""
        if identity_of(self.file) != self._identity:
            raise OutputError(
                f"the ledger {self.file} was removed or replaced while the run went on, so that nothing tells which "
                "outputs are whole; start over with --overwrite, or put it back"
            )

    def _alone(self) -> AbstractContextManager[None]:
        return alone(self.file.with_name(f"{self.file.name}-opening"))

    def close(self) -> None:
        """Close the file; the last one to do so removes the write-ahead log."""
        with self._lock:
            if not self._writable or identity_of(self.file) != self._identity:
                self._database.close()
                return
            with self._alone(), translated(self.file):
                self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _outputs(columns: Sequence[str | None]) -> list[list[RecordedOutput]]:
    """Parse the outputs of several rows; faster together than one by one."""
    parsed = json.loads(f"[{','.join(column or '[]' for column in columns)}]")
    return [[RecordedOutput(*output) for output in outputs] for outputs in parsed]


def has_begun(file: Path) -> bool:
    """Tell whether a run has noted its settings in a ledger, without which it has no outputs."""
    with SqliteLedger(file, file.parent, reading=True) as ledger:
        return ledger.fact("settings") is not None
