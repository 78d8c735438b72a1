"""The dry run of `--dry-run`: a listing of all inputs, and a real run over a few of them in a temporary folder."""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from fcnseg.errors import SourceError
from fcnseg.io.names import RECORDS
from fcnseg.recipes import Recipe, find_recipe
from fcnseg.running.disk_space import free_space
from fcnseg.running.hooks import Hooks
from fcnseg.running.ledger import SqliteLedger
from fcnseg.running.listing import survey
from fcnseg.running.options import RunOptions
from fcnseg.running.output_kinds import kind_of, places_by_kind
from fcnseg.running.outputs import Outputs
from fcnseg.running.preflight import open_inputs, survey_inputs
from fcnseg.running.resume import check_earlier_run
from fcnseg.running.setup import engine_of, pipeline_of, predictor_of
from fcnseg.running.status import read_status
from fcnseg.running.table_files import write_tables
from fcnseg.running.worklist import LOOKED_UP_AT_ONCE, chunks, is_new
from fcnseg.types import Engine, Failure, Frame, Reference, Reserve, Source, Summary

SAMPLE = 32
"""The number of inputs that are tried, evenly spaced."""

SAMPLE_WITH_PROBABILITIES = 8


@dataclass
class Estimate:
    """An estimate of a run by `sampled` of its inputs.

    Of `inputs` this part has `part_inputs`, of which `ended` are done or failed already. `in_the_way` are files that no
    run made where outputs of others belong. `formats` counts the suffixes of the inputs' names, `left_out` those of
    files that are no images, `sizes` the heights and widths of the sampled ones; `failures` are those of the sampled
    that cannot be done. `largest` is the largest height and width the engine takes at once (None: as memory allows),
    `events` what it had to do for single images.

    By kind of output, of those in KINDS: `bytes_written`, `bytes_needed` while it is written (images of
    HDF5 files are staged), and `free_bytes` of the file system where it would go, whose number is in `file_systems`; of
    storages behind URLs, only the first.
    """

    inputs: int
    part_inputs: int
    formats: dict[str, int]
    left_out: dict[str, int] = field(default_factory=dict)
    ended: int = 0
    in_the_way: list[str] = field(default_factory=list)
    sampled: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    largest: tuple[int, int] | None = None
    events: dict[str, int] = field(default_factory=dict)
    images_per_second: float = 0.0
    seconds: float = 0.0
    bytes_written: dict[str, int] = field(default_factory=dict)
    bytes_needed: dict[str, int] = field(default_factory=dict)
    file_systems: dict[str, int] = field(default_factory=dict)
    free_bytes: dict[str, int] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """The inputs that need work."""
        return max(0, self.part_inputs - self.ended)

    @property
    def too_large(self) -> list[str]:
        """The kinds of output without enough room: all that share a file system, if they need more than it has."""
        needed: Counter[int] = Counter()
        for kind, size in self.bytes_needed.items():
            needed[self.file_systems[kind]] += size
        return [kind for kind, free in self.free_bytes.items() if needed[self.file_systems[kind]] > free]


class SampledSource:
    """The inputs of another source at some places of its listing; counts the sizes of those it loads."""

    def __init__(self, source: Source, places: frozenset[int]) -> None:
        self.source, self.places = source, places
        self.sizes: Counter[tuple[int, int]] = Counter()

    def __iter__(self) -> Iterator[Reference | Failure]:
        return (listed for place, listed in enumerate(self.source) if place in self.places)

    def fingerprint(self, reference: Reference) -> str:
        """Return the fingerprint of the other source."""
        return self.source.fingerprint(reference)

    def load(self, reference: Reference, reserve: Reserve = lambda nbytes: None) -> Frame:
        """Load from the other source."""
        frame = self.source.load(reference, reserve)
        self.sizes[frame.size] += 1
        return frame

    def close(self) -> None:
        """Nothing of its own is open."""


def estimate(options: RunOptions, hooks: Hooks | None = None, on_tried: Callable[[], None] = lambda: None) -> Estimate:
    """Return what `run_with` would do with these options. `on_tried` is called after each input that was tried.

    Raises what it would raise before its start, and KeyboardInterrupt if interrupted.
    """
    hooks = hooks or Hooks()
    recipe = find_recipe(options.engine.model)
    with ExitStack() as stack:
        source = stack.enter_context(open_inputs(options, recipe))
        outputs = None if options.is_sharded else Outputs(options, recipe)
        formats: Counter[str] = Counter()

        def on_input(reference: Reference) -> None:
            formats[PurePosixPath(reference.key).suffix.lower()] += 1

        if outputs:
            listing = survey_inputs(source, outputs, hooks, on_input)
        else:
            listing = survey(source, options.num_parts, check=on_input, on_count=hooks.on_listing)
        result = Estimate(listing.total, listing.parts[options.part_id], dict(formats.most_common()), listing.left_out)
        engine = stack.enter_context(engine_of(options, hooks))
        if outputs:
            if options.resume != "overwrite":
                result.ended, result.in_the_way = outputs.ended(), list(_in_the_way(source, outputs))
            check_earlier_run(recipe, engine.info, source, outputs)
        elif options.resume != "overwrite":
            result.ended = _ended_in_shards(options)
        result.largest = engine.info.largest
        places = _spread(listing.total, SAMPLE_WITH_PROBABILITIES if options.probabilities else SAMPLE)
        hooks.on_start(len(places), engine.info)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fcnseg-dry-run-")))
        trial = Outputs(_trial_options(options, folder), recipe)
        hooks = replace(hooks, on_result=lambda key, failure: on_tried())
        _try(SampledSource(source, places), recipe, engine, trial, hooks, result)
        if result.images_per_second:
            _scale_up(outputs, trial, result)
    return result


