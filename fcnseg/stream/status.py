"""How far the run of an output folder is, part by part, from its ledgers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fcnseg.errors import SourceError
from fcnseg.stream.ledger import Ledger
from fcnseg.stream.owners import is_alive
from fcnseg.types import Failure

LEDGERS = "ledger*.sqlite"
"""The ledgers of a run among its records: `ledger.sqlite`, or one for each part."""


@dataclass(frozen=True)
class PartStatus:
    """One part: its inputs (None: not known, for none has started), and how many of them are done, failed, or being
    done by a living process."""

    index: int
    inputs: int | None
    done: int = 0
    failed: int = 0
    running: int = 0
    started: bool = True

    @property
    def missing(self) -> int:
        """Inputs that have not ended and that nobody is at."""
        return max(0, (self.inputs or 0) - self.done - self.failed - self.running)

    @property
    def whole(self) -> bool:
        """Whether every input is done."""
        return self.started and self.inputs is not None and self.done == self.inputs


def status(records: Path, folder: Path) -> list[PartStatus]:
    """Every part of the run whose records lie there. `folder`: what outputs' paths count from.

    Outputs are looked at: one that was removed or changed counts as missing. Raises SourceError if there is no run.
    """
    files = sorted(records.glob(LEDGERS))
    if not files:
        raise SourceError(f"no run of fcnseg has written to {folder}; name the folder or file given as --out")
    count = parts_of(files[0])
    listed: list[int] | None = None
    found: dict[int, PartStatus] = {}
    for file in files:
        with Ledger(file, folder) as ledger:
            listed = ledger.fact("listed") or listed
            index = int(file.stem.split("-")[1]) if count > 1 else 0
            found[index] = _part(ledger, index, listed)
    return [
        found.get(index) or PartStatus(index, listed[index] if listed else None, started=False)
        for index in range(count)
    ]


def _part(ledger: Ledger, index: int, listed: list[int] | None) -> PartStatus:
    counts = ledger.counts()
    intact = ledger.intact_volumes()
    changed = sum(not ledger.is_whole(outputs, intact) for outputs in ledger.outputs())
    running = sum(len(keys) for owner, keys in ledger.in_flight().items() if is_alive(ledger.file.parent, owner))
    return PartStatus(
        index,
        listed[index] if listed else None,
        counts.get("done", 0) - changed,
        counts.get("failed", 0),
        running,
    )


def failures(records: Path, folder: Path) -> Iterator[Failure]:
    """Every failed input of every part."""
    for file in sorted(records.glob(LEDGERS)):
        with Ledger(file, folder) as ledger:
            yield from ledger.failures()


def parts_of(ledger: Path) -> int:
    """How many parts the run of a ledger has, by the file's name."""
    return int(ledger.stem.rpartition("-of-")[2]) if "-of-" in ledger.stem else 1
