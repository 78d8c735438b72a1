"""The plan of a sharded run: its inputs in shards, in generations.

A generation is the list of inputs that were new, changed, or not done yet when it was planned; only the newest has
shards to do. Its inputs lie in files of Parquet, put while the source is listed; they become the plan with the one
object that names them, put last and only if there is none of its number, so that of several planners one wins.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import pyarrow as pa

from fcnseg.errors import NoObjectError, ObjectExistsError, SourceError
from fcnseg.io.buckets import Bucket
from fcnseg.running.sharded.parquet import ParquetBytes, encoded
from fcnseg.running.sharded.places import PLAN, generation_key, number_of, plan_file_key
from fcnseg.types import Failure, Reference

SHARD_IMAGES = 1024
"""The most inputs of a shard, and the rows of a group in a file: every shard lies in one group."""

FILE_IMAGES = 8 * SHARD_IMAGES
"""The inputs of a file: a worker reads one, some 300 kB, for a shard."""

SHARD_SECONDS = 60.0
"""The time that a shard should take at most, as far as the time of one image is known."""

SHARDS_A_WORKER = 20
"""The shards that every worker should have at least: at the end, workers wait for the last shard."""

FEWEST_IMAGES = 16
"""The inputs that a shard has at least, unless they take too long: beginning one takes as long as a few images."""

SCHEMA = pa.schema(
    [
        ("key", pa.binary()),
        ("stem", pa.binary()),
        ("fingerprint", pa.string()),
        ("listed_fingerprint", pa.string()),  # null: the same
        ("location", pa.string()),
    ]
)


class Planned(NamedTuple):
    """A planned input, or the failure of listing it, and the fingerprint of the input with its companions."""

    listed: Reference | Failure
    fingerprint: str


@dataclass(frozen=True)
class Generation:
    """One generation of the plan.

    `inputs` are those of the source when it was planned, and `listing` is a digest of them and their fingerprints; of
    these `planned` are in its shards of `shard_images`, and `done` and `failed` had ended before. `places` are those of
    the inputs, `files` is the folder of its files. `left_out` counts the files of the source that are no images.
    """

    number: int
    inputs: int
    listing: str
    planned: int
    done: int
    failed: int
    shard_images: int
    files: str
    places: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def shards(self) -> int:
        """The number of shards."""
        return -(-self.planned // self.shard_images)

    def images_in(self, number: int) -> int:
        """Return the number of inputs in a shard."""
        return min(self.shard_images, self.planned - number * self.shard_images)

    def part(self, index: int, count: int) -> range:
        """Return the numbers of the shards of one of `count` parts."""
        return range(index, self.shards, count)


def shard_images(inputs: int, workers: int, seconds_an_image: float | None) -> int:
    """Return the number of inputs in a shard: a power of two, so that shards lie in groups of SHARD_IMAGES."""
    most = min(SHARD_IMAGES, max(FEWEST_IMAGES, inputs / (SHARDS_A_WORKER * max(1, workers))))
    if seconds_an_image:
        most = min(most, SHARD_SECONDS / seconds_an_image)
    return int(2 ** (max(1, int(most)).bit_length() - 1))


class PlanWriter:
    """Writes the files of a generation, whose number and shards need not be known yet."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket, self.folder = bucket, secrets.token_hex(8)
        self.count = 0
        self._rows: list[Planned] = []

    def add(self, planned: Planned) -> None:
        """Add an input."""
        self._rows.append(planned)
        if len(self._rows) == FILE_IMAGES:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            content = encoded(SCHEMA, _columns(self._rows), {}, SHARD_IMAGES)
            self.bucket.put(plan_file_key(self.folder, self.count // FILE_IMAGES), content)
            self.count += len(self._rows)
            self._rows = []

    def finish(self) -> int:
        """Put the last file; returns the number of inputs."""
        self._flush()
        return self.count

    def discard(self) -> None:
        """Delete the files, which no generation names."""
        for found in list(self.bucket.list(f"{PLAN}/{self.folder}")):
            self.bucket.delete(found.key)


def commit(bucket: Bucket, generation: Generation) -> bool:
    """Make a generation exist; False if there is one of its number already, and its files are superfluous."""
    content = json.dumps(asdict(generation), indent=1).encode()
    with suppress(ObjectExistsError):
        bucket.put(generation_key(generation.number), content, create_only=True)
        return True
    return False


def newest_generation(bucket: Bucket) -> Generation | None:
    """Return the newest generation; None if nothing was planned. Raises SourceError for one that cannot be read."""
    numbers = [number_of(found.key) for found in bucket.list(PLAN) if found.key.count("/") == PLAN.count("/") + 1]
    known = [number for number in numbers if number is not None]
    return read_generation(bucket, max(known)) if known else None


def read_generation(bucket: Bucket, number: int) -> Generation:
    """Return a generation. Raises SourceError if it cannot be read."""
    key = generation_key(number)
    try:
        return Generation(**json.loads(bucket.get(key)))
    except (ValueError, TypeError, NoObjectError) as error:
        raise SourceError(f"{bucket.url_of(key)} is no plan of this version; start over with --overwrite") from error


class PlanReader:
    """Reads the inputs of a generation. A file is kept until another one is asked for."""

    def __init__(self, bucket: Bucket, generation: Generation) -> None:
        self.bucket, self.generation = bucket, generation
        self._file = lru_cache(maxsize=2)(self._read_file)

    def _read_file(self, number: int) -> ParquetBytes:
        key = plan_file_key(self.generation.files, number)
        return ParquetBytes(self.bucket.get(key), self.bucket.url_of(key))

    def shard(self, number: int) -> list[Planned]:
        """Return the inputs of a shard."""
        first = number * self.generation.shard_images
        group, start = divmod(first % FILE_IMAGES, SHARD_IMAGES)
        planned = _planned(self._file(first // FILE_IMAGES).columns(group))
        return planned[start : start + self.generation.shard_images]

    def __iter__(self) -> Iterator[Planned]:
        for number in range(-(-self.generation.planned // FILE_IMAGES)):
            yield from _planned(self._read_file(number).columns())


def _columns(rows: Iterable[Planned]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for listed, fingerprint in rows:
        columns["key"].append(os.fsencode(listed.key))
        columns["fingerprint"].append(fingerprint)
        if isinstance(listed, Failure):
            stem, listed_fingerprint, location = None, None, [listed.stage, listed.reason]
        else:
            stem, listed_fingerprint, location = os.fsencode(listed.stem), listed.fingerprint, listed.location
        columns["stem"].append(stem)
        columns["listed_fingerprint"].append(None if listed_fingerprint == fingerprint else listed_fingerprint)
        columns["location"].append(json.dumps(location))
    return columns


def _planned(columns: dict[str, list[Any]]) -> list[Planned]:
    return [
        Planned(_listed(os.fsdecode(key), stem, fingerprint if listed is None else listed, location), fingerprint)
        for key, stem, fingerprint, listed, location in zip(*(columns[name] for name in SCHEMA.names), strict=True)
    ]


def _listed(key: str, stem: bytes | None, fingerprint: str, text: str) -> Reference | Failure:
    location = json.loads(text)
    if stem is None:
        return Failure(key, *location)
    return Reference(key, os.fsdecode(stem), fingerprint, tuple(location) if isinstance(location, list) else location)
