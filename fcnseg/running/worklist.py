"""What is left to do: the inputs of this part that the ledger does not hold whole, claimed for this process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

from fcnseg.io.names import OutputName
from fcnseg.io.parts import Part
from fcnseg.running.claims import is_alive, remove_unfinished
from fcnseg.running.ledger import Entry, Ledger, Settled, place_of
from fcnseg.types import Failure, Reference, Source

T = TypeVar("T")

LOOKED_UP_AT_ONCE = 256
CLAIMED_AT_ONCE = 8
POLL_SECONDS = 0.2


def is_new(entry: Entry | None) -> bool:
    """Whether an input was never looked into, by its row: what is in the way of its output is not its own."""
    return entry is None or (entry.state == "failed" and not entry.fingerprint)


def fingerprint_of(source: Source, reference: Reference) -> str:
    """What tells whether an input is the one it was; empty if that cannot be told, which loading it will explain."""
    try:
        return source.fingerprint(reference)
    except Exception:
        return ""


@dataclass
class Worklist:
    """Iterating claims inputs in the source's order, a few at a time; `on_settled` hears of those that need no work.

    Inputs that another living process has claimed come last: it is waited for, and if it dies they are taken over.
    `names` are those of the files an input must have to be done, relative to the ledger's folder. With `replace`,
    files that no run made may be in their place.
    """

    source: Source
    ledger: Ledger
    owner: str
    part: Part
    names: tuple[OutputName, ...]
    retry_failed: bool = False
    replace: bool = False
    on_kept: Callable[[str], None] = lambda key: None
    on_failed: Callable[[Failure, bool], None] = lambda failure, before: None
    stopped: Callable[[], bool] = lambda: False
    _dead: dict[str, set[Path]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Reference]:
        self._intact = self.ledger.intact_volumes()
        waiting: list[Reference] = []
        for some in chunks(self._listed(), LOOKED_UP_AT_ONCE):
            if self.stopped():
                return
            yield from self._claimed(some, waiting)
        while waiting and not self.stopped():
            time.sleep(POLL_SECONDS)
            still: list[Reference] = []
            self._intact = self.ledger.intact_volumes()  # another process may have assembled meanwhile
            yield from self._claimed(waiting, still)
            waiting = still

    def _listed(self) -> Iterator[Reference]:
        """The part's inputs; what cannot be listed is settled as failed."""
        for found in self.source:
            if not self.part.has(found.key):
                continue
            if isinstance(found, Reference):
                yield found
            else:
                self.ledger.settle([Settled(found.key, "", failure=found)])
                self.on_failed(found, False)

    def _claimed(self, references: Iterable[Reference], waiting: list[Reference]) -> Iterator[Reference]:
        """Those of the references that are ours to do now; those of others go to `waiting`."""
        references = list(references)
        entries = self.ledger.entries([r.key for r in references])
        todo = [r for r in references if self._is_open(r, entries.get(r.key), waiting)]
        for some in chunks(todo, CLAIMED_AT_ONCE):
            if self.stopped():
                return
            got = set(self.ledger.claim([r.key for r in some], self.owner, entries))
            waiting.extend(r for r in some if r.key not in got)
            yield from (r for r in some if r.key in got)

    def _is_open(self, reference: Reference, entry: Entry | None, waiting: list[Reference]) -> bool:
        """Whether there is work to do on an input, by its row."""
        if entry is None or is_new(entry):
            return self._is_free(reference)
        if entry.state == "claimed":
            if self._is_abandoned(entry, reference):
                return True
            waiting.append(reference)
            return False
        if entry.fingerprint != fingerprint_of(self.source, reference):  # another image under the same name
            return True
        if entry.state == "failed":
            if self.retry_failed and entry.owner != self.owner:
                return True
            self.on_failed(Failure(reference.key, entry.stage or "", entry.reason or ""), True)
            return False
        outputs, names = entry.outputs, {name.of(reference.stem) for name in self.names}
        whole = names == {kept.path for kept in outputs} and self.ledger.is_whole(outputs, self._intact)
        if whole:
            self.on_kept(reference.key)
        return not whole

    def _is_free(self, reference: Reference) -> bool:
        """Whether nobody else's file is where a new input's output belongs; settles the input as failed if so."""
        for path in () if self.replace else filter(os.path.lexists, self._paths(reference)):
            reason = f"{path} exists and no run of fcnseg made it; remove it, or start over with --overwrite"
            failure = Failure(reference.key, "write", reason)
            self.ledger.settle(
                [Settled(reference.key, "", failure=failure)]
            )  # of no fingerprint: tried again next time
            self.on_failed(failure, False)
            return False
        return True

    def _is_abandoned(self, entry: Entry, reference: Reference) -> bool:
        """Whether whoever claimed an input is gone; what it left unfinished is removed then."""
        owner = entry.owner or ""
        if owner == self.owner:
            return False
        if owner not in self._dead:
            if is_alive(self.ledger.file.parent, owner):
                return False
            self._dead[owner] = set()
        folders = {Path(path).parent for path in self._paths(reference)} - self._dead[owner]
        remove_unfinished(owner, folders)  # once a folder: it is searched through
        self._dead[owner] |= folders
        return True

    def _paths(self, reference: Reference) -> list[str]:
        """Where the outputs of an input belong."""
        return [place_of(self.ledger.folder, name.of(reference.stem)) for name in self.names]


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Those items in lists of up to `size`."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
