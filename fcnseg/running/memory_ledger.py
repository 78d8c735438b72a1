"""A ledger in the memory of this process, for inputs that no other process works on."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

from fcnseg.io.names import plain
from fcnseg.types import Failure, LedgerRow, RecordedOutput, Settled


class MemoryLedger:
    """The rows of a few inputs, shared by the threads of this process. Nothing of it outlives the process by itself.

    `folder` is what the paths of recorded outputs are relative to.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._rows: dict[str, LedgerRow] = {}
        self._facts: dict[str, Any] = {}
        self._entries: dict[tuple[str, str], bytes] = {}
        self._alive: set[str] = set()
        self._numbers = count()
        self._lock = threading.RLock()

    @contextmanager
    def new_claimant(self) -> Iterator[str]:
        """Return a unique name to claim inputs under, that is alive until the `with` block ends."""
        name = f"memory-{next(self._numbers)}"
        self._alive.add(name)
        try:
            yield name
        finally:
            self._alive.discard(name)

    def describe(self, claimant: str) -> str:
        """Return in words who claims under this name, and what to do if it does not end."""
        return f"{claimant} of this process; let it end"

    def is_alive(self, claimant: str) -> bool:
        """Tell whether who claims under this name still works."""
        return claimant in self._alive

    def dead_claimants(self) -> list[str]:
        """Return none: with their process, its ledger is gone."""
        return []

    def forget(self, claimants: Iterable[str]) -> None:
        """Do nothing: there are no dead claimants."""

    def rows(self, keys: Sequence[str]) -> dict[str, LedgerRow]:
        """Return the rows of these inputs; inputs without one are left out."""
        with self._lock:
            return {key: self._rows[key] for key in keys if key in self._rows}

    def claim(self, keys: Iterable[str], claimant: str, seen: Mapping[str, LedgerRow]) -> list[str]:
        """Claim inputs that have no row, or still the row that the caller has `seen`; returns those it got."""
        claimed = []
        with self._lock:
            for key in keys:
                row = self._rows.get(key)
                if row is None and key not in seen:
                    self._rows[key] = LedgerRow("claimed", claimant, 1, None, None, None, [])
                elif row and key in seen and row[:3] == seen[key][:3]:
                    self._rows[key] = LedgerRow("claimed", claimant, row.attempts + 1, None, None, None, [])
                else:
                    continue
                claimed.append(key)
        return claimed

    def settle(self, settled: Iterable[Settled]) -> None:
        """Record the ends of inputs. Those that nobody claimed have no attempts."""
        with self._lock:
            for end in settled:
                before = self._rows.get(end.key)
                state, stage, reason = (
                    ("failed", end.failure.stage, end.failure.reason) if end.failure else ("done", "", "")
                )
                self._entries |= {(kind, end.key): content for kind, content in end.entries.items()}
                attempts = before.attempts if before else 0
                self._rows[end.key] = LedgerRow(
                    state, None, attempts, stage, plain(reason), end.fingerprint, list(end.outputs)
                )

    def release(self, claimant: str) -> None:
        """Forget the claims of `claimant` that were not settled, of inputs that nobody claimed before."""
        with self._lock:
            for key, row in list(self._rows.items()):
                if (row.state, row.claimant, row.attempts) == ("claimed", claimant, 1):
                    del self._rows[key]

    def in_flight(self) -> dict[str, list[str]]:
        """Return the claimed inputs of each claimant."""
        claimed: dict[str, list[str]] = {}
        with self._lock:
            for key, row in self._rows.items():
                if row.state == "claimed" and row.claimant:
                    claimed.setdefault(row.claimant, []).append(key)
        return claimed

    def counts(self) -> dict[str, int]:
        """Return the number of inputs in each state."""
        with self._lock:
            return dict(Counter(row.state for row in self._rows.values()))

    def settled(self) -> list[tuple[str, LedgerRow]]:
        """Return the inputs that ended with their rows, by key."""
        with self._lock:
            ended = [(key, row) for key, row in self._rows.items() if row.state in ("done", "failed")]
        return sorted(ended, key=lambda pair: os.fsencode(pair[0]))

    def failures(self) -> Iterator[Failure]:
        """Yield every failed input, by key."""
        for key, row in self.settled():
            if row.state == "failed":
                yield Failure(key, row.stage or "", row.reason or "")

    def outputs(self) -> Iterator[Sequence[RecordedOutput]]:
        """Yield the outputs of every input that is done."""
        for _, row in self.settled():
            if row.state == "done":
                yield row.outputs

    def entries(self, kind: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Return what these inputs added to a file of all images when they were last done; the others are left out."""
        with self._lock:
            return {key: self._entries[kind, key] for key in keys if (kind, key) in self._entries}

    def fact(self, name: str) -> Any:
        """Return the value noted under that name, or None."""
        with self._lock:
            return self._facts.get(name)

    def note(self, **facts: Any) -> None:
        """Store values by name."""
        with self._lock:
            self._facts |= facts

    def agree(self, **facts: Any) -> dict[str, Any]:
        """Store values under names that have none yet; returns the values that hold now."""
        with self._lock:
            for name, value in facts.items():
                self._facts.setdefault(name, value)
            return {name: self._facts[name] for name in facts}
