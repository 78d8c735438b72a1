"""Outputs of a run: the folders, HDF5 files and records that the options name, and the sinks that write there.

The places and the files' names follow from the options and the recipe; sinks also need to know the engine, which their
files name.
"""

from __future__ import annotations

import errno
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fcnseg.errors import OutputError
from fcnseg.io.atomic import make_durable_folder
from fcnseg.io.names import RECORDS
from fcnseg.io.parts import Part
from fcnseg.io.storage import LocalFolder
from fcnseg.recipes import Recipe
from fcnseg.running.class_choice import Heads
from fcnseg.running.intact import recorded_tables, recorded_volumes, relative_path
from fcnseg.running.ledger import SqliteLedger
from fcnseg.running.options import RunOptions
from fcnseg.running.output_kinds import OutputKind, check_kinds, kind_of, places_by_kind
from fcnseg.running.records import LEDGERS, is_hdf5, ledger_file, record_folders, staging_folder
from fcnseg.running.tables import Table, table_places
from fcnseg.types import EngineInfo, OutputName, Sink

MARK = "records.txt"
"""The file that names the folder of a run's records, in outputs that lie elsewhere."""


@dataclass(frozen=True)
class OutputPlace:
    """One kind of output, KINDS has them and plug-ins, and the folder or HDF5 file it goes to."""

    name: str
    target: Path
    options: RunOptions

    @property
    def kind(self) -> OutputKind:
        """The row of the table of kinds."""
        return kind_of(self.name)

    def least_bytes(self, heads: Heads, pixels: int) -> int:
        """Return the fewest bytes that the files of an image of so many pixels can have."""
        return self.kind.least_bytes(heads, self.options, pixels)

    @property
    def is_hdf5(self) -> bool:
        """Tell whether all images go into one file."""
        return is_hdf5(self.target)

    @property
    def folder(self) -> Path:
        """The folder of the files of single images; those of an HDF5 file are staged beside it."""
        return staging_folder(self.target, self.name) if self.is_hdf5 else self.target


class Outputs:
    """The places that a run writes to. Raises SettingsError for outputs that the model cannot have."""

    def __init__(self, options: RunOptions, recipe: Recipe) -> None:
        self.options = options
        self.heads = {head.name: head.labels for head in recipe.heads}
        self.folder, self.records = record_folders(Path(options.out))
        self.part = Part(options.part_id, options.num_parts)
        self.ledger_file = ledger_file(self.records, self.part)
        check_kinds(options, recipe)
        places = [OutputPlace(name, Path(place), options) for name, place in places_by_kind(options).items()]
        self.places = sorted(places, key=lambda place: place.is_hdf5)  # HDF5 files last
        self.tables = table_places(options, self.part)

    @property
    def hdf5_files(self) -> dict[Path, Path]:
        """The HDF5 files, by the folders where their images are staged."""
        return {place.folder: place.target for place in self.places if place.is_hdf5}

    @property
    def names(self) -> tuple[OutputName, ...]:
        """The paths of the files of every image."""
        return tuple(
            OutputName(f"{place.folder}{os.sep}{name.prefix}", name.suffix)
            for place in self.places
            for name in place.kind.names(self.heads, self.options)
        )

    def holds(self, path: str) -> bool:
        """Tell whether a path leads into one of the places, links of folders followed."""
        folder, name = os.path.split(path)
        real = Path(folder).resolve() / name
        folders = {place.folder.resolve() for place in self.places}
        targets = [*(place.target for place in self.places), *(Path(table.target) for table in self.tables)]
        files = {target.resolve() for target in targets}
        return not folders.isdisjoint(real.parents) or real in files

    def sinks(self, info: EngineInfo) -> list[Sink]:
        """Return a sink for each place, for the predictions of an engine."""
        return [place.kind.sink(LocalFolder(place.folder), info, self.options) for place in self.places]

    def table_makers(self, info: EngineInfo) -> dict[str, Table]:
        """Return what the images of a run add to its tables."""
        return {place.name: place.kind.make(str(place.target), info, self.options) for place in self.tables}

    def ended(self) -> int:
        """Return the number of inputs of this part that are done or failed by its ledger."""
        if not self.ledger_file.exists():
            return 0
        with SqliteLedger(self.ledger_file, self.folder, reading=True) as ledger:
            counts = ledger.counts()
        return counts.get("done", 0) + counts.get("failed", 0)

    def refuse_links(self) -> None:
        """Raise OutputError if the folder of records, or anything in it, is a link, which writing would follow."""
        folders = (self.records, *self._marked_folders())
        links = [path for folder in folders for path in (folder, *folder.glob("*")) if path.is_symlink()]
        if links:
            raise OutputError(f"{links[0]} is a symbolic link, and records are not written to other places; remove it")

    def make(self) -> None:
        """Make the folders. Raises OutputError if they cannot be written to."""
        self.refuse_links()
        for folder in (self.records, *self._marked_folders()):
            try:
                make_durable_folder(folder)
                with tempfile.TemporaryFile(dir=folder):  # has no name that a power cut could leave
                    pass
                if folder != self.records:  # not written aside, which a power cut would leave
                    (folder / MARK).write_text(f"{os.fspath(self.records.absolute())}\n", "utf-8", "surrogateescape")
            except OSError as error:
                raise unwritable(folder, error.errno or errno.EIO) from error

    def _marked_folders(self) -> list[Path]:
        """Return the folders of records in other outputs than the label maps: each says where these records are."""
        folders = [place.target / RECORDS for place in self.places if place.name != "labels" and not place.is_hdf5]
        return [folder for folder in folders if folder != self.records]

    def has_recorded(self, file: Path) -> bool:
        """Tell whether an earlier run was to write that file of all images."""
        for path in self.records.glob(LEDGERS):
            with SqliteLedger(path, self.folder, reading=True) as ledger:
                files = (*recorded_volumes(ledger).values(), *recorded_tables(ledger).values())
                if relative_path(ledger.folder, str(file)) in {recorded.path for recorded in files}:
                    return True
        return False


def unwritable(folder: Path, number: int) -> OutputError:
    """Return the error for a folder that cannot be written to, by the number of the system's error."""
    return OutputError(f"cannot write to {folder}: {os.strerror(number)}; check its permissions and space")
