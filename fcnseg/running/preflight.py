"""Checks before a run starts: its source is listed once, and held against its outputs and the free space."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from fcnseg.errors import ImageError, OutputError, SettingsError
from fcnseg.io.folder_walk import Choice, walk
from fcnseg.io.folders import is_run_output
from fcnseg.io.image_source import ImageSource
from fcnseg.io.images import MAX_PIXELS, allow_pixels
from fcnseg.io.names import split_hdf5_name
from fcnseg.io.sources import open_source
from fcnseg.io.suffixes import IMAGES, has_suffix
from fcnseg.io.urls import is_url, local_path
from fcnseg.recipes import Recipe
from fcnseg.running.disk_space import EvenSample, shortages
from fcnseg.running.hooks import Hooks
from fcnseg.running.ledger import has_begun
from fcnseg.running.listing import Listing, survey
from fcnseg.running.name_rules import NameRules
from fcnseg.running.options import RunOptions, check_options
from fcnseg.running.output_kinds import stem_check
from fcnseg.running.outputs import OutputPlace, Outputs, unwritable
from fcnseg.running.records import LEDGERS, PLAN
from fcnseg.running.tables import TablePlace
from fcnseg.types import Failure, Reference


@contextmanager
def open_inputs(options: RunOptions, recipe: Recipe) -> Iterator[ImageSource]:
    """Open the source of a run. Its output folders are not searched for images.

    Raises SettingsError for options that no run can have, SourceError for a source that cannot be read.
    """
    check_options(options)
    allow_pixels(options.max_pixels or MAX_PIXELS)
    source = open_source(
        options.source,
        recipe.modalities,
        options.companions,
        pattern=options.glob,
        exclude=(
            *(local_path(os.fspath(place)) for place in options.places.values()),
            *(os.fspath(path) for path in options.companions.values() if not _is_same(path, options.source)),
        ),
        max_pixels=options.max_pixels or MAX_PIXELS,
        layout=options.layout,
        storage_options=options.storage_options,
    )
    with closing(source):
        yield source


def survey_inputs(
    source: ImageSource,
    outputs: Outputs,
    hooks: Hooks,
    on_input: Callable[[Reference], None] = lambda reference: None,
) -> Listing:
    """List the source once, calling `on_input` with every input.

    Raises SettingsError for outputs that would replace one another, an input, or files that no run made, and
    SourceError if there are no inputs.
    """
    options, names = outputs.options, outputs.names
    check_places(outputs)
    folders = [p.target for p in outputs.places if p.target.is_dir()]
    foreign = folders and options.resume != "overwrite" and not any(map(has_begun, outputs.records.glob(LEDGERS)))
    inputs = [options.source, *options.companions.values()]
    beside_inputs = any(may_hold_inputs(folder, place) for folder in folders for place in inputs)

    rules = NameRules(place.folder for place in outputs.places)
    refuse_taken = stem_check(options, outputs.heads, rules)

    def check(reference: Reference) -> None:
        on_input(reference)
        refuse_taken(reference)
        if not (foreign or beside_inputs):
            return
        for path in (Path(name.of(reference.stem)) for name in names):
            if path.exists() and any(path.samefile(file) for file in files_of(source, reference)):
                raise SettingsError(f"the output {path} would replace an input; give another --out")
            if foreign and path.exists():
                raise SettingsError(f"{path} exists and no run of fcnseg made it; use --overwrite to replace it")

    suffixes = {name.suffix for name in names}
    listing = survey(source, options.num_parts, suffixes=suffixes, check=check, on_count=hooks.on_listing, rules=rules)
    listing.left_out = dict(source.left_out)
    _check_outputs_inside(source, outputs)
    return listing


def _is_same(path: str | Path, source: str | Path) -> bool:
    return os.path.realpath(path) == os.path.realpath(source)


def _check_outputs_inside(source: ImageSource, outputs: Outputs) -> None:
    """Raise SettingsError for an output folder in the source that holds other images than outputs: they would be
    neither done nor failed, and label maps would lie among them."""
    for place in outputs.places:
        if not any(_is_same(folder, place.target) for folder in source.excluded_inside):
            continue
        begun = is_run_output(os.fspath(place.target))
        alike = [other for other in outputs.places if begun and _is_same(other.target, place.target)]
        own = {name.suffix for other in alike for name in other.kind.names(outputs.heads, outputs.options)}
        others = tuple(other.target for other in outputs.places if not _is_same(other.target, place.target))
        images = walk(os.fspath(place.target), IMAGES, others, Choice(enters=lambda path: not is_run_output(path)))
        foreign = next((key for key in images if not _is_output_name(key, own)), None)
        if foreign is not None:
            raise SettingsError(
                f"{place.target} lies in {source.name} and holds images of its own ({foreign}), which would be "
                f"left out with the outputs; give another {place.kind.option}"
            )


def _is_output_name(key: str | Failure, suffixes: set[str]) -> bool:
    """Tell whether a file is called as outputs are; a folder that cannot be listed is no image."""
    return isinstance(key, Failure) or has_suffix(key, tuple(suffixes))


def check_places(outputs: Outputs) -> None:
    """Refuse outputs in the place of inputs, HDF5 files that no run made, and places that cannot be written to."""
    outputs.refuse_links()
    options = outputs.options
    if (outputs.records / PLAN).is_dir():
        raise SettingsError(
            f"{options.out} was filled in shards, with --on ray or as a URL; go on so, or give another --out"
        )
    sources = _source_files(options)
    for place in outputs.places:
        path = place.target
        if os.path.realpath(path) in sources:
            raise SettingsError(
                f"{path} is an input: outputs there would replace an input, or become one; give another --out"
            )
        if place.is_hdf5 and path.is_file() and options.resume != "overwrite" and not outputs.has_recorded(path):
            raise SettingsError(f"{path} exists and no run of fcnseg made it; use --overwrite to replace it")
        if place.is_hdf5 and path.is_dir():
            raise OutputError(f"{path} is a folder, but the output is an HDF5 file; give another name")
        _check_folder(place.target, is_file=place.is_hdf5)
    check_table_files(
        outputs.tables, options, lambda table: not os.path.lexists(table.target) or _may_replace(outputs, table)
    )


def check_table_files(
    tables: Iterable[TablePlace], options: RunOptions, may_write: Callable[[TablePlace], bool]
) -> None:
    """Refuse tables in the place of inputs and of files that no run made, and those that cannot be written."""
    sources = _source_files(options)
    for table in tables:
        if not is_url(table.target):
            path = Path(table.target)
            if os.path.realpath(path) in sources:
                raise SettingsError(f"{path} is an input, and would be replaced; give another {table.kind.option}")
            if path.is_dir():
                raise OutputError(f"{path} is a folder, but {table.kind.option} is a file; give another name")
            _check_folder(path, is_file=True)
        if not may_write(table):
            raise SettingsError(f"{table.target} exists and no run of fcnseg made it; use --overwrite to replace it")


def _may_replace(outputs: Outputs, table: TablePlace) -> bool:
    return outputs.options.resume == "overwrite" or outputs.has_recorded(Path(table.target))


def _source_files(options: RunOptions) -> set[str]:
    """Return the files and folders of the inputs."""
    inputs = [options.source, *options.companions.values()]
    return {os.path.realpath(split_hdf5_name(local_path(os.fspath(place)))[0]) for place in inputs}


def _check_folder(target: Path, *, is_file: bool) -> None:
    """Refuse a file where a folder should be, and a folder that may not be written to."""
    absolute = target.absolute()
    folders = absolute.parents if is_file else (absolute, *absolute.parents)
    existing = next(folder for folder in folders if os.path.lexists(folder))
    if not existing.is_dir():
        what = "a file" if existing.exists() else "a link to nowhere"
        raise OutputError(f"{existing} is {what}, but the output goes to a folder; give another path")
    if not os.access(existing, os.W_OK | os.X_OK):
        read_only = os.statvfs(existing).f_flag & os.ST_RDONLY
        raise unwritable(existing, errno.EROFS if read_only else errno.EACCES)


def check_space(source: ImageSource, outputs: Outputs, sample: EvenSample, inputs: int, hooks: Hooks) -> None:
    """Note it if the outputs of so many inputs are unlikely to have room. Raises OutputError if they cannot have."""
    sizes = [size for reference in sample.references if (size := source.size(reference))]
    places: list[OutputPlace | TablePlace] = [*outputs.places, *outputs.tables]
    if not sizes or not shortages(places, outputs.heads, sizes, inputs):
        return
    for short in shortages(places, outputs.heads, sizes, max(0, inputs - outputs.ended())):
        if short.sure:
            raise OutputError(f"{short}; make room, write elsewhere, or try all the same with --no-space-check")
        hooks.on_note(f"{short}; --dry-run tells more")


def files_of(source: ImageSource, reference: Reference) -> list[Path]:
    """Return the files of an input and its companions, as far as they are files that exist."""
    try:
        places = [Path(place) for place in source.locations(reference).values() if isinstance(place, str)]
    except ImageError:
        return []
    return [place for place in places if place.exists()]


def may_hold_inputs(folder: Path, source: str | Path) -> bool:
    """Tell whether inputs could lie in an output folder: those of a list may lie anywhere, but not those of a URL."""
    if is_url(source := local_path(os.fspath(source))):
        return False
    if not Path(source).is_dir():
        return True
    output, inputs = os.path.realpath(folder), os.path.realpath(source)
    return os.path.commonpath([output, inputs]) in (output, inputs)
