"""Predictions paired with ground truth by name; what is left over is named."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fcnseg.errors import LabelsError, SettingsError, SourceError
from fcnseg.io.folder_walk import Choice, walk
from fcnseg.io.label_maps_npy import locate_in_npy
from fcnseg.io.label_maps_remote import locate_in_bucket
from fcnseg.io.names import RECORDS, RECORDS_ELSEWHERE, first_few, without_map_suffix
from fcnseg.io.raw_map import MapLocation
from fcnseg.io.suffixes import HDF5, LABEL_MAPS, NUMPY, TAR, has_suffix
from fcnseg.io.urls import is_url, refuse_lost_slash

MapsByName = dict[str, list[MapLocation]]
"""The locations of the maps of each name: more than one is a fault."""

MODES = ("auto", "path", "stem")


@dataclass(frozen=True)
class Pair:
    """A prediction with its ground truth. `key` is the name they share."""

    key: str
    prediction: MapLocation
    truth: MapLocation


@dataclass(frozen=True)
class Pairing:
    """Pairs in the order of their keys, and what has no partner. `mode` says which names were compared."""

    pairs: tuple[Pair, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    excluded: tuple[str, ...]
    mode: str


@dataclass(frozen=True)
class PairingOptions:
    """Options of searching for files and joining them by name.

    `mode` is "path" (relative path without suffix), "stem" (file name without suffix) or "auto": path, or stem where
    no path matches. `names` are the images to compare, all if None. Patterns select files and give their names:
    `{stem}` stands for the name, `*` for anything, e.g. `{stem}_gtFine_labelIds.png`. `sides` are what messages call
    the two sources. `truth_names` are the names of the ground truth of images for which they differ. `in_part` selects
    names: all others are neither paired nor reported. `storage_options` are those of `open_store`.
    """

    mode: str = "auto"
    names: tuple[str, ...] | None = None
    truth_pattern: str | None = None
    prediction_pattern: str | None = None
    excluded: frozenset[str] = frozenset()
    allow_missing: bool = False
    allow_extra: bool = False
    sides: tuple[str, str] = ("prediction", "ground truth")
    in_part: Callable[[str], bool] = lambda name: True
    truth_names: Mapping[str, str] = field(default_factory=dict)
    storage_options: Mapping[str, str] | None = None


def find_maps(source: str, pattern: str | None = None, storage_options: Mapping[str, str] | None = None) -> MapsByName:
    """Find the label maps of a folder (searched through), an HDF5 file or `FILE.h5::/name`, one file (of many, if it
    is a `.npy` N x H x W), or a URL, by name. Where there are tar files instead, they are the maps in these.

    Names are relative paths without suffix. Raises LabelsError if there are none.
    """
    path, separator, dataset = source.partition("::")
    if is_url(source):
        locations: Mapping[str, MapLocation] = locate_in_bucket(source, storage_options or {})
    elif separator or (has_suffix(path, HDF5) and not Path(path).is_dir()):
        from fcnseg.io.label_maps_hdf5 import locate_in_hdf5  # h5py takes a tenth of a second

        locations = locate_in_hdf5(path, dataset)
    elif Path(source).is_dir():
        locations = {name: MapLocation(f"{source.rstrip('/')}/{name}") for name in _map_files(source)}
        if not locations and any(has_suffix(name, TAR) for name in Path(source).iterdir()):
            locations = locate_in_bucket(source, {})
    elif is_single(source):
        maps_inside = locate_in_npy(source) if has_suffix(source, NUMPY) else {}
        locations = maps_inside if len(maps_inside) > 1 else {Path(source).name: MapLocation(source)}
    else:
        refuse_lost_slash(source)
        raise LabelsError(f"there is no {source}; check the path")
    maps = _named(locations, pattern)
    if not maps:
        matching = f" that match {pattern}" if pattern else ""
        raise LabelsError(f"{source} holds no label maps{matching}; expected .png, .tif, .npy or .mat files")
    return maps


def is_single(source: str) -> bool:
    """Tell whether a source is one file with one map."""
    return not is_url(source) and not has_suffix(source, HDF5) and Path(source).is_file()


def _is_stack(source: str) -> bool:
    return has_suffix(source, NUMPY) and len(locate_in_npy(source)) > 1


def _map_files(folder: str) -> Iterator[str]:
    """Yield the label maps below a folder, relative to it; folders in it that cannot be listed are passed by, and those
    that hold what a run writes beside label maps."""
    maps_alone = Choice(enters=lambda path: not Path(path, RECORDS, RECORDS_ELSEWHERE).is_file())
    try:
        for name in walk(folder, LABEL_MAPS, choice=maps_alone):
            if isinstance(name, str):
                yield name
    except SourceError as error:
        raise LabelsError(str(error)) from error


def _named(locations: Mapping[str, MapLocation], pattern: str | None) -> MapsByName:
    maps: MapsByName = {}
    expression = _expression(pattern) if pattern else None
    for path, location in locations.items():
        name = without_map_suffix(path)
        if expression:
            match = expression.fullmatch(path)
            if not match:
                continue
            name = match["stem"]
        maps.setdefault(name, []).append(location)
    return maps


def _expression(pattern: str) -> re.Pattern[str]:
    if pattern.count("{stem}") != 1:
        raise SettingsError(f"the pattern {pattern!r} must hold {{stem}} once, e.g. '{{stem}}_gtFine_labelIds.png'")
    before, after = ("[^/]*".join(map(re.escape, part.split("*"))) for part in pattern.split("{stem}"))
    return re.compile(f"{before}(?P<stem>.+){after}")


def pair_sources(predictions: str, truth: str, options: PairingOptions) -> Pairing:
    """Find the label maps of both sides and join them; two single files are a pair whatever their names.

    Raises LabelsError as `find_maps` and `pair_up` do.
    """
    if is_single(predictions) and is_single(truth) and not any(map(_is_stack, (predictions, truth))):
        pair = Pair(Path(predictions).stem, MapLocation(predictions), MapLocation(truth))
        return Pairing((pair,) if options.in_part(pair.key) else (), (), (), (), "file")
    ours = find_maps(predictions, options.prediction_pattern, options.storage_options)
    theirs = find_maps(truth, options.truth_pattern, options.storage_options)
    return pair_up(ours, theirs, options)


def pair_up(predictions: MapsByName, truths: MapsByName, options: PairingOptions) -> Pairing:
    """Join predictions and ground truth by name.

    Raises LabelsError that lists what is missing, left over (unless allowed) or there twice.
    """
    modes = ("path", "stem") if options.mode == "auto" else (options.mode,)
    if options.mode not in MODES:
        raise SettingsError(f"pairing by {options.mode!r} is unknown; use {', '.join(MODES)}")
    for mode in modes:
        ours, theirs = _rekeyed(predictions, mode), _rekeyed(truths, mode)
        renamed = {_key(label, mode): _key(image, mode) for image, label in options.truth_names.items()}
        theirs = {renamed.get(key, key): locations for key, locations in theirs.items()}
        listed = None if options.names is None else {_key(name, mode) for name in options.names}
        if ours.keys() & theirs.keys() & (ours.keys() if listed is None else listed):
            return _joined(ours, theirs, listed, options, mode)
    ours_name, theirs_name = next(iter(predictions)), next(iter(truths))
    among = " of the list" if options.names is not None else ""
    raise LabelsError(
        f"no {options.sides[0]} has the name of a {options.sides[1]}{among}: the ones are like {ours_name!r}, "
        f"the others like {theirs_name!r}; name them alike, or say how they differ with --gt-pattern and "
        "--pred-pattern"
    )


def _key(name: str, mode: str) -> str:
    return name if mode == "path" else name.rpartition("/")[2]


def _rekeyed(maps: MapsByName, mode: str) -> MapsByName:
    keyed: MapsByName = {}
    for name, locations in maps.items():
        keyed.setdefault(_key(name, mode), []).extend(locations)
    return keyed


def _joined(
    ours: MapsByName, theirs: MapsByName, listed: set[str] | None, options: PairingOptions, mode: str
) -> Pairing:
    ours_name, theirs_name = options.sides
    scope = set(filter(options.in_part, theirs.keys() | ours.keys() if listed is None else listed))
    excluded = {key for key in scope if key.rpartition("/")[2] in options.excluded}
    scope = scope - excluded
    missing = sorted(key for key in scope if key not in ours)
    extra = sorted(key for key in scope if key in ours and key not in theirs)
    faults = [
        f"{len(locations)} candidates for {key}: {first_few(map(str, locations))}"
        for maps in (ours, theirs)
        for key, locations in sorted(maps.items())
        if key in scope and len(locations) > 1
    ]
    if missing and not options.allow_missing:
        faults.append(f"{len(missing)} without a {ours_name}: {first_few(missing)} (--allow-missing leaves them out)")
    if extra and not options.allow_extra:
        allow = "extra" if options.sides == PairingOptions.sides else "missing"
        faults.append(f"{len(extra)} without a {theirs_name}: {first_few(extra)} (--allow-{allow} leaves them out)")
    if faults:
        raise LabelsError("the names do not match: " + "; ".join(faults))
    both = sorted(key for key in scope if key in ours and key in theirs)
    pairs = tuple(Pair(key, ours[key][0], theirs[key][0]) for key in both)
    return Pairing(pairs, tuple(missing), tuple(extra), tuple(sorted(excluded)), mode)
