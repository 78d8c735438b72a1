"""Planning: a listing of the source becomes a generation of the plan, unless the newest one still describes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self

from fcnseg.errors import StorageError
from fcnseg.io.buckets import Bucket
from fcnseg.io.image_source import ImageSource
from fcnseg.running.sharded.known import DONE, FAILED, EndedInputs, ListingDigest, digest
from fcnseg.running.sharded.manifest import Manifest, encoded_rows, finished, rows_of
from fcnseg.running.sharded.parquet import ParquetBytes
from fcnseg.running.sharded.places import PLAN, Shard
from fcnseg.running.sharded.plan import (
    Generation,
    Planned,
    PlanWriter,
    commit,
    newest_generation,
    shard_images,
)
from fcnseg.running.worklist import LOOKED_UP_AT_ONCE, chunks, fingerprint_of
from fcnseg.types import Failure, LedgerRow, Reference


class Planner:
    """Plans the inputs of a source: to be iterated, which lists them, and then to `plan`.

    Where nothing was planned before, the plan's files are put while listing; else the source is listed again if it has
    changed, or failures are to be tried again. At the end of the block, files that became no plan are deleted.
    """

    def __init__(self, bucket: Bucket, source: ImageSource, newest: Generation | None, retry_failed: bool) -> None:
        self.bucket, self.source, self.newest, self.retry_failed = bucket, source, newest, retry_failed
        self._writer = PlanWriter(bucket) if newest is None else None
        self._listing = ListingDigest()
        self._begun = self._committed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer and not self._committed:
            with suppress(StorageError):
                self._writer.discard()

    def __iter__(self) -> Iterator[Reference | Failure]:
        """List the source. Only the first pass counts."""
        if self._begun:
            yield from self.source
            return
        self._begun = True
        for listed, fingerprint, hashes in self._listed():
            self._listing.add(hashes)
            if self._writer:
                self._writer.add(Planned(listed, fingerprint))
            yield listed

    def _listed(self) -> Iterator[tuple[Reference | Failure, str, tuple[int, int]]]:
        for listed in self.source:
            fingerprint = fingerprint_of(self.source, listed) if isinstance(listed, Reference) else listed.reason
            yield listed, fingerprint, digest(listed.key, fingerprint)

    @property
    def is_unchanged(self) -> bool:
        """Tell whether the source is as the newest generation describes it."""
        return self.newest is not None and self.newest.listing == str(self._listing)

    def plan(
        self, places: Mapping[str, str], workers: int, seconds_an_image: float | None, images: int | None = None
    ) -> Generation:
        """Return the generation to work on.

        `places` are those of the inputs; `images` is the size of shards, if it is not to follow from the others.
        """
        if self.newest and self.is_unchanged and self.newest.places == places and not self.retry_failed:
            return self.newest
        ended: Counter[int] = Counter()
        failures: list[tuple[str, LedgerRow]] = []
        if self.newest:
            self._listing, self._writer = ListingDigest(), PlanWriter(self.bucket)
            failures = self._plan_rest(self.newest, self._writer, ended)
        assert self._writer
        planned = self._writer.finish()
        generation = Generation(
            number=self.newest.number + 1 if self.newest else 1,
            inputs=self._listing.count,
            listing=str(self._listing),
            planned=planned,
            done=ended[DONE],
            failed=len(failures),
            shard_images=images or shard_images(planned, workers, seconds_an_image),
            files=self._writer.folder,
            places=places,
            left_out=dict(self.source.left_out),
        )
        if failures:
            self.bucket.put(_failed_key(generation), encoded_rows(failures, {}))
        self._committed = commit(self.bucket, generation)
        if self._committed:
            return generation
        winner = newest_generation(self.bucket)
        assert winner
        return winner

    def _plan_rest(self, newest: Generation, writer: PlanWriter, ended: Counter[int]) -> list[tuple[str, LedgerRow]]:
        """Write the inputs that have not ended as they are now; count those that have, and return the failed."""
        before = EndedInputs.read(self.bucket, newest.number)
        failed: set[str] = set()
        for group in chunks(self._listed(), 8 * LOOKED_UP_AT_ONCE):
            states = before.states([hashes for _, _, hashes in group]).tolist()
            for (listed, fingerprint, hashes), state in zip(group, states, strict=True):
                self._listing.add(hashes)
                if state == DONE or (state == FAILED and not self.retry_failed):
                    ended[state] += 1
                    if state == FAILED:
                        failed.add(listed.key)
                else:
                    writer.add(Planned(listed, fingerprint))
        rows = {key: row for key, row in failed_rows(self.bucket, newest) if key in failed} if failed else {}
        return sorted(rows.items())


def failed_rows(bucket: Bucket, generation: Generation) -> Iterator[tuple[str, LedgerRow]]:
    """Yield every input that failed, of those that a generation describes, with its row."""
    if generation.failed:
        key = _failed_key(generation)
        yield from rows_of(ParquetBytes(bucket.get(key), bucket.url_of(key)))
    for number in sorted(finished(bucket, generation.number)):
        manifest = Manifest(bucket, Shard(generation.number, number))
        if manifest.tally[1]:
            yield from ((key, row) for key, row in manifest.rows() if row.state == "failed")


def _failed_key(generation: Generation) -> str:
    """Return the key of the rows of inputs that failed in earlier generations and are not planned again."""
    return f"{PLAN}/{generation.files}/failed.parquet"
