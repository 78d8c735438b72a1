"""Status: the progress of the run of an output folder, part by part, from its ledgers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from fcnseg.errors import SourceError, require
from fcnseg.io.locks import is_held
from fcnseg.io.names import RECORDS
from fcnseg.io.urls import is_url, refuse_lost_slash
from fcnseg.running.claims import living_claimants
from fcnseg.running.intact import are_intact, intact_staging_folders, recorded_volumes
from fcnseg.running.ledger import SqliteLedger
from fcnseg.running.part_status import PartStatus, RunStatus
from fcnseg.running.records import ASSEMBLING, LEDGERS, PLAN, parts_of, record_folders
from fcnseg.types import Failure, Ledger


def read_status(out: str | Path, storage_options: Mapping[str, str] | None = None) -> RunStatus:
    """Return the status of the run that had `out` as its output. Raises SourceError if there is none."""
    if is_url(out) or (Path(out) / RECORDS / PLAN).is_dir():
        from fcnseg.running.sharded.status import sharded_status  # obstore and pyarrow, which need not be installed

        require("obstore", "pyarrow")
        return sharded_status(out, storage_options)
    folder = Path(out)
    return RunStatus(status(folder), left_out(folder), partial(failures, folder), resize_short=resize_short(folder))


def status(out: Path) -> list[PartStatus]:
    """Return the status of every part of the run that had `out` as its output.

    Outputs are looked at: one that was removed or changed counts as missing. Raises SourceError if there is no run.
    """
    folder, records = record_folders(out)
    files = sorted(records.glob(LEDGERS))
    if not files:
        refuse_lost_slash(out)
        raise SourceError(f"no run of fcnseg has written to {out}; name the folder or file given as --out")
    count = parts_of(files[0])
    parts: dict[int, PartStatus] = {}
    newest, listed = 0.0, [None] * count
    for file in files:
        with SqliteLedger(file, folder, reading=True) as ledger:
            index = int(file.stem.split("-")[1]) if count > 1 else 0
            parts[index] = replace(_part(ledger, index), at_work=_is_at_work(ledger, records, count))
            if (at := ledger.fact("listed_at") or 0.0) > newest:
                newest, listed = at, ledger.fact("listed")
    return [
        replace(parts.get(index) or PartStatus(index, None, started=False), inputs=listed[index])
        for index in range(count)
    ]


def left_out(out: Path) -> dict[str, int]:
    """Return the number of files of the source that are no images by suffix, as the newest listing found them."""
    folder, records = record_folders(out)
    newest, files = 0.0, dict[str, int]()
    for file in sorted(records.glob(LEDGERS)):
        with SqliteLedger(file, folder, reading=True) as ledger:
            if (at := ledger.fact("listed_at") or 0.0) > newest:
                newest, files = at, ledger.fact("left_out") or {}
    return files


def resize_short(out: Path) -> int | None:
    """Return the short side, px, that images are resized to for the network; None if they are not."""
    folder, records = record_folders(out)
    for file in records.glob(LEDGERS):
        with SqliteLedger(file, folder, reading=True) as ledger:
            if settings := ledger.fact("settings"):
                short_px: int | None = settings.get("resize-short")
                return short_px
    return None


def _is_at_work(ledger: Ledger, records: Path, parts: int) -> bool:
    """Tell whether a process works on this part: one that runs the only part may have nothing claimed just now."""
    if any(ledger.is_alive(claimant) for claimant in ledger.in_flight()):
        return True
    return parts == 1 and (bool(living_claimants(records)) or is_held(records / ASSEMBLING))


def _part(ledger: Ledger, index: int) -> PartStatus:
    counts, ended = ledger.counts(), ledger.fact("ended")
    intact = intact_staging_folders(ledger)
    changed = sum(not are_intact(ledger.folder, outputs, intact) for outputs in ledger.outputs())
    tally = ended or {state: counts.get(state, 0) for state in ("done", "failed")}
    return PartStatus(
        index,
        None,
        max(0, tally["done"] - changed),
        tally["failed"],
        sum(len(keys) for claimant, keys in ledger.in_flight().items() if ledger.is_alive(claimant)),
        ended=bool(ended),
        assembled=len(intact) == len(recorded_volumes(ledger)),
    )


def failures(out: Path) -> Iterator[Failure]:
    """Yield every failed input of every part."""
    folder, records = record_folders(out)
    for file in sorted(records.glob(LEDGERS)):
        with SqliteLedger(file, folder, reading=True) as ledger:
            yield from ledger.failures()
