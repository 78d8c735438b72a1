"""Where a run writes: sinks, HDF5 files, folders, records."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from fcnseg.errors import OutputError, SettingsError
from fcnseg.io.parts import Part
from fcnseg.recipes import Recipe
from fcnseg.running.options import RunOptions, is_hdf5
from fcnseg.types import EngineInfo

if TYPE_CHECKING:
    from fcnseg.running.sinks import FileSink
    from fcnseg.running.volumes import Volume

RECORDS = ".fcnseg"
"""The folder for records inside an output folder."""


def places(out: Path) -> tuple[Path, Path]:
    """Of what was given as the output: the folder that outputs' recorded paths count from, and that of the records."""
    if is_hdf5(out):
        hidden = out.parent / f".{out.name}{RECORDS}"
        return hidden, hidden
    return out, out / RECORDS


class Outputs:
    """Where a run writes an engine's predictions: its sinks, HDF5 files, folders and records."""

    def __init__(self, options: RunOptions, info: EngineInfo) -> None:
        from fcnseg.running.sinks import LabelPngSink, NpyProbabilitySink, OverlaySink
        from fcnseg.running.volumes import LabelVolume, ProbabilityVolume

        self.options = options
        self.folder, self.records = places(options.out)
        self.volumes: list[Volume] = []
        found: list[FileSink] = []
        if options.overlay:  # first: it refuses images that are too large for it before anything is written of them
            found.append(OverlaySink(options.overlay, info, options.opacity))
        if is_hdf5(options.out):
            self.volumes.append(LabelVolume(options.out, info))
        else:
            found.append(LabelPngSink(options.out, info))
        if options.probabilities and is_hdf5(options.probabilities):
            self.volumes.append(
                ProbabilityVolume(options.probabilities, info, options.probabilities_dtype, options.top_k)
            )
        elif options.probabilities:
            found.append(NpyProbabilitySink(options.probabilities, info, options.probabilities_dtype, options.top_k))
        self.sinks: list[FileSink] = [*found, *(volume.sink for volume in self.volumes)]

    @property
    def part(self) -> Part:
        """The inputs that this run is about."""
        return Part(self.options.part_id, self.options.num_parts)

    @property
    def ledger_file(self) -> Path:
        """The ledger of this part."""
        return self.records / f"ledger{self.part.name}.sqlite"

    def ended(self) -> int:
        """How many inputs of this part are done or failed by its ledger."""
        from fcnseg.running.ledger import Ledger

        if not self.ledger_file.exists():
            return 0
        with Ledger(self.ledger_file, self.folder, reading=True) as ledger:
            counts = ledger.counts()
        return counts.get("done", 0) + counts.get("failed", 0)

    def make(self) -> None:
        """Make the folders. Raises OutputError if they cannot be written to."""
        options = self.options
        folders = [p for p in (options.probabilities, options.overlay) if p is not None and not is_hdf5(p)]
        for folder in (self.records, *folders):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                probe = folder / f".fcnseg-probe-{os.getpid()}"
                probe.touch()
                probe.unlink()
            except OSError as error:
                raise _unwritable(folder, error.errno or errno.EIO) from error

    def check(self) -> None:
        """Refuse a file where a folder should be, and the reverse; outputs in the place of inputs; HDF5 files of
        someone else."""
        from fcnseg.io.names import split_hdf5_name

        options = self.options
        inputs = [options.source, *options.companions.values()]
        sources = {os.path.realpath(split_hdf5_name(os.fspath(place))[0]) for place in inputs}
        for path in (options.out, options.probabilities, options.overlay):
            if path is None:
                continue
            if os.path.realpath(path) in sources:
                raise SettingsError(
                    f"{path} is an input: outputs there would replace an input, or become one; give another --out"
                )
            if is_hdf5(path) and path.is_file() and options.resume != "overwrite" and not self._is_ours(path):
                raise SettingsError(f"{path} exists and no run of fcnseg made it; use --overwrite to replace it")
            if is_hdf5(path) and path.is_dir():
                raise OutputError(f"{path} is a folder, but the output is an HDF5 file; give another name")
            absolute = path.absolute()
            folders = absolute.parents if is_hdf5(path) else (absolute, *absolute.parents)
            there = next(folder for folder in folders if os.path.lexists(folder))
            if not there.is_dir():
                what = "a file" if there.exists() else "a link to nowhere"
                raise OutputError(f"{there} is {what}, but the output goes to a folder; give another path")
            if not os.access(there, os.W_OK | os.X_OK):
                raise _unwritable(there, errno.EROFS if os.statvfs(there).f_flag & os.ST_RDONLY else errno.EACCES)

    def _is_ours(self, file: Path) -> bool:
        """Whether an earlier run was to write that HDF5 file."""
        from fcnseg.running.ledger import Ledger
        from fcnseg.running.status import LEDGERS

        for found in self.records.glob(LEDGERS):
            with Ledger(found, self.folder, reading=True) as ledger:
                if ledger.relative(file) in (kept.path for kept in ledger.volumes().values()):
                    return True
        return False


def _unwritable(folder: Path, number: int) -> OutputError:
    return OutputError(f"cannot write to {folder}: {os.strerror(number)}; check its permissions and space")


def blank_info(recipe: Recipe) -> EngineInfo:
    """What is known of an engine before it is there: enough for the names of outputs."""
    heads = {head.name: head.labels for head in recipe.heads}
    return EngineInfo("", "", "", recipe.name, "", heads, recipe.modalities, {})
