"""Recorded outputs: their paths, and whether the files are still as they were written.

The outputs of many inputs may lie in one HDF5 file. Each was first staged as a file of its own, and its row keeps the
path of that file; the ledger's fact `volumes` says which HDF5 file a staging folder went into, and `contents` what that
file holds.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from fcnseg.io.atomic import checksum
from fcnseg.types import Ledger, Output, OutputName, RecordedOutput, Sink


def relative_path(folder: str, location: str) -> str:
    """Return the path of an output as rows hold it: relative to the ledger's folder."""
    prefix = folder + os.sep
    return location[len(prefix) :] if location.startswith(prefix) else os.path.relpath(location, folder)


def absolute_path(folder: str, path: str) -> str:
    """Return where a recorded path leads. It was found from names alone, so a folder that is a link does not count."""
    joined = f"{folder}{os.sep}{path}"
    return os.path.normpath(joined) if path.startswith(os.pardir) else joined


def recorded_names(folder: str, sinks: Iterable[Sink]) -> tuple[OutputName, ...]:
    """Return the names of the outputs of every image, relative to the ledger's folder."""
    names = []
    for sink in sinks:
        root = "" if sink.storage.root == folder else relative_path(folder, sink.storage.root) + os.sep
        root = "" if root == os.curdir + os.sep else root
        names += [OutputName(root + name.prefix, name.suffix) for name in sink.names]
    return tuple(names)


def recorded(folder: str, output: Output) -> RecordedOutput:
    """Return the record of a file that was just written."""
    return RecordedOutput(
        relative_path(folder, output.location), output.size, output.checksum, _changed_ns(output.location)
    )


def _changed_ns(path: str) -> int:
    """Return when a file last changed; 0 if it is gone already, so that it will be made again."""
    try:
        return os.stat(path).st_ctime_ns  # noqa: PTH116 - for every output: a Path costs more
    except OSError:
        return 0


def is_intact(folder: str, output: RecordedOutput) -> bool:
    """Tell whether a file is still the one that was written. Its bytes are read only if something touched it."""
    path = absolute_path(folder, output.path)
    try:
        status = os.stat(path)  # noqa: PTH116 - for every input of a resumed run: a Path costs more
        return status.st_size == output.size and (
            status.st_ctime_ns == output.changed_ns or checksum(Path(path)) == output.checksum
        )
    except OSError:
        return False


def is_there(folder: str, output: RecordedOutput) -> bool:
    """Tell whether there is a file of an output's name and size."""
    try:
        return os.stat(absolute_path(folder, output.path)).st_size == output.size  # noqa: PTH116 - for every output
    except OSError:
        return False


def are_intact(folder: str, outputs: Iterable[RecordedOutput], intact_staging: tuple[str, ...]) -> bool:
    """Tell whether all outputs of an input are as they were written, by themselves or in an intact HDF5 file."""
    return all(output.path.startswith(intact_staging) or is_intact(folder, output) for output in outputs)


# ---------------------------------------------------------------------- HDF5 files that hold the outputs of many inputs


def expect_volumes(ledger: Ledger, files: Mapping[Path, Path]) -> None:
    """Record which HDF5 files, by their staging folders, a new run is to write."""
    known = ledger.fact("volumes") or {}
    expected = {
        relative_path(ledger.folder, str(staging)): [relative_path(ledger.folder, str(file)), -1, "", 0]
        for staging, file in files.items()
    }
    ledger.note(volumes={**expected, **known})


def announce_volume(ledger: Ledger, staging: Path, file: Output) -> None:
    """Record an HDF5 file that is written and about to get its name, which may be before or after a power cut."""
    name, path = relative_path(ledger.folder, str(staging)), relative_path(ledger.folder, file.location)
    announced = {**(ledger.fact("announced") or {}), name: [path, file.size, file.checksum, 0]}
    ledger.note(announced=announced)


def note_volume(ledger: Ledger, staging: Path, file: Output, content: str) -> None:
    """Record that what was staged in a folder is in an HDF5 file now; `content` tells what that is."""
    name = relative_path(ledger.folder, str(staging))
    ledger.note(
        volumes={**(ledger.fact("volumes") or {}), name: [*recorded(ledger.folder, file)]},
        contents={**(ledger.fact("contents") or {}), name: content},
    )


def recorded_volumes(ledger: Ledger) -> dict[str, RecordedOutput]:
    """Return the HDF5 files that a run is to write, by their staging folders: as noted, or as announced if they are."""
    noted = {staging: RecordedOutput(*value) for staging, value in (ledger.fact("volumes") or {}).items()}
    for staging, value in (ledger.fact("announced") or {}).items():
        announced, before = RecordedOutput(*value), noted.get(staging)
        if before is None or (not is_intact(ledger.folder, before) and is_intact(ledger.folder, announced)):
            noted[staging] = announced
    return noted


def intact_staging_folders(ledger: Ledger) -> tuple[str, ...]:
    """Return the staging folders (with a slash behind) whose HDF5 files are still as they were written."""
    volumes = recorded_volumes(ledger)
    return tuple(staging + os.sep for staging, file in volumes.items() if is_intact(ledger.folder, file))


# ---------------------------------------------------------------------- tables, which are made of entries in the ledger


def expect_tables(ledger: Ledger, files: Mapping[str, str]) -> None:
    """Record which tables, by their names, a new run is to write."""
    known = ledger.fact("tables") or {}
    expected = {name: [relative_path(ledger.folder, file), -1, "", 0] for name, file in files.items()}
    ledger.note(tables={**expected, **known})


def note_table(ledger: Ledger, name: str, file: RecordedOutput) -> None:
    """Record a table that is written, and about to get its name."""
    ledger.note(tables={**(ledger.fact("tables") or {}), name: [*file]})


def recorded_tables(ledger: Ledger) -> dict[str, RecordedOutput]:
    """Return the tables that a run has written, or is to write, by name."""
    return {name: RecordedOutput(*value) for name, value in (ledger.fact("tables") or {}).items()}
