"""Names of a sharded run's records, as keys below the output's URL or folder."""

from __future__ import annotations

from typing import NamedTuple

from fcnseg.io.names import RECORDS
from fcnseg.running import records

RUN = f"{RECORDS}/run.json"
"""The settings and the engine, created once."""

SUMMARY = f"{RECORDS}/summary.json"
"""The end of the newest run that came to its end."""

PLAN, MANIFESTS, LEASES = f"{RECORDS}/{records.PLAN}", f"{RECORDS}/manifests", f"{RECORDS}/leases"

ENTRIES = f"{RECORDS}/entries"
"""What the images of each shard add to files of all images."""


class Shard(NamedTuple):
    """A shard: the generation of the plan it belongs to, from 1, and its number in that, from 0."""

    generation: int
    number: int

    def __str__(self) -> str:
        return f"{self.generation}-{self.number}"


def generation_key(generation: int) -> str:
    """Return the key of the object that makes a generation of the plan exist."""
    return f"{PLAN}/{generation:04}.json"


def plan_file_key(folder: str, number: int) -> str:
    """Return the key of a file of planned inputs, in the folder that a generation names."""
    return f"{PLAN}/{folder}/{number:06}.parquet"


def manifests_prefix(generation: int) -> str:
    """Return the prefix of the manifests of a generation."""
    return f"{MANIFESTS}/{generation:04}"


def manifest_key(shard: Shard) -> str:
    """Return the key of a shard's manifest."""
    return f"{manifests_prefix(shard.generation)}/{shard.number:08}.parquet"


def entries_key(shard: Shard) -> str:
    """Return the key of a shard's entries."""
    return f"{ENTRIES}/{shard.generation:04}/{shard.number:08}.parquet"


def number_of(key: str) -> int | None:
    """Return the number in the name of a manifest or generation; None for other objects."""
    name = key.rpartition("/")[2].partition(".")[0]
    return int(name) if name.isdecimal() else None
