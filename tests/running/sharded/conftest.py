"""Runs in shards with a fake engine, and the proof that one came out exactly."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytest.importorskip("obstore")
pytest.importorskip("pyarrow")

from fcnseg.io.buckets import Bucket, open_store
from fcnseg.io.sources import open_source
from fcnseg.running.hooks import Hooks
from fcnseg.running.options import RunOptions
from fcnseg.running.sharded.manifest import Manifest, finished
from fcnseg.running.sharded.places import Shard
from fcnseg.running.sharded.plan import newest_generation
from fcnseg.running.sharded.run import run_in_shards
from fcnseg.types import Engine, LedgerRow, Summary
from tests.conftest import photograph
from tests.fakes import RedEngine
from tests.storage_servers import moto_server, options_of

IMAGES = 20


@dataclass
class Place:
    """Where a run in shards writes to."""

    out: str
    options: dict[str, str] = field(default_factory=dict)

    @property
    def bucket(self) -> Bucket:
        return open_store(self.out, self.options)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    with moto_server() as endpoint:
        yield endpoint


@pytest.fixture(params=["file", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A file URL, and a bucket."""
    if request.param == "s3":
        endpoint = request.getfixturevalue("s3_server")
        return Place(f"s3://bucket/{tmp_path.name}/out", options_of(endpoint))
    return Place(f"file://{tmp_path}/out")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for i in range(IMAGES):
        photograph(folder / f"{i % 2}" / f"{i:02}.png", width=30 + i % 3, height=20, seed=i)
    return folder


@dataclass
class Notes:
    """What a run told of."""

    notes: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    @property
    def hooks(self) -> Hooks:
        return Hooks(
            on_note=self.notes.append, on_result=lambda key, failure: None if failure else self.done.append(key)
        )


Run = Callable[..., tuple[Summary, Notes]]


@pytest.fixture
def run(photos: Path, place: Place) -> Run:
    def call(engine: Callable[[], Engine] = RedEngine, **changes: object) -> tuple[Summary, Notes]:
        values = {"source": str(photos), "out": place.out, "storage_options": place.options, "shard_images": 4}
        told = Notes()
        options = RunOptions(**{**values, **changes})  # type: ignore[arg-type]
        return run_in_shards(options, told.hooks, lambda options, hooks: engine()), told

    return call


def settled_rows(bucket: Bucket) -> dict[str, LedgerRow]:
    """The newest row of every input in any manifest; fails for an input that is twice in one generation."""
    rows: dict[str, LedgerRow] = {}
    newest = newest_generation(bucket)
    for generation in range(1, (newest.number if newest else 0) + 1):
        seen: Counter[str] = Counter()
        for number in finished(bucket, generation):
            for key, row in Manifest(bucket, Shard(generation, number)).rows():
                seen[key] += 1
                rows[key] = row
        assert not [key for key, times in seen.items() if times > 1]
    return rows


def check_exact(bucket: Bucket, photos: Path, failed: set[str] = frozenset()) -> dict[str, bytes]:  # type: ignore[assignment]
    """Outputs are those of all inputs and no others, rows too, checksums are right. Returns the outputs."""
    keys = {listed.key for listed in open_source(photos)}
    rows = {key: row for key, row in settled_rows(bucket).items() if key in keys}
    assert rows.keys() == keys
    assert {key for key, row in rows.items() if row.state == "failed"} == failed
    outputs = {found.key: bucket.get(found.key) for found in bucket.list() if not found.key.startswith(".fcnseg/")}
    recorded = {output.path: output for row in rows.values() for output in row.outputs}
    assert recorded.keys() == outputs.keys()
    assert len(outputs) == len(keys - failed)
    for path, content in outputs.items():
        assert (len(content), hashlib.blake2b(content, digest_size=16).hexdigest()) == recorded[path][1:3]
    return outputs
