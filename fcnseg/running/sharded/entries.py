"""Tables of runs in shards: entries are put with each shard, before its manifest, and gathered when the run ends.

A shard's entries are an object of their own, for manifests are read often and tables once.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from fcnseg.errors import NoObjectError, OutputError
from fcnseg.io.atomic import flush_folder, make_durable_folder, whole_file
from fcnseg.io.buckets import Bucket, open_store
from fcnseg.io.parts import Part
from fcnseg.io.urls import is_url
from fcnseg.running.ledger import SqliteLedger
from fcnseg.running.sharded.manifest import Manifest, ShardLedger, finished
from fcnseg.running.sharded.outputs import ShardedOutputs
from fcnseg.running.sharded.parquet import ParquetBytes, encoded
from fcnseg.running.sharded.places import Shard, entries_key
from fcnseg.running.tables import TablePlace, done_entries
from fcnseg.types import EngineInfo, Failure, Settled, Source

SCHEMA = pa.schema([("kind", pa.string()), ("key", pa.binary()), ("content", pa.large_binary())])

PIECE_BYTES = 8 << 20
"""How much of a table is read and sent at once."""


def put_entries(bucket: Bucket, ledger: ShardLedger, outputs: ShardedOutputs) -> None:
    """Put the entries of a shard, replacing those of another worker that did the same work. Raises StorageError."""
    if not outputs.tables:
        return
    keys = [key for key, row in ledger.settled() if row.state == "done"]
    rows = [
        (table.name, os.fsencode(key), content)
        for table in outputs.tables
        for key, content in ledger.entries(table.name, keys).items()
    ]
    columns = {name: [row[column] for row in rows] for column, name in enumerate(SCHEMA.names)}
    bucket.put(entries_key(ledger.shard), encoded(SCHEMA, columns, {}, max(1, len(rows))))


def write_tables_of_shards(
    bucket: Bucket, generations: int, info: EngineInfo, source: Source, outputs: ShardedOutputs
) -> None:
    """Write the tables of a run from all shards that are done by now, in the order of the inputs.

    Shards that other processes finish meanwhile are in them, too. Raises OutputError, StorageError.
    """
    if not outputs.tables:
        return
    with tempfile.TemporaryDirectory(prefix="fcnseg-tables-") as name:
        folder = Path(name)
        with SqliteLedger(folder / "ledger.sqlite", folder) as ledger:
            taken: set[Shard] = set()
            while new := [shard for shard in _finished(bucket, generations) if shard not in taken]:
                for shard in new:
                    ledger.settle(_settled(bucket, shard))
                taken.update(new)
                for table in outputs.tables:
                    _write(table, info, source, outputs, ledger, folder)


def _finished(bucket: Bucket, generations: int) -> Iterator[Shard]:
    """Yield the shards that are done, those of later generations last: what became of an input there counts."""
    for generation in range(1, generations + 1):
        yield from (Shard(generation, number) for number in sorted(finished(bucket, generation)))


def _settled(bucket: Bucket, shard: Shard) -> Iterator[Settled]:
    """Yield the inputs of a shard with their entries."""
    entries: dict[bytes, dict[str, bytes]] = {}
    key = entries_key(shard)
    columns = ParquetBytes(bucket.get(key), bucket.url_of(key)).columns()
    for kind, image, content in zip(*(columns[name] for name in SCHEMA.names), strict=True):
        entries.setdefault(image, {})[kind] = content
    for image, row in Manifest(bucket, shard).rows():
        failure = Failure(image, row.stage or "", row.reason or "") if row.state == "failed" else None
        yield Settled(image, row.fingerprint or "", failure=failure, entries=entries.get(os.fsencode(image), {}))


def _write(
    place: TablePlace, info: EngineInfo, source: Source, outputs: ShardedOutputs, ledger: SqliteLedger, folder: Path
) -> None:
    """Write one table, whole or not at all: a URL's is written in a folder first."""
    target = folder / place.name if is_url(place.target) else Path(place.target)
    table = place.kind.make(os.fspath(place.target), info, outputs.options)
    try:
        with whole_file(target, make_durable_folder) as file:
            table.write(file, done_entries(source, Part(), ledger, place.name))
        flush_folder(target.parent)
    except OSError as error:
        raise OutputError(
            f"{target} cannot be written: {error.strerror or error}; what it is made of is kept, mend this and run the "
            "same command again"
        ) from error
    if is_url(place.target):
        parent, _, name = str(place.target).rpartition("/")
        with target.open("rb") as file:
            open_store(parent, outputs.options.storage_options).put(name, iter(lambda: file.read(PIECE_BYTES), b""))


def exists(place: TablePlace, outputs: ShardedOutputs) -> bool:
    """Tell whether there is a file, or an object, where a table is to be."""
    if not is_url(place.target):
        return os.path.lexists(place.target)
    parent, _, name = str(place.target).rpartition("/")
    try:
        open_store(parent, outputs.options.storage_options).head(name)
    except NoObjectError:
        return False
    return True
