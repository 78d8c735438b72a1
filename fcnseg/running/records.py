"""The records of a run: where they lie and what they are called."""

from __future__ import annotations

from pathlib import Path

from fcnseg.io.names import RECORDS
from fcnseg.io.parts import Part
from fcnseg.io.suffixes import HDF5, has_suffix

ASSEMBLING = "assembling"
"""The lock of the one process that writes the HDF5 files."""

PLAN = "plan"
"""The folder among the records that only runs in shards have."""

LEDGERS = "ledger*.sqlite"
"""The ledgers of a run: `ledger.sqlite`, or one for each part."""


def is_hdf5(path: str | Path | None) -> bool:
    """Tell whether an output is one HDF5 file instead of a folder."""
    return path is not None and has_suffix(path, HDF5)


def hidden_folder(file: Path) -> Path:
    """Return the folder beside an HDF5 output for its staged images and the records."""
    return file.parent / f".{file.name}{RECORDS}"


def staging_folder(file: Path, kind: str) -> Path:
    """Return the folder for single images that an HDF5 file of this kind ("labels", "probabilities") is made of."""
    return hidden_folder(file) / kind


def record_folders(out: Path) -> tuple[Path, Path]:
    """Return the folder that recorded paths of outputs are relative to, and that of the records."""
    if is_hdf5(out):
        return hidden_folder(out), hidden_folder(out)
    return out, out / RECORDS


def ledger_file(records: Path, part: Part) -> Path:
    """Return the ledger of one part."""
    return records / f"ledger{part.name}.sqlite"


def record_file(records: Path, part: Part) -> Path:
    """Return the settings and results of one part."""
    return records / f"run{part.name}.json"


def parts_of(ledger: Path) -> int:
    """Return the number of parts of a run, by the name of one of its ledgers."""
    return int(ledger.stem.rpartition("-of-")[2]) if "-of-" in ledger.stem else 1
