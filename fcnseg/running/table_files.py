"""Writing the tables of a run on this machine, from the entries in its ledger."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fcnseg.errors import OutputError
from fcnseg.io.atomic import checksum, flush_folder, make_durable_folder, whole_path
from fcnseg.io.locks import held
from fcnseg.running.intact import is_intact, note_table, recorded_tables, relative_path
from fcnseg.running.outputs import Outputs
from fcnseg.running.records import ASSEMBLING
from fcnseg.running.tables import TablePlace, done_entries
from fcnseg.types import EngineInfo, Ledger, RecordedOutput, Source


def write_tables(
    info: EngineInfo, source: Source, outputs: Outputs, ledger: Ledger, on_wait: Callable[[str], None]
) -> None:
    """Write the tables of this part of a run, each whole, replacing those of earlier runs.

    One process at a time does; `on_wait` is told of a wait for another. Raises OutputError if one cannot be written.
    """
    if not outputs.tables:
        return
    with held(outputs.records / ASSEMBLING, "it writes the files of all images", on_wait):
        for place in outputs.tables:
            try:
                _write(place, info, source, outputs, ledger)
            except OSError as error:
                raise OutputError(
                    f"{place.target} cannot be written: {error.strerror or error}; what it is made of is kept, mend "
                    "this and run the same command again"
                ) from error


def _write(place: TablePlace, info: EngineInfo, source: Source, outputs: Outputs, ledger: Ledger) -> None:
    """Write one table; a file that holds just the same is left as it is."""
    target, before = Path(place.target), recorded_tables(ledger).get(place.name)
    make_durable_folder(place.folder)
    with suppress(_UnchangedError), whole_path(target) as partial:
        with partial.open("wb") as file:
            table = place.kind.make(target.name, info, outputs.options)
            table.write(file, done_entries(source, outputs.part, ledger, place.name))
            file.flush()
            os.fsync(file.fileno())
        size, digest = partial.stat().st_size, checksum(partial)
        if before and before.checksum == digest and is_intact(ledger.folder, before):
            raise _UnchangedError
        path = relative_path(ledger.folder, str(target))
        note_table(ledger, place.name, RecordedOutput(path, size, digest, 0))
    flush_folder(place.folder)


class _UnchangedError(Exception):
    """The file holds just what was to be written."""