def _ended_in_shards(options: RunOptions) -> int:
    """Return the number of inputs that ended in earlier runs in shards."""
    try:
        parts = read_status(options.out, options.storage_options).parts
    except SourceError:
        return 0
    return sum(part.done + part.failed for part in parts)


def _in_the_way(source: Source, outputs: Outputs) -> Iterator[str]:
    """Yield files that no run made where outputs of new inputs belong.

    Only where there was a run: without one, listing the inputs has refused them.
    """
    if not outputs.ledger_file.exists():
        return
    names = outputs.names
    with SqliteLedger(outputs.ledger_file, outputs.folder, reading=True) as ledger:
        if ledger.fact("replace"):
            return
        for listed in chunks(source, LOOKED_UP_AT_ONCE):
            references = [one for one in listed if isinstance(one, Reference) and outputs.part.has(one.key)]
            rows = ledger.rows([reference.key for reference in references])
            new = (reference.stem for reference in references if is_new(rows.get(reference.key)))
            yield from filter(os.path.lexists, (name.of(stem) for stem in new for name in names))


def _spread(total: int, count: int) -> frozenset[int]:
    """Return up to `count` evenly spaced places of 0..total - 1."""
    step = max(1.0, total / count)
    return frozenset(int(step * i) for i in range(min(total, count)))


def _trial_options(options: RunOptions, folder: Path) -> RunOptions:
    """Return the options of a run of the same inputs, model and kinds of output into a temporary folder."""
    for number, name in enumerate(places_by_kind(options)):
        options = kind_of(name).moved(options, folder / str(number))  # a plug-in's name may be no path
    tables: dict[str, Any] = {name: folder / f"{name}{Path(place).suffix}" for name, place in options.tables.items()}
    options = replace(options, **tables)
    return replace(options, on=None, shard_images=None, num_parts=1, part_id=0, max_failures=None)


def _try(
    source: SampledSource, recipe: Recipe, engine: Engine, outputs: Outputs, hooks: Hooks, result: Estimate
) -> None:
    """Run the pipeline over a sample, and put what happened into the estimate."""
    ended: list[float] = []

    def on_result(key: str, failure: Failure | None) -> None:
        ended.append(time.monotonic())
        hooks.on_result(key, failure)

    timing = replace(hooks, on_result=on_result)
    outputs.make()
    predictor = predictor_of(outputs.options, recipe, engine)
    with SqliteLedger(outputs.ledger_file, outputs.folder) as ledger:
        summary = pipeline_of(source, predictor, outputs, ledger, timing, 0).run()
        write_tables(engine.info, source, outputs, ledger, hooks.on_note)
    if summary.interrupted:
        raise KeyboardInterrupt
    result.sampled, result.sizes, result.failures = summary.done + summary.failed, source.sizes, summary.failures
    result.events = summary.events
    result.images_per_second = _rate(summary, ended)
    if result.images_per_second:
        result.seconds = result.left / result.images_per_second


def _rate(summary: Summary, ended: list[float]) -> float:
    """Return images per second, without the first image, whose time is that of the start; 0 if none was done."""
    if not summary.done:
        return 0.0
    seconds = (ended[-1] - ended[0]) / (len(ended) - 1) if len(ended) > 1 else summary.seconds
    return 1 / max(seconds, 1e-6)


def _scale_up(outputs: Outputs | None, trial: Outputs, result: Estimate) -> None:
    """Scale what the sample wrote up to all inputs that are left, and look how much room folders have for it."""
    done = result.sampled - len(result.failures)
    places = {place.name: place for place in outputs.places} if outputs else {}
    for tried in sorted(trial.places, key=lambda place: place.name != "labels"):
        files = (p for p in tried.folder.rglob("*") if p.is_file() and RECORDS not in p.parts)
        size = sum(p.stat().st_size for p in files) * result.left // done
        result.bytes_written[tried.name] = size
        if place := places.get(tried.name):
            result.bytes_needed[place.name] = 2 * size if place.is_hdf5 else size
            result.file_systems[place.name], result.free_bytes[place.name] = free_space(place.target)
    for table in trial.tables:
        size = Path(table.target).stat().st_size * result.left // done
        result.bytes_written[table.name] = size
        if outputs and (target := outputs.options.tables[table.name]):
            result.bytes_needed[table.name] = 2 * size  # with the entries among the records
            result.file_systems[table.name], result.free_bytes[table.name] = free_space(Path(target))
