"""The table of the kinds of output that images have files of: where they go, what they are called, what writes them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fcnseg.errors import SettingsError, require
from fcnseg.io.names import RECORDS
from fcnseg.io.urls import is_url
from fcnseg.recipes import Recipe
from fcnseg.running.class_choice import Heads, annotated_labels, keeping
from fcnseg.running.name_rules import NameRules
from fcnseg.running.options import SINK, RunOptions
from fcnseg.running.picture_sinks import (
    ColorPngSink,
    CutoutSink,
    MaskSink,
    OverlaySink,
    cutout_names,
    mask_names,
    shown_modality,
)
from fcnseg.running.plugin_sinks import open_sink, plugin_names
from fcnseg.running.records import is_hdf5
from fcnseg.running.sinks import LabelPngSink, NpyProbabilitySink, output_names
from fcnseg.running.tables import check_tables
from fcnseg.running.yolo_sink import YoloSink
from fcnseg.types import EngineInfo, OutputName, Reference, Sink, Storage

PIXELS_A_PNG_BYTE, PIXELS_A_JPEG_BYTE = 1032, 64
"""The most pixels of a single colour that a byte holds."""

SMALLEST_PNG_BYTES = 67
"""An image of one pixel, without a palette."""

Names = tuple[OutputName, ...]


@dataclass(frozen=True)
class OutputKind:
    """A kind of output: its option, the field of RunOptions with its place, and what follows from the options.

    `names` are those of the files of every image, `least_bytes` the fewest that these can have at so many pixels.
    `shows`: the photographs are in it, which not all models take. `hdf5`: one HDF5 file may hold it.
    `packages`: the optional modules that it needs.
    """

    option: str
    field: str
    names: Callable[[Heads, RunOptions], Names]
    sink: Callable[[Storage, EngineInfo, RunOptions], Sink]
    least_bytes: Callable[[Heads, RunOptions, int], int]
    shows: bool = False
    hdf5: bool = False
    packages: tuple[str, ...] = ()

    def place(self, options: RunOptions) -> str | Path | None:
        """Return the folder, file or URL that it goes to; None if it is not asked for."""
        return options.places.get(self.field)

    def moved(self, options: RunOptions, place: Path) -> RunOptions:
        """Return the options with another place for it."""
        value = getattr(options, self.field)
        change: dict[str, Any] = {self.field: (value[0], place) if isinstance(value, tuple) else place}
        return replace(options, **change)


class PluginKind(OutputKind):
    """The kind of output of a plug-in, `NAME[:ARGUMENT]`."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"--sink {text}",
            f"{SINK}{text}",
            lambda heads, options: plugin_names(text, heads),
            lambda storage, info, options: open_sink(text, storage, info.heads),
            lambda heads, options, pixels: 0,
        )

    def moved(self, options: RunOptions, place: Path) -> RunOptions:
        """Return the options with another place for it."""
        return replace(options, sinks={**options.sinks, self.field.removeprefix(SINK): place})


def _of_heads(suffix: str) -> Callable[[Heads, RunOptions], Names]:
    return lambda heads, options: tuple(output_names(heads, suffix).values())


