"""How far the run of an output folder is, part by part, from its ledgers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from fcnseg.errors import SourceError
from fcnseg.running.claims import is_alive
from fcnseg.running.ledger import Ledger
from fcnseg.types import Failure

LEDGERS = "ledger*.sqlite"
"""The ledgers of a run among its records: `ledger.sqlite`, or one for each part."""


@dataclass(frozen=True)
class PartStatus:
    """One part: its inputs by the newest listing (None: not known, for none has started), and how many of them are
    done, failed, or being done by a living process. `ended`: the last run came to its end; `assembled`: the HDF5 files
    it was to write are as it wrote them."""

    index: int
    inputs: int | None
    done: int = 0
    failed: int = 0
    running: int = 0
    started: bool = True
    ended: bool = True
    assembled: bool = True

    @property
    def missing(self) -> int:
        """Inputs that have not ended and that nobody is at."""
        return max(0, (self.inputs or 0) - self.done - self.failed - self.running)

    @property
    def whole(self) -> bool:
        """Whether every input is done."""
        return self.started and self.ended and self.assembled and self.done == self.inputs


def status(records: Path, folder: Path) -> list[PartStatus]:
    """Every part of the run whose records lie there. `folder`: what outputs' paths count from.

    Outputs are looked at: one that was removed or changed counts as missing. Raises SourceError if there is no run.
    """
    files = sorted(records.glob(LEDGERS))
    if not files:
        raise SourceError(f"no run of fcnseg has written to {folder}; name the folder or file given as --out")
    count = parts_of(files[0])
    found: dict[int, PartStatus] = {}
    newest, listed = 0.0, [None] * count
    for file in files:
        with Ledger(file, folder, reading=True) as ledger:
            index = int(file.stem.split("-")[1]) if count > 1 else 0
            found[index] = _part(ledger, index)
            if (at := ledger.fact("listed_at") or 0.0) > newest:
                newest, listed = at, ledger.fact("listed")
    return [
        replace(found.get(index) or PartStatus(index, None, started=False), inputs=listed[index])
        for index in range(count)
    ]


def _part(ledger: Ledger, index: int) -> PartStatus:
    counts, ended = ledger.counts(), ledger.fact("ended")
    intact = ledger.intact_volumes()
    changed = sum(not ledger.is_whole(outputs, intact) for outputs in ledger.outputs())
    tally = ended or {state: counts.get(state, 0) for state in ("done", "failed")}
    return PartStatus(
        index,
        None,
        max(0, tally["done"] - changed),
        tally["failed"],
        sum(len(keys) for owner, keys in ledger.in_flight().items() if is_alive(ledger.file.parent, owner)),
        ended=bool(ended),
        assembled=len(intact) == len(ledger.volumes()),
    )


def failures(records: Path, folder: Path) -> Iterator[Failure]:
    """Every failed input of every part."""
    for file in sorted(records.glob(LEDGERS)):
        with Ledger(file, folder, reading=True) as ledger:
            yield from ledger.failures()


def parts_of(ledger: Path) -> int:
    """How many parts the run of a ledger has, by the file's name."""
    return int(ledger.stem.rpartition("-of-")[2]) if "-of-" in ledger.stem else 1
