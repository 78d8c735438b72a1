"""A run in shards: a plan on a storage, workers that take its shards, and a manifest for each that is done.

lease -> list and plan -> first engine -> agree on the settings -> shards -> summary
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from fcnseg.errors import SettingsError, require
from fcnseg.io.buckets import Bucket, open_store
from fcnseg.io.image_source import ImageSource
from fcnseg.io.parts import Part
from fcnseg.io.urls import absolute_place, is_url, local_path
from fcnseg.recipes import find_recipe
from fcnseg.running.hooks import Hooks
from fcnseg.running.listing import survey
from fcnseg.running.options import RunOptions
from fcnseg.running.output_kinds import stem_check
from fcnseg.running.preflight import check_table_files, open_inputs
from fcnseg.running.records import LEDGERS, record_folders
from fcnseg.running.resume import input_places
from fcnseg.running.setup import engine_of
from fcnseg.running.sharded.board import Board
from fcnseg.running.sharded.entries import exists, write_tables_of_shards
from fcnseg.running.sharded.lease import Lease
from fcnseg.running.sharded.local import LocalCrew
from fcnseg.running.sharded.outputs import ShardedOutputs
from fcnseg.running.sharded.plan import newest_generation
from fcnseg.running.sharded.planning import Planner
from fcnseg.running.sharded.record import RunRecord, agree, read_run, write_end
from fcnseg.running.sharded.start_over import start_over
from fcnseg.running.sharded.worker import OpenEngine, WorkerReport
from fcnseg.types import Reference, Summary


class Crew(Protocol):
    """The workers of a run. Entered before the first is asked for, closed at the end."""

    @property
    def size(self) -> int:
        """The number of workers that may be expected."""

    def first(self) -> WorkerReport:
        """Return the report of the first worker that is ready, waiting for it. Raises what its engine raises."""

    def work(self, board: Board, record: RunRecord) -> None:
        """Bring the shards on the board to their ends. Ctrl-C marks the board's summary."""

    def close(self) -> None:
        """End all workers."""


def run_in_shards(options: RunOptions, hooks: Hooks, open_engine: OpenEngine = engine_of) -> Summary:
    """Do what `run` does, for outputs on a storage and on clusters. Raises StorageError, too."""
    require("obstore", "pyarrow")
    recipe = find_recipe(options.engine.model)
    refuse_places(options)
    bucket = open_store(options.out, options.storage_options)
    with ExitStack() as stack:
        source = stack.enter_context(open_inputs(options, recipe))
        lease = stack.enter_context(Lease(bucket, Part(options.part_id, options.num_parts), hooks.on_note))
        if options.resume == "overwrite":
            start_over(bucket, options)
        before = read_run(bucket)
        if before:
            options = replace(options, engine=before.resolved(options.engine))
        outputs = ShardedOutputs(options, recipe)
        planner = stack.enter_context(_listed(bucket, source, outputs, before, hooks))
        crew = stack.enter_context(closing(crew_of(options, hooks, open_engine)))
        report = crew.first()
        places = input_places(options, source)
        record = agree(bucket, options, report, places, lambda: planner.is_unchanged, hooks.on_note)
        verification = report.info.verification
        seconds = verification.typical_seconds if verification else None
        generation = planner.plan(places, crew.size, seconds, options.shard_images)
        board = Board.of(bucket, generation, options, hooks, lease)
        hooks.on_start(board.summary.total, report.info)
        board.tell_earlier()
        start = time.monotonic()
        crew.work(board, record)
        summary = board.summary
        summary.seconds = time.monotonic() - start
        write_tables_of_shards(bucket, generation.number, report.info, source, outputs)
        if not (summary.interrupted or summary.stopped):
            write_end(bucket, report.info, summary)
    return summary


def crew_of(options: RunOptions, hooks: Hooks, open_engine: OpenEngine) -> Crew:
    """Return the workers of a run: one in this process, or those of a cluster."""
    if options.on == "ray":
        require("ray")
        from fcnseg.running.sharded.ray_crew import RayCrew

        return RayCrew(options, hooks, open_engine)
    return LocalCrew(options, hooks, open_engine)


@contextmanager
def _listed(
    bucket: Bucket, source: ImageSource, outputs: ShardedOutputs, before: RunRecord | None, hooks: Hooks
) -> Iterator[Planner]:
    """List the source once, for a plan; what was put for it is deleted if the block fails before it is one.

    Raises SettingsError for outputs that would replace one another or files that no run made, SourceError without
    inputs.
    """
    options = outputs.options
    planner = Planner(bucket, source, newest_generation(bucket), options.retry_failed)
    rules = outputs.rules
    is_new = before is None and options.resume != "overwrite"
    check_table_files(outputs.tables, options, lambda table: not is_new or not exists(table, outputs))
    refuse_names = stem_check(options, outputs.heads, rules)
    refuse_taken = outputs.check() if is_new else lambda reference: None

    def check(reference: Reference) -> None:
        refuse_names(reference)
        refuse_taken(reference)

    with planner:
        survey(planner, suffixes=outputs.suffixes, check=check, on_count=hooks.on_listing, rules=rules)
        left_out = dict(source.left_out)
        yield planner
    if left_out:
        hooks.on_left_out(left_out)


def refuse_places(options: RunOptions) -> None:
    """Raise SettingsError for an output in the place of the inputs, or that a run of another kind has filled."""
    out, source = (absolute_place(local_path(os.fspath(place))) for place in (options.out, options.source))
    if out == source or source.startswith(f"{out}/"):
        raise SettingsError(f"{options.out} holds the inputs: outputs there would replace them; give another --out")
    if is_url(options.out):
        return
    _, records = record_folders(Path(options.out))
    if any(records.glob(LEDGERS)):
        raise SettingsError(
            f"{options.out} was filled by a run of one machine; leave out --on ray, or give another --out"
        )