def _png_bytes(files: int, pixels: int, channels: int = 1) -> int:
    return files * (SMALLEST_PNG_BYTES + channels * pixels // PIXELS_A_PNG_BYTE)


def _probabilities_bytes(heads: Heads, options: RunOptions, pixels: int) -> int:
    value_bytes, top_k = np.dtype(options.probabilities_dtype).itemsize, options.top_k  # they are not compressed
    if top_k:
        value_bytes += 1 if max(space.classes for space in heads.values()) <= 256 else 2
    return sum(min(space.classes, top_k or space.classes) for space in heads.values()) * pixels * value_bytes


def _classes(value: tuple[str, str | Path] | None) -> str:
    """Return the classes of `--mask` and `--cutout`."""
    assert value
    return value[0]


KINDS: dict[str, OutputKind] = {
    "overlay": OutputKind(
        "--overlay",
        "overlay",
        _of_heads(OverlaySink.suffix),
        lambda storage, info, options: OverlaySink(storage, info, options.opacity),
        lambda heads, options, pixels: len(heads) * pixels // PIXELS_A_JPEG_BYTE,
        shows=True,
    ),
    "labels": OutputKind(
        "--out",
        "out",
        _of_heads(LabelPngSink.suffix),
        lambda storage, info, options: LabelPngSink(storage, info),
        lambda heads, options, pixels: _png_bytes(len(heads), pixels),
        hdf5=True,
    ),
    "colours": OutputKind(
        "--colour-png",
        "colour_png",
        _of_heads(ColorPngSink.suffix),
        lambda storage, info, options: ColorPngSink(storage, info),
        lambda heads, options, pixels: _png_bytes(len(heads), pixels, 3),
    ),
    "masks": OutputKind(
        "--mask",
        "mask",
        lambda heads, options: tuple(mask_names(heads, _classes(options.mask)).values()),
        lambda storage, info, options: MaskSink(storage, info, _classes(options.mask)),
        lambda heads, options, pixels: _png_bytes(len(mask_names(heads, _classes(options.mask))), pixels),
    ),
    "cutouts": OutputKind(
        "--cutout",
        "cutout",
        lambda heads, options: tuple(cutout_names(heads, _classes(options.cutout)).values()),
        lambda storage, info, options: CutoutSink(storage, info, _classes(options.cutout)),
        lambda heads, options, pixels: _png_bytes(len(cutout_names(heads, _classes(options.cutout))), pixels, 4),
        shows=True,
    ),
    "yolo": OutputKind(
        "--yolo",
        "yolo",
        _of_heads(YoloSink.suffix),
        lambda storage, info, options: YoloSink(
            storage, info, annotated_labels(options.classes, info.heads), options.polygon_tolerance or 0
        ),
        lambda heads, options, pixels: 0 if options.classes else 16 * len(heads),
        packages=("cv2",),
    ),
    "probabilities": OutputKind(
        "--save-probabilities",
        "probabilities",
        lambda heads, options: _of_heads(NpyProbabilitySink.suffix_of(options.top_k))(heads, options),
        lambda storage, info, options: NpyProbabilitySink(storage, info, options.probabilities_dtype, options.top_k),
        _probabilities_bytes,
        hdf5=True,
    ),
}
"""The kinds of output by the names that records and dry runs have for them, in the order they are written: overlays
refuse images that are too large for them before anything is written of them."""


def kind_of(name: str) -> OutputKind:
    """Return the kind of output of that name: one of KINDS, or a plug-in's."""
    return KINDS[name] if name in KINDS else PluginKind(name.removeprefix(SINK))


def places_by_kind(options: RunOptions) -> dict[str, str | Path]:
    """Return the places by kind of output, in the order they are written to."""
    places = {name: kind.place(options) for name, kind in KINDS.items()}
    places |= {f"{SINK}{text}": place for text, place in options.sinks.items()}
    return {name: place for name, place in places.items() if place is not None}


def check_kinds(options: RunOptions, recipe: Recipe) -> None:
    """Raise SettingsError for classes that a model does not have, outputs that it cannot have, and outputs of which one
    would replace another."""
    heads = {head.name: head.labels for head in recipe.heads}
    keeping(options.classes, heads)
    check_tables(options, recipe.name, heads)
    for name in places_by_kind(options):
        require(*kind_of(name).packages)
        if kind_of(name).shows:
            shown_modality(recipe.name, recipe.modalities, kind_of(name).option)
    owners: dict[tuple[str, str], str] = {}
    for option, folder, suffix in _folders(options, heads):
        other = owners.setdefault((folder, "" if options.out_format == "tar" else suffix), option)
        if other != option:
            raise SettingsError(f"{other} and {option} would both write {folder}/*{suffix}; give them two folders")


def _folders(options: RunOptions, heads: Heads) -> Iterator[tuple[str, str, str]]:
    """Yield the option, the folder and the suffix of each file that an image gets; HDF5 files are left out."""
    for name, place in places_by_kind(options).items():
        if not is_hdf5(place):
            root = str(place).rstrip("/") if is_url(place) else os.path.realpath(place)
            for output in kind_of(name).names(heads, options):
                yield kind_of(name).option, f"{root}/{output.prefix}".rstrip("/"), output.suffix


def taken_stems(options: RunOptions, heads: Heads) -> dict[str, str]:
    """Return the starts of stems whose outputs of one kind would lie among those of another, with its option."""
    folders = list(_folders(options, heads))
    return {
        f"{inner[len(outer) + 1 :]}/": option
        for _, outer, outer_suffix in folders
        for option, inner, suffix in folders
        if inner.startswith(f"{outer}/") and suffix == outer_suffix
    }


def stem_check(options: RunOptions, heads: Heads, rules: NameRules) -> Callable[[Reference], None]:
    """Return a check that raises SettingsError for an input whose outputs would lie among the records, or among outputs
    of another kind."""
    taken = {rules.fold(start): option for start, option in taken_stems(options, heads).items()}

    def check(reference: Reference) -> None:
        stem = rules.fold(reference.stem)
        if stem.startswith((f"{RECORDS}/", f"{RECORDS}.")):
            raise SettingsError(f"{reference.key} would be written among the records of the run; rename it")
        if taken and stem.startswith(tuple(taken)):
            option = next(option for start, option in taken.items() if stem.startswith(start))
            raise SettingsError(
                f"{reference.key} would be written among the files of {option}; give that another folder"
            )

    return check
