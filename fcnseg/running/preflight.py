"""What a run reads: listed once before the start, and held against its outputs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fcnseg.errors import ImageError, OutputError, SettingsError
from fcnseg.recipes import Recipe
from fcnseg.running.options import Hooks, RunOptions, check_options
from fcnseg.running.outputs import RECORDS, Outputs

if TYPE_CHECKING:
    from fcnseg.io.sources import ImageSource
    from fcnseg.running.disk_space import Sample
    from fcnseg.running.listing import Listing
    from fcnseg.types import Reference


def open_inputs(options: RunOptions, recipe: Recipe) -> ImageSource:
    """The source of a run whose options are in order; its outputs are not among its inputs."""
    from fcnseg.io.images import MAX_PIXELS, allow_pixels
    from fcnseg.io.sources import open_source

    check_options(options)
    allow_pixels(options.max_pixels or MAX_PIXELS)
    return open_source(
        options.source,
        recipe.modalities,
        options.companions,
        pattern=options.glob,
        exclude=tuple(path for path in (options.out, options.probabilities, options.overlay) if path is not None),
        max_pixels=options.max_pixels or MAX_PIXELS,
        layout=options.layout,
    )


def survey_inputs(
    options: RunOptions,
    source: ImageSource,
    outputs: Outputs,
    hooks: Hooks,
    look: Callable[[Reference], None] = lambda reference: None,
) -> Listing:
    """List the source once; refuse outputs that would replace one another, an input, or files of someone else. `look`
    sees every input."""
    from fcnseg.errors import SourceError
    from fcnseg.io.names import output_names
    from fcnseg.running.listing import survey
    from fcnseg.running.status import LEDGERS

    outputs.check()
    names = output_names(outputs.sinks)
    folders = [p for p in (options.out, options.probabilities, options.overlay) if p is not None and p.is_dir()]
    foreign = folders and options.resume != "overwrite" and not any(outputs.records.glob(LEDGERS))

    inputs = [options.source, *options.companions.values()]
    beside_inputs = any(may_hold_inputs(folder, place) for folder in folders for place in inputs)

    taken = (f"{RECORDS}/", f"{RECORDS}.")

    def check(reference: Reference) -> None:
        look(reference)
        if reference.stem.startswith(taken):
            raise SettingsError(f"{reference.key} would be written among the records of the run; rename it")
        if not (foreign or beside_inputs):
            return
        for path in (Path(name.of(reference.stem)) for name in names):
            if path.exists() and any(path.samefile(file) for file in files_of(source, reference)):
                raise SettingsError(f"the output {path} would replace an input; give another --out")
            if foreign and path.exists():
                raise SettingsError(f"{path} exists and no run of fcnseg made it; use --overwrite to replace it")

    suffixes = {name.after for name in names}
    listing = survey(source, options.num_parts, suffixes=suffixes, check=check, on_count=hooks.on_listing)
    if not listing.total:
        what = f"no image matches {options.glob!r} in" if options.glob else "there are no images in"
        raise SourceError(f"{what} {options.source}")
    return listing


def check_space(source: ImageSource, outputs: Outputs, sample: Sample, inputs: int, hooks: Hooks) -> None:
    """Say if what so many inputs give is unlikely to have room. Raises OutputError if it cannot have."""
    from fcnseg.running.disk_space import shortages

    sizes = [size for reference in sample.references if (size := source.size(reference))]
    if sizes and shortages(outputs.sinks, sizes, inputs):  # what is there already is counted only if it matters
        for short in shortages(outputs.sinks, sizes, max(0, inputs - outputs.ended())):
            if short.sure:
                raise OutputError(f"{short}; make room, write elsewhere, or try all the same with --no-space-check")
            hooks.on_note(f"{short}; --dry-run tells more")


def files_of(source: ImageSource, reference: Reference) -> list[Path]:
    """The files of an input and its companions, as far as they are files that are there."""
    try:
        places = [Path(place) for place in source.locations(reference).values() if isinstance(place, str)]
    except ImageError:
        return []
    return [place for place in places if place.exists()]


def may_hold_inputs(folder: Path, source: str | Path) -> bool:
    """Whether inputs could lie in an output folder: those of a list may lie anywhere."""
    if not Path(source).is_dir():
        return True
    one, other = os.path.realpath(folder), os.path.realpath(source)
    return os.path.commonpath([one, other]) in (one, other)
