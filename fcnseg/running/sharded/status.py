"""Status of a run in shards: its plan, and the manifests that are there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from fcnseg.errors import SourceError
from fcnseg.io.buckets import Bucket, open_store
from fcnseg.running.part_status import PartStatus, RunStatus, ShardsStatus
from fcnseg.running.sharded.lease import living_drivers
from fcnseg.running.sharded.manifest import finished, tallies
from fcnseg.running.sharded.plan import Generation, newest_generation
from fcnseg.running.sharded.planning import failed_rows
from fcnseg.running.sharded.record import read_run
from fcnseg.types import Failure


def sharded_status(out: str | Path, storage_options: Mapping[str, str] | None = None) -> RunStatus:
    """Return the status of the run that had `out` as its output. Raises SourceError if there is none, StorageError."""
    bucket = open_store(out, storage_options)
    plan = _plan(bucket, out)
    done_shards = finished(bucket, plan.number)
    done, failed = tallies(bucket, plan.number, done_shards)
    drivers = tuple(map(str, living_drivers(bucket)))
    inputs = PartStatus(
        0,
        plan.inputs,
        plan.done + done,
        plan.failed + failed,
        ended=len(done_shards) >= plan.shards,
        at_work=bool(drivers),
    )
    shards = ShardsStatus(plan.shards, len(done_shards), drivers)
    run = read_run(bucket)
    resize_short = run.settings.get("resize-short") if run else None
    return RunStatus([inputs], plan.left_out, partial(_failures, bucket, plan), shards, resize_short)


def _failures(bucket: Bucket, plan: Generation) -> Iterator[Failure]:
    for key, row in failed_rows(bucket, plan):
        yield Failure(key, row.stage or "", row.reason or "")


def _plan(bucket: Bucket, out: str | Path) -> Generation:
    plan = newest_generation(bucket)
    if plan is None:
        raise SourceError(f"no run of fcnseg has written to {out}; name what was given as --out")
    return plan
