"""The board of a run in shards: what is to be done, what became of it, and the summary."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import islice

from fcnseg.errors import StorageError
from fcnseg.io.buckets import Bucket
from fcnseg.running.hooks import Hooks, ShardsState
from fcnseg.running.options import RunOptions
from fcnseg.running.sharded.lease import Lease
from fcnseg.running.sharded.manifest import finished, tallies
from fcnseg.running.sharded.plan import Generation
from fcnseg.running.sharded.planning import failed_rows
from fcnseg.running.sharded.worker import ShardResult
from fcnseg.types import FAILURES_LISTED, Failure, StageTimes, Summary

MOST_TRIES = 3
"""The tries of a shard that the storage did not let end, before the run stops."""


@dataclass
class Board:
    """The shards of one part of a run. Only the thread of the driver uses it."""

    bucket: Bucket
    generation: Generation
    options: RunOptions
    hooks: Hooks
    lease: Lease
    todo: deque[int]
    shards: int
    summary: Summary
    workers: int = 0
    lost: int = 0
    shards_done: int = 0
    _tries: Counter[int] = field(default_factory=Counter)

    @classmethod
    def of(cls, bucket: Bucket, generation: Generation, options: RunOptions, hooks: Hooks, lease: Lease) -> Board:
        """Return the board of a generation: shards with a manifest are done."""
        numbers = generation.part(options.part_id, options.num_parts)
        done = finished(bucket, generation.number) & set(numbers)
        todo = deque(number for number in numbers if number not in done)
        whole = options.num_parts == 1
        summary = Summary(generation.inputs if whole else sum(map(generation.images_in, numbers)))
        ended, failed = tallies(bucket, generation.number, done)
        summary.kept = ended + (generation.done if whole else 0)
        summary.failed = summary.failed_before = failed + (generation.failed if whole else 0)
        board = cls(bucket, generation, options, hooks, lease, todo, len(numbers), summary)
        board.shards_done = len(done)
        return board

    def tell_earlier(self) -> None:
        """Tell what ended in earlier runs, and list the first failures of these."""
        if self.options.num_parts == 1 and self.summary.failed:
            for key, row in islice(failed_rows(self.bucket, self.generation), FAILURES_LISTED):
                failure = Failure(key, row.stage or "", row.reason or "")
                self.summary.failures.append(failure)
                self.hooks.on_failed_before(failure)
        self.hooks.on_earlier(self.summary.kept, self.summary.failed - len(self.summary.failures))
        self.tell()

    def tell(self) -> None:
        """Tell how many shards are done, and by how many workers."""
        self.hooks.on_shards(ShardsState(self.shards_done, self.shards, self.workers, self.lost))

    @property
    def is_stopped(self) -> bool:
        """Tell whether no more shards are to be begun."""
        return bool(self.summary.stopped or self.summary.interrupted)

    def end(self, result: ShardResult) -> None:
        """Take the end of a shard."""
        if result.whole:
            self.shards_done += 1
        self.summary.done += result.done
        for failure in result.failures:
            self.summary.add_failure(failure)
        self.summary.failed += result.failed - len(result.failures)
        self.summary.interrupted |= result.interrupted
        self._add_times(result)
        if (left := self.failures_left) is not None and left < 0:
            self.summary.stopped = f"more than {self.options.max_failures} images failed (--max-failures)"
        self.tell()

    @property
    def failures_left(self) -> int | None:
        """The failures that may still happen before the run stops; None: any number."""
        if self.options.max_failures is None:
            return None
        return self.options.max_failures - (self.summary.failed - self.summary.failed_before)

    def _add_times(self, result: ShardResult) -> None:
        for name, times in result.stages.items():
            before = self.summary.stages.get(name)
            busy = times.busy_seconds + (before.busy_seconds if before else 0.0)
            self.summary.stages[name] = StageTimes(times.threads, busy, times.utilisation)
        for name, count in result.events.items():
            self.summary.events[name] = self.summary.events.get(name, 0) + count

    def put_back(self, number: int, error: StorageError) -> None:
        """Put a shard back that the storage did not let end. Raises the error if it will not pass, or has not."""
        self._tries[number] += 1
        if not error.transient or self._tries[number] >= MOST_TRIES:
            raise error
        self.hooks.on_note(f"shard {number} is put back and begun again: {error}")
        self.todo.append(number)
