"""Manifests: the rows of a finished shard, in an object that appears after all outputs of it, and never changes.

A shard is done if and only if its manifest exists. Whoever puts it first has done the shard; a second one of another
worker, which did the same work, is dropped.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import pyarrow as pa

from fcnseg.errors import ObjectExistsError
from fcnseg.io.buckets import Bucket
from fcnseg.io.waiting import map_ahead
from fcnseg.running.memory_ledger import MemoryLedger
from fcnseg.running.sharded.parquet import ParquetBytes, encoded
from fcnseg.running.sharded.places import Shard, manifest_key, manifests_prefix, number_of
from fcnseg.types import Failure, LedgerRow, RecordedOutput, Settled

READERS = 16
"""The manifests that are read at once: reading one is waiting for the storage."""

SCHEMA = pa.schema(
    [
        ("key", pa.binary()),
        ("state", pa.dictionary(pa.int8(), pa.string())),
        ("stage", pa.dictionary(pa.int8(), pa.string())),
        ("reason", pa.string()),
        ("fingerprint", pa.string()),
        ("paths", pa.list_(pa.binary())),
        ("sizes", pa.list_(pa.int64())),
        ("checksums", pa.list_(pa.binary(16))),
    ]
)


class ShardLedger(MemoryLedger):
    """The ledger of one shard, which one worker works on: in its memory until it is published as a manifest."""

    def __init__(self, folder: str, shard: Shard) -> None:
        super().__init__(folder)
        self.shard = shard

    def publish(self, bucket: Bucket, **metadata: Any) -> bool:
        """Put the manifest, after everything that its rows tell of; False if another worker's was there first.

        Raises StorageError.
        """
        content = encoded_rows(self.settled(), {"shard": list(self.shard), **self.counts(), **metadata})
        with suppress(ObjectExistsError):
            bucket.put(manifest_key(self.shard), content, create_only=True)
            return True
        return False

    @classmethod
    def read(cls, bucket: Bucket, shard: Shard) -> ShardLedger:
        """Return the ledger of a shard that was published. Raises NoObjectError if it was not."""
        ledger = cls(bucket.url, shard)
        manifest = Manifest(bucket, shard)
        ledger.note(**manifest.metadata)
        for key, row in manifest.rows():
            failure = Failure(key, row.stage or "", row.reason or "") if row.state == "failed" else None
            ledger.settle([Settled(key, row.fingerprint or "", tuple(row.outputs), failure)])
        return ledger


def encoded_rows(rows: list[tuple[str, LedgerRow]], metadata: Mapping[str, Any]) -> bytes:
    """Return rows as a Parquet file."""
    columns = {
        "key": [os.fsencode(key) for key, _ in rows],
        "state": [row.state for _, row in rows],
        "stage": [row.stage for _, row in rows],
        "reason": [row.reason for _, row in rows],
        "fingerprint": [row.fingerprint for _, row in rows],
        "paths": [[os.fsencode(output.path) for output in row.outputs] for _, row in rows],
        "sizes": [[output.size for output in row.outputs] for _, row in rows],
        "checksums": [[bytes.fromhex(output.checksum) for output in row.outputs] for _, row in rows],
    }
    return encoded(SCHEMA, columns, metadata, max(1, len(rows)))


class Manifest:
    """A manifest as it was published. Raises NoObjectError if there is none."""

    def __init__(self, bucket: Bucket, shard: Shard) -> None:
        key = manifest_key(shard)
        self._table = ParquetBytes(bucket.get(key), bucket.url_of(key))

    @property
    def metadata(self) -> dict[str, Any]:
        """The counts of each state, and whatever else was published with the rows."""
        return self._table.metadata

    @property
    def tally(self) -> tuple[int, int]:
        """The inputs that are done and those that failed."""
        known = self.metadata
        return known.get("done", 0), known.get("failed", 0)

    def rows(self) -> Iterator[tuple[str, LedgerRow]]:
        """Yield every input with its row, by key."""
        yield from rows_of(self._table)

    def failures(self) -> Iterator[Failure]:
        """Yield every failed input, by key."""
        if not self.tally[1]:
            return
        for key, row in self.rows():
            if row.state == "failed":
                yield Failure(key, row.stage or "", row.reason or "")


def rows_of(table: ParquetBytes) -> Iterator[tuple[str, LedgerRow]]:
    """Yield the rows of a table that `encoded_rows` made."""
    columns = table.columns()
    for key, state, stage, reason, fingerprint, paths, sizes, checksums in zip(
        *(columns[name] for name in SCHEMA.names), strict=True
    ):
        outputs = [
            RecordedOutput(os.fsdecode(path), size, checksum.hex(), 0)
            for path, size, checksum in zip(paths, sizes, checksums, strict=True)
        ]
        yield os.fsdecode(key), LedgerRow(state, None, 1, stage, reason, fingerprint, outputs)


def tallies(bucket: Bucket, generation: int, numbers: Iterable[int]) -> tuple[int, int]:
    """Return how many inputs of these shards are done, and how many failed."""
    read = list(map_ahead(lambda number: Manifest(bucket, Shard(generation, number)).tally, numbers, READERS))
    return sum(done for done, _ in read), sum(failed for _, failed in read)


def finished(bucket: Bucket, generation: int) -> set[int]:
    """Return the numbers of the shards of a generation that are done."""
    numbers = (number_of(found.key) for found in bucket.list(manifests_prefix(generation)))
    return {number for number in numbers if number is not None}
