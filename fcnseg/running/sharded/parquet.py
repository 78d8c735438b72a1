"""Tables of a sharded run as Parquet in memory, compressed by Zstandard."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fcnseg.errors import SourceError

LEVEL = 6
"""Zstandard's level: higher ones took longer and saved nothing on tables of names and checksums."""


def encoded(schema: pa.Schema, columns: Mapping[str, Any], metadata: Mapping[str, Any], rows_a_group: int) -> bytes:
    """Return a Parquet file of these columns; the values of `metadata` are kept as JSON."""
    table = pa.table({name: pa.array(columns[name], schema.field(name).type) for name in schema.names}, schema=schema)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink, schema, compression="zstd", compression_level=LEVEL, write_statistics=False, store_schema=False
    ) as writer:
        writer.write_table(table, row_group_size=rows_a_group)
        writer.add_key_value_metadata({name: json.dumps(value) for name, value in metadata.items()})
    return bytes(sink.getvalue())


class ParquetBytes:
    """A Parquet file in memory. `name` is for messages; raises SourceError for what is none."""

    def __init__(self, content: bytes, name: str) -> None:
        self.name = name
        try:
            self._file = pq.ParquetFile(pa.BufferReader(content))
        except pa.ArrowException as error:
            raise self._damaged(error) from error

    @property
    def metadata(self) -> dict[str, Any]:
        """The values that were stored with the table."""
        kept = self._file.metadata.metadata or {}
        return {name.decode(): json.loads(value) for name, value in kept.items()}

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(self._file.metadata.num_rows)

    def columns(self, group: int | None = None, names: Sequence[str] | None = None) -> dict[str, list[Any]]:
        """Return columns of one group of rows, or of all."""
        try:
            table = self._file.read(names) if group is None else self._file.read_row_group(group, names)
        except pa.ArrowException as error:
            raise self._damaged(error) from error
        return {name: table.column(name).to_pylist() for name in table.column_names}

    def _damaged(self, error: Exception) -> SourceError:
        said = " ".join(str(error).split())
        return SourceError(f"{self.name} is damaged: {said}; start over with --overwrite")
