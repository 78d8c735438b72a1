"""What a run would be like: a listing of all its inputs, and a real run over a few of them in a temporary folder."""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from fcnseg.recipes import find_recipe
from fcnseg.running.options import is_hdf5
from fcnseg.running.outputs import Outputs, blank_info
from fcnseg.running.preflight import open_inputs, survey_inputs
from fcnseg.running.resume import check_earlier_run
from fcnseg.running.run import Hooks, RunOptions, engine_of, flow, predictor_of
from fcnseg.types import Failure, Frame, Reference, Reserve, Source

if TYPE_CHECKING:
    from fcnseg.recipes import Recipe
    from fcnseg.types import Engine, Summary

SAMPLE = 32
"""How many inputs are tried: evenly spaced ones."""

SAMPLE_WITH_PROBABILITIES = 8


@dataclass
class Estimate:
    """What a run over `inputs` (of which this part has `part_inputs`, and of these `ended` are done or failed already)
    would be like, by `sampled` of them. `in_the_way` are files that no run made, where outputs of others belong.

    `formats` counts the inputs' name suffixes, `sizes` the heights and widths of the sampled ones; `failures` are
    those of the sampled that cannot be done. By kind of output (labels, probabilities, overlay): `bytes_written`,
    `bytes_needed` while it is written (HDF5 files are staged), and `free_bytes` of the file system where it would go,
    one of the numbers in `file_systems`. `largest` is the largest height and width the engine takes at once
    (None: what memory holds), `events` what it had to do for single images.
    """

    inputs: int
    part_inputs: int
    formats: dict[str, int]
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
        """The inputs that there is work to do on."""
        return max(0, self.part_inputs - self.ended)

    @property
    def too_large(self) -> list[str]:
        """The kinds of output for which there is not enough space: all that share a file system, if they need more
        than it has."""
        needed: Counter[int] = Counter()
        for kind, size in self.bytes_needed.items():
            needed[self.file_systems[kind]] += size
        return [kind for kind, free in self.free_bytes.items() if needed[self.file_systems[kind]] > free]


class _Sampled:
    """A source of those inputs of another whose places in its listing are given; notes the sizes of what it loads."""

    def __init__(self, source: Source, places: frozenset[int]) -> None:
        self.source, self.places = source, places
        self.sizes: Counter[tuple[int, int]] = Counter()

    def __iter__(self) -> Iterator[Reference | Failure]:
        return (found for place, found in enumerate(self.source) if place in self.places)

    def fingerprint(self, reference: Reference) -> str:
        return self.source.fingerprint(reference)

    def load(self, reference: Reference, reserve: Reserve = lambda nbytes: None) -> Frame:
        frame = self.source.load(reference, reserve)
        self.sizes[frame.size] += 1
        return frame

    def close(self) -> None:
        """Nothing of its own is open."""


def estimate(options: RunOptions, hooks: Hooks | None = None) -> Estimate:
    """What `run` with these options would do, without doing it; raises what it would raise before its start, and
    KeyboardInterrupt if interrupted."""
    hooks = hooks or Hooks()
    recipe = find_recipe(options.engine.model)
    with ExitStack() as stack:
        source = open_inputs(options, recipe)
        stack.callback(source.close)
        formats: Counter[str] = Counter()

        def look(reference: Reference) -> None:
            formats[PurePosixPath(reference.key).suffix.lower()] += 1

        outputs = Outputs(options, blank_info(recipe))
        listing = survey_inputs(options, source, outputs, hooks, look)
        found = Estimate(listing.total, listing.parts[options.part_id], dict(formats.most_common()))
        if options.resume != "overwrite":
            found.ended, found.in_the_way = outputs.ended(), list(_in_the_way(source, outputs))
        engine = stack.enter_context(engine_of(options, hooks))
        check_earlier_run(options, recipe, engine.info, source, outputs)
        found.largest = engine.info.largest
        places = _spread(listing.total, SAMPLE_WITH_PROBABILITIES if options.probabilities else SAMPLE)
        sampled = _Sampled(source, places)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fcnseg-dry-run-")))
        hooks.on_start(len(places), engine.info)
        ended: list[float] = []
        tried = replace(hooks, on_result=lambda key, failure: ended.append(time.monotonic()))
        summary = _try(options, recipe, sampled, engine, folder, tried)
        if summary.interrupted:
            raise KeyboardInterrupt
        found.sampled, found.sizes, found.failures = summary.done + summary.failed, sampled.sizes, summary.failures
        found.events = summary.events
        if summary.done:
            wait = (ended[-1] - ended[0]) / (len(ended) - 1) if len(ended) > 1 else summary.seconds
            found.images_per_second = 1 / max(wait, 1e-6)
            found.seconds = found.left / found.images_per_second
            _weigh(options, folder, summary.done, found)
    return found


def _in_the_way(source: Source, outputs: Outputs) -> Iterator[str]:
    """The files that no run made where outputs of new inputs belong, in a folder where there was a run; without one,
    listing the inputs has refused them."""
    from fcnseg.io.names import output_names
    from fcnseg.running.ledger import Ledger
    from fcnseg.running.worklist import LOOKED_UP_AT_ONCE, chunks, is_new

    if not outputs.ledger_file.exists():
        return
    names = output_names(outputs.sinks)
    with Ledger(outputs.ledger_file, outputs.folder, reading=True) as ledger:
        if ledger.fact("replace"):
            return
        for some in chunks(source, LOOKED_UP_AT_ONCE):
            references = [found for found in some if isinstance(found, Reference) and outputs.part.has(found.key)]
            entries = ledger.entries([reference.key for reference in references])
            new = (reference.stem for reference in references if is_new(entries.get(reference.key)))
            yield from filter(os.path.lexists, (name.of(stem) for stem in new for name in names))


def _spread(total: int, count: int) -> frozenset[int]:
    """Up to `count` evenly spaced places of 0..total - 1."""
    step = max(1.0, total / count)
    return frozenset(int(step * i) for i in range(min(total, count)))


def _try(options: RunOptions, recipe: Recipe, source: Source, engine: Engine, folder: Path, hooks: Hooks) -> Summary:
    """Run the whole flow over a sample into a temporary folder."""
    from fcnseg.running.ledger import Ledger

    here = replace(
        options,
        out=folder / "labels",
        probabilities=folder / "probabilities" if options.probabilities else None,
        overlay=folder / "overlay" if options.overlay else None,
        num_parts=1,
        part_id=0,
        max_failures=None,
    )
    outputs = Outputs(here, engine.info)
    outputs.make()
    with Ledger(outputs.records / "ledger.sqlite", outputs.folder) as ledger:
        return flow(here, source, predictor_of(options, recipe, engine), outputs, ledger, hooks, 0)


def _weigh(options: RunOptions, folder: Path, images: int, found: Estimate) -> None:
    """Scale what the sample wrote up to all that is left, and look how much room there is for it."""
    from fcnseg.running.disk_space import room

    kinds = {"labels": options.out, "probabilities": options.probabilities, "overlay": options.overlay}
    for kind, target in kinds.items():
        if target is None:
            continue
        files = (p for p in (folder / kind).rglob("*") if p.is_file() and ".fcnseg" not in p.parts)
        size = sum(p.stat().st_size for p in files) * found.left // images
        found.bytes_written[kind] = size
        found.bytes_needed[kind] = 2 * size if is_hdf5(target) else size
        found.file_systems[kind], found.free_bytes[kind] = room(target)
