"""Files that hold something of every image of a run: `--stats FILE.csv`, `--polygons FILE.json`.

What an image adds to them, its entries, is recorded in the ledger with its end, in one transaction. From there the
files are written whole, in the order of the inputs, when a run ends or is interrupted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from fcnseg.errors import SettingsError, require
from fcnseg.io.parts import Part
from fcnseg.io.urls import is_url
from fcnseg.running.class_choice import Heads, annotated_labels
from fcnseg.running.coco_table import CocoTable, refuse_several_heads
from fcnseg.running.options import RunOptions
from fcnseg.running.stats_table import StatsTable, stats_bytes
from fcnseg.running.worklist import LOOKED_UP_AT_ONCE, chunks
from fcnseg.types import EngineInfo, Frame, Ledger, Prediction, Reference, Source


class Table(Protocol):
    """The content of one such file. Entries are made by several threads."""

    def entry(self, frame: Frame, prediction: Prediction) -> bytes:
        """Return what an image adds. Raises ImageError if nothing can be said of it."""

    def write(self, file: BinaryIO, entries: Iterable[tuple[str, bytes]]) -> None:
        """Write the file from the keys and entries of images, which stream."""


@dataclass(frozen=True)
class TableKind:
    """A kind of table: its option, and the suffixes that files of it may have.

    `make` returns the table of a file of that name, `least_bytes` the fewest bytes of an image in it; `check` raises
    SettingsError for models and options that it is not for. `packages`: the optional modules that it needs.
    """

    option: str
    suffixes: tuple[str, ...]
    make: Callable[[str, EngineInfo, RunOptions], Table]
    least_bytes: Callable[[Heads], int]
    check: Callable[[str, Heads, RunOptions], None] = lambda model, heads, options: None
    packages: tuple[str, ...] = ()


TABLES: dict[str, TableKind] = {
    "stats": TableKind(
        "--stats",
        (".csv", ".parquet"),
        lambda name, info, options: StatsTable(name, info.heads, options.probabilities is not None),
        stats_bytes,
    ),
    "polygons": TableKind(
        "--polygons",
        (".json",),
        lambda name, info, options: CocoTable(
            info, next(iter(annotated_labels(options.classes, info.heads).values())), options.polygon_tolerance
        ),
        lambda heads: 64,
        lambda model, heads, options: refuse_several_heads(model, heads),
        ("pycocotools", "cv2"),
    ),
}
"""The kinds of table by the names that records and dry runs have for them, which are those of their options, too."""


@dataclass(frozen=True)
class TablePlace:
    """One table and the file that it is written to: a path, or the URL of an object."""

    name: str
    target: str | Path

    @property
    def kind(self) -> TableKind:
        """The row of the table of kinds."""
        return TABLES[self.name]

    @property
    def folder(self) -> Path:
        """The folder of a file on this machine."""
        return Path(self.target).parent

    def least_bytes(self, heads: Heads, pixels: int) -> int:  # noqa: ARG002
        """Return the fewest bytes that an image takes in it."""
        return self.kind.least_bytes(heads)


def table_places(options: RunOptions, part: Part) -> list[TablePlace]:
    """Return the tables that options ask for; the files of a part have its numbers in their names."""
    return [
        TablePlace(name, place if is_url(place) else _of_part(Path(place), part))
        for name, place in options.tables.items()
    ]


def _of_part(file: Path, part: Part) -> Path:
    return file.with_name(f"{file.stem}{part.name}{file.suffix}")


def check_tables(options: RunOptions, model: str, heads: Heads) -> None:
    """Raise SettingsError for forms of files that there are not, tables that a model cannot have, missing packages."""
    files: dict[str, str] = {}
    for name, place in options.tables.items():
        kind = TABLES[name]
        if not os.fspath(place).lower().endswith(kind.suffixes):
            known = " or ".join(kind.suffixes)
            raise SettingsError(f"{kind.option} {place} is of no known form; give a name that ends with {known}")
        require(*kind.packages, *(["pyarrow"] if os.fspath(place).lower().endswith(".parquet") else []))
        kind.check(model, heads, options)
        file = os.fspath(place) if is_url(place) else os.path.realpath(place)
        if (other := files.setdefault(file, kind.option)) != kind.option:
            raise SettingsError(f"{other} and {kind.option} would both write {place}; give two files")


def done_entries(source: Source, part: Part, ledger: Ledger, kind: str) -> Iterator[tuple[str, bytes]]:
    """Yield the keys and entries of the inputs of a part that are done, in the source's order."""
    listed = (one for one in source if isinstance(one, Reference) and part.has(one.key))
    for references in chunks(listed, LOOKED_UP_AT_ONCE):
        keys = [reference.key for reference in references]
        rows, entries = ledger.rows(keys), ledger.entries(kind, keys)
        for key in keys:
            if key in entries and key in rows and rows[key].state == "done":
                yield key, entries[key]
