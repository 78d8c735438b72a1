"""The work that is left: inputs of this part that the ledger does not hold whole, claimed for this process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

from fcnseg.errors import StorageError
from fcnseg.io.locks import WaitNotice
from fcnseg.io.parts import Part
from fcnseg.running.claims import remove_unfinished
from fcnseg.running.intact import absolute_path, are_intact, intact_staging_folders
from fcnseg.types import Failure, Ledger, LedgerRow, OutputName, Reference, Settled, Source

T = TypeVar("T")

LOOKED_UP_AT_ONCE = 256

FEWEST_CLAIMS, MOST_CLAIMS = 8, 64
"""The inputs claimed at once: a claim waits for the disk, but what is claimed no other process can take."""

CLAIM_SECONDS = 0.5
"""If claimed inputs are taken up faster, more are claimed the next time, else fewer."""

POLL_SECONDS = 0.2

ROWS_TOLD_OF = 500
"""The inputs that a line about waiting counts at the most; it names KEYS_SHOWN of them."""

KEYS_SHOWN = 3


def is_new(row: LedgerRow | None) -> bool:
    """Tell whether no run has claimed an input yet: a file where its output belongs is not its own then."""
    return row is None or not row.attempts


def fingerprint_of(source: Source, reference: Reference) -> str:
    """Return the fingerprint of an input; empty if there is none, for which loading it will give the reason."""
    try:
        return source.fingerprint(reference)
    except StorageError:
        raise
    except Exception:
        return ""


@dataclass
class Worklist:
    """An iterable of inputs to work on, in the source's order, claimed a few at a time as it goes.

    Inputs that another living process has claimed come last: it is waited for, and if it dies they are taken over.
    `names` are those of the files that an input must have to be done, relative to the ledger's folder. With `replace`,
    files that no run made may be in their place. `on_kept` and `on_failed` hear of inputs that need no work,
    `on_wait` in a line of a long wait for another process.
    """

    source: Source
    ledger: Ledger
    claimant: str
    part: Part
    names: tuple[OutputName, ...]
    retry_failed: bool = False
    replace: bool = False
    on_kept: Callable[[str], None] = lambda key: None
    on_failed: Callable[[Failure, bool], None] = lambda failure, before: None
    stopped: Callable[[], bool] = lambda: False
    on_wait: Callable[[str], None] = lambda line: None
    _dead: dict[str, set[Path]] = field(default_factory=dict)
    """Dead claimants, and the folders that were searched for unfinished files of each."""
    _claims: int = FEWEST_CLAIMS

    def __iter__(self) -> Iterator[Reference]:
        self._intact = intact_staging_folders(self.ledger)
        self._dead = {claimant: set() for claimant in self.ledger.dead_claimants()}
        waiting: list[Reference] = []
        for references in chunks(self._listed(), LOOKED_UP_AT_ONCE):
            if self.stopped():
                return
            yield from self._claimed(references, waiting)
        notice = WaitNotice()
        while waiting and not self.stopped():
            time.sleep(POLL_SECONDS)
            if notice.is_due():
                self._tell_waits(waiting)
            still_waiting: list[Reference] = []
            self._intact = intact_staging_folders(self.ledger)  # another process may have written HDF5 files meanwhile
            yield from self._claimed(waiting, still_waiting)
            waiting = still_waiting
        if not self.stopped():
            self.ledger.forget(self._dead)

    def _tell_waits(self, waiting: list[Reference]) -> None:
        """Tell which processes are waited for, with which images, and how to go on."""
        keys: dict[str, list[str]] = {}
        rows = self.ledger.rows([reference.key for reference in waiting[:ROWS_TOLD_OF]])
        for key, row in rows.items():
            if row.state == "claimed" and row.claimant != self.claimant:
                keys.setdefault(row.claimant or "", []).append(key)
        for claimant, claimed in keys.items():
            more = f" and {len(claimed) - KEYS_SHOWN} more" if len(claimed) > KEYS_SHOWN else ""
            images = f"{', '.join(claimed[:KEYS_SHOWN])}{more}"
            self.on_wait(
                f"waiting for {images}, claimed by {self.ledger.describe(claimant)}; its images are taken over then"
            )

    def _listed(self) -> Iterator[Reference]:
        """Yield the inputs of this part; what cannot be listed is settled as failed."""
        for listed in self.source:
            if not self.part.has(listed.key):
                continue
            if isinstance(listed, Reference):
                yield listed
            else:
                self.ledger.settle([Settled(listed.key, "", failure=listed)])
                self.on_failed(listed, False)

    def _claimed(self, references: list[Reference], waiting: list[Reference]) -> Iterator[Reference]:
        """Claim and yield those of the references that need work; those that others claimed go to `waiting`."""
        rows = self.ledger.rows([r.key for r in references])
        if self._dead:
            for reference in references:
                self._search(self._dead, reference)
        todo = [r for r in references if self._needs_work(r, rows.get(r.key), waiting)]
        while todo and not self.stopped():
            group, todo = todo[: self._claims], todo[self._claims :]
            start = time.monotonic()
            claimed = set(self.ledger.claim([r.key for r in group], self.claimant, rows))
            waiting.extend(r for r in group if r.key not in claimed)
            yield from (r for r in group if r.key in claimed)
            fast = time.monotonic() - start < CLAIM_SECONDS
            self._claims = min(self._claims * 2, MOST_CLAIMS) if fast else max(self._claims // 2, FEWEST_CLAIMS)

    def _needs_work(self, reference: Reference, row: LedgerRow | None, waiting: list[Reference]) -> bool:
        """Tell whether there is work to do on an input, by its row."""
        if row is None or is_new(row):
            return self._is_free(reference, waiting)
        if row.state == "claimed":
            if self._is_abandoned(row, reference):
                return True
            waiting.append(reference)
            return False
        if row.fingerprint != fingerprint_of(self.source, reference):  # another image under the same name
            return True
        if row.state == "failed":
            if self.retry_failed and row.claimant != self.claimant:
                return True
            self.on_failed(Failure(reference.key, row.stage or "", row.reason or ""), True)
            return False
        names = {name.of(reference.stem) for name in self.names}
        recorded = {output.path for output in row.outputs}
        whole = names == recorded and are_intact(self.ledger.folder, row.outputs, self._intact)
        if whole:
            self.on_kept(reference.key)
        return not whole

    def _is_free(self, reference: Reference, waiting: list[Reference]) -> bool:
        """Tell whether there is work to do on a new input: it is settled as failed if a file lies where its output
        belongs, unless another run has claimed it since and written that."""
        for path in () if self.replace else filter(os.path.lexists, self._paths(reference)):
            row = self.ledger.rows([reference.key]).get(reference.key)
            if not is_new(row):
                return self._needs_work(reference, row, waiting)
            reason = f"{path} exists and no run of fcnseg made it; remove it, or start over with --overwrite"
            failure = Failure(reference.key, "write", reason)
            self.ledger.settle([Settled(reference.key, "", failure=failure)])  # without fingerprint: tried again
            self.on_failed(failure, False)
            return False
        return True

    def _is_abandoned(self, row: LedgerRow, reference: Reference) -> bool:
        """Tell whether the claimant of an input is gone; what it left unfinished is removed then."""
        claimant = row.claimant or ""
        if claimant == self.claimant:
            return False
        if claimant not in self._dead:
            if self.ledger.is_alive(claimant):
                return False
            self._dead[claimant] = set()
        self._search((claimant,), reference)
        return True

    def _search(self, claimants: Iterable[str], reference: Reference) -> None:
        """Remove what dead claimants left unfinished where the outputs of an input belong."""
        folders = {Path(path).parent for path in self._paths(reference)}
        for claimant in claimants:
            remove_unfinished(claimant, folders - self._dead[claimant])
            self._dead[claimant] |= folders

    def _paths(self, reference: Reference) -> list[str]:
        """Return where the outputs of an input belong."""
        return [absolute_path(self.ledger.folder, name.of(reference.stem)) for name in self.names]


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of up to `size`."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
