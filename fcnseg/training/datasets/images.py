"""Labelled images on disk as samples: what every data set of files comes down to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

from torch.utils.data import ConcatDataset, Dataset

from fcnseg.errors import ImageError, SettingsError, SourceError
from fcnseg.io import hdf5_images as hdf5
from fcnseg.io.conventions import one_based_variables
from fcnseg.io.images import MAX_PIXELS, READERS, OnSize, announced_size
from fcnseg.io.raw_map import MapLocation
from fcnseg.labels import Color
from fcnseg.recipes import HeadRecipe, Recipe
from fcnseg.scoring.label_encoding import VOID, LabelEncoding, color_codes
from fcnseg.training.datasets.label_maps import (
    Size,
    check_masks,
    check_sizes,
    dataset_size,
    labels_size,
    read_labels,
)
from fcnseg.training.samples import LabelledSample
from fcnseg.types import Pixels


@dataclass(frozen=True)
class Item:
    """One labelled image: where that of each modality of the recipe is, and the label map of each of its heads."""

    name: str
    inputs: Mapping[str, MapLocation]
    labels: Mapping[str, MapLocation]


class LabelledImages(Dataset[LabelledSample]):
    """Images and label maps in files, read as `fcnseg run` and `fcnseg score` read them.

    `meanings` say how the label maps of each head are read. Only HDF5 files stay open between reads, in each process.
    """

    def __init__(self, items: Sequence[Item], meanings: Mapping[str, LabelEncoding]) -> None:
        self.items, self.meanings = tuple(items), dict(meanings)
        self.names = tuple(item.name for item in items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> LabelledSample:
        """Read one. Raises SourceError or LabelsError that names the file and its fault."""
        item = self.items[index]
        inputs = {name: read_pixels(place, name) for name, place in item.inputs.items()}
        labels = {head: read_labels(place, self.meanings[head]) for head, place in item.labels.items()}
        sizes = {str(item.inputs[name]): pixels.shape[:2] for name, pixels in inputs.items()}
        check_sizes(sizes | {str(item.labels[head]): values.shape for head, values in labels.items()})
        return LabelledSample(item.name, inputs, labels)

    def draw_void(self, color: Color) -> None:
        """Take a colour of label maps for void, unless a class has it too."""
        for head, meaning in self.meanings.items():
            if color not in meaning.space.colors:
                self.meanings[head] = replace(meaning, colors={**meaning.colors, color: VOID})

    def check(self) -> None:
        """Look at every file without decoding pixels: that it is there, an image, and of its companions' size.

        Raises SourceError or LabelsError that names the first file at fault. SBD's and MATLAB v7.3 label maps do not
        tell their size beforehand; it is compared when they are read.
        """
        if not self.items:
            raise SourceError("the split names no images; name some")
        places = (place for item in self.items for place in (*item.inputs.values(), *item.labels.values()))
        missing = [file for file in dict.fromkeys(place.file for place in places) if not Path(file).is_file()]
        if missing:
            more = f" (and {len(missing) - 1} more files)" if len(missing) > 1 else ""
            raise SourceError(f"there is no {missing[0]}{more}; complete the data set, or take it off the lists")
        try:
            for item in self.items:
                sizes = {str(place): pixels_size(place, name) for name, place in item.inputs.items()}
                known = {str(place): size for place in item.labels.values() if (size := labels_size(place))}
                check_sizes(sizes | known)
        finally:
            close_volumes()

    def check_masks(self) -> None:
        """Raise LabelsError for masks of 0 and 255 (see there); reads label maps until that is known."""
        for head, meaning in self.meanings.items():
            check_masks([item.labels[head] for item in self.items], meaning)


class JoinedImages(ConcatDataset[LabelledSample]):
    """Several data sets, one after the other."""

    def __init__(self, parts: Sequence[LabelledImages]) -> None:
        super().__init__(parts)
        self.names = tuple(name for part in parts for name in part.names)


def ground_truth(
    head: HeadRecipe, void: Iterable[int] = (), one_based: Mapping[str, tuple[int, ...]] | None = None
) -> LabelEncoding:
    """How the label maps of a head are read: as `fcnseg score` does, palettes of indexed images apart. Values in
    `void` are void besides the head's `ignore`. With the `one_based` variables of a data set labels are its own,
    counted from 1, whatever classes the head has and whatever the variable is called instead."""
    space = head.labels
    return LabelEncoding(
        space,
        frozenset({space.ignore, *void}),
        reduced=bool(one_based),
        colors=color_codes(space),
        checked=False,
        conventional=True,
        one_based={**one_based_variables(space), **(one_based or {})},
    )


def only_head(recipe: Recipe, data_set: str) -> HeadRecipe:
    """The one head of a recipe. Raises SettingsError if it has several, which the data set has no labels for."""
    if len(recipe.heads) > 1:
        names = ", ".join(head.name for head in recipe.heads)
        raise SettingsError(f"{data_set} has one label map an image, but {recipe.name} has the heads {names}")
    return recipe.heads[0]


def only_color(recipe: Recipe, data_set: str) -> None:
    """Raises SettingsError if a recipe takes other inputs than colour images."""
    if recipe.modalities != ("color",):
        wanted = " and ".join(recipe.modalities)
        raise SettingsError(f"{data_set} has color images only, but {recipe.name} takes {wanted}; use another recipe")


# ---------------------------------------------------------------------- pixels


def read_pixels(place: MapLocation, modality: str) -> Pixels:
    """The pixels of an image, as `fcnseg run` sees them. Raises SourceError that names it."""
    return _decoded(place, modality, lambda height, width: None)


def pixels_size(place: MapLocation, modality: str) -> Size:
    """The upright size of an image by its header. Raises SourceError that names it."""
    return announced_size(partial(_decoded, place, modality))


def _decoded(place: MapLocation, modality: str, on_size: OnSize) -> Pixels:
    try:
        if not place.dataset:
            return READERS[modality](Path(place.file), MAX_PIXELS, on_size)
        root = place.dataset if place.number is not None else place.dataset.rpartition("/")[0] or "/"
        where = hdf5.Hdf5Location(place.dataset, place.number)
        return _volume(place.file, root, modality).read(where, modality, MAX_PIXELS, on_size)
    except (ImageError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SourceError(f"{place}: {reason}; replace it, or take it out of the data set") from error


@lru_cache(maxsize=8)
def _volume(file: str, root: str, modality: str) -> hdf5.Hdf5Images:
    return hdf5.Hdf5Images(f"{file}::{root}", modality)


def close_volumes() -> None:
    """Close the HDF5 files that this process keeps open between reads."""
    _volume.cache_clear()
    dataset_size.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=close_volumes)  # two processes must not share an open HDF5 file
