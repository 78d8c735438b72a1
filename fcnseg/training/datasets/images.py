"""Labelled images on disk as samples: what every data set of files comes down to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from fcnseg.errors import ImageError, LabelsError, SettingsError, SourceError
from fcnseg.recipes import HeadRecipe, Recipe
from fcnseg.scoring.conventions import VARIABLES, counted_from_one
from fcnseg.scoring.counting import read_place
from fcnseg.scoring.meaning import FOREIGN, Meaning, color_codes
from fcnseg.scoring.reading import IMAGES, LOSSY, Place, read_map
from fcnseg.stream import hdf5
from fcnseg.stream.decoding import MAX_PIXELS, READERS, OnSize
from fcnseg.training.samples import Sample
from fcnseg.types import Labels, Pixels

Size = tuple[int, int]
"""Height and width, px."""


@dataclass(frozen=True)
class Item:
    """One labelled image: where that of each modality of the recipe is, and the label map of each of its heads."""

    name: str
    inputs: Mapping[str, Place]
    labels: Mapping[str, Place]


class LabelledImages(Dataset[Sample]):
    """Images and label maps in files, read as `fcnseg run` and `fcnseg score` read them.

    `meanings` say how the label maps of each head are read. Only HDF5 files stay open between reads, in each process.
    """

    def __init__(self, items: Sequence[Item], meanings: Mapping[str, Meaning]) -> None:
        self.items, self.meanings = tuple(items), meanings
        self.names = tuple(item.name for item in items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Sample:
        """Read one. Raises SourceError or LabelsError that names the file and its fault."""
        item = self.items[index]
        inputs = {name: read_pixels(place, name) for name, place in item.inputs.items()}
        labels = {head: read_labels(place, self.meanings[head]) for head, place in item.labels.items()}
        sizes = {str(item.inputs[name]): pixels.shape[:2] for name, pixels in inputs.items()}
        check_sizes(sizes | {str(item.labels[head]): values.shape for head, values in labels.items()})
        return Sample(item.name, inputs, labels)

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


def ground_truth(head: HeadRecipe, void: Iterable[int] = (), variable: str = "") -> Meaning:
    """How the label maps of a head are read: as `fcnseg score` does, palettes of indexed images apart. Values in
    `void` are void besides the head's `ignore`; labels of that `variable` of `.mat` files are the data set's, counted
    from 1, whatever classes the head has."""
    space = head.labels
    return Meaning(
        space,
        frozenset({space.ignore, *void}),
        colors=color_codes(space),
        checked=False,
        conventional=True,
        counted_from_one=counted_from_one(space) | ({variable} if variable else set()),
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


def read_pixels(place: Place, modality: str) -> Pixels:
    """The pixels of an image, as `fcnseg run` sees them. Raises SourceError that names it."""
    return _decoded(place, modality, lambda height, width: None)


def pixels_size(place: Place, modality: str) -> Size:
    """The upright size of an image by its header. Raises SourceError that names it."""
    try:
        return _decoded(place, modality, _stop_at_size).shape[:2]
    except _SizeKnown as known:
        return known.size


class _SizeKnown(Exception):  # noqa: N818 - no error: that is all there was to know
    def __init__(self, *size: int) -> None:
        self.size = (size[0], size[1])


def _stop_at_size(height: int, width: int) -> None:
    raise _SizeKnown(height, width)


def _decoded(place: Place, modality: str, on_size: OnSize) -> Pixels:
    try:
        if not place.dataset:
            return READERS[modality](Path(place.file), MAX_PIXELS, on_size)
        root = place.dataset if place.number is not None else place.dataset.rpartition("/")[0] or "/"
        where = hdf5.Place(place.dataset, place.number)
        return _volume(place.file, root, modality).read(where, modality, MAX_PIXELS, on_size)
    except (ImageError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SourceError(f"{place}: {reason}; replace it, or take it out of the data set") from error


@lru_cache(maxsize=8)
def _volume(file: str, root: str, modality: str) -> hdf5.Hdf5:
    return hdf5.Hdf5(f"{file}::{root}", modality)


def close_volumes() -> None:
    """Close the HDF5 files that this process keeps open between reads."""
    _volume.cache_clear()
    _dataset_size.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=close_volumes)  # two processes must not share an open HDF5 file


# ---------------------------------------------------------------------- labels


def read_labels(place: Place, meaning: Meaning) -> Labels:
    """A label map H x W of classes and `ignore`. Raises LabelsError that names the file, and a value of no class."""
    try:
        codes = read_place(place, meaning)
    except LabelsError as error:
        fault = str(error).partition(";")[0]
        raise LabelsError(f"{fault}; correct the label map, or describe the classes in classes.json") from error
    if (codes == FOREIGN).any():
        raise LabelsError(_foreign(place, codes, meaning))
    ignore = meaning.space.ignore
    return np.where(codes < 0, ignore, codes).astype(np.uint8 if ignore < 256 else np.uint16)


def _foreign(place: Place, codes: np.ndarray[Any, Any], meaning: Meaning) -> str:
    found, counts = np.unique(read_map(place).values[codes == FOREIGN], return_counts=True)
    more = f" (and {len(found) - 1} more values)" if len(found) > 1 else ""
    void = ", ".join(map(str, sorted(meaning.void)))
    return (
        f"{place} has label {found[0]} on {counts[0]} pixels{more}, but there are {meaning.space.classes} classes, and "
        f"void is {void}; correct the label map, or name all classes in the data set's classes.txt"
    )


def check_sizes(sizes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises LabelsError unless all are one size; keys are file names."""
    (first, size), *others = sizes.items()
    for other, found in others:
        if found != size:
            turned = "; one of them is turned" if found == size[::-1] else ""
            (h, w), (other_h, other_w) = size, found
            raise LabelsError(f"{first} is {w} x {h}, but {other} {other_w} x {other_h} px{turned}; sizes must agree")


def labels_size(place: Place) -> Size | None:
    """The size of a label map by its header; None where that says nothing. Raises LabelsError for a damaged file."""
    suffix = Path(place.file).suffix.lower()
    try:
        if place.dataset:
            return _dataset_size(place.file, place.dataset, suffix == ".mat")
        if suffix in (*IMAGES, *LOSSY):
            with Image.open(place.file) as image:
                if image.format in ("JPEG", "MPO", "WEBP"):
                    raise LabelsError(f"{image.format} changes labels, keep them as PNG")
                return image.height, image.width
        if suffix == ".npy":
            return _plane(np.load(place.file, mmap_mode="r").shape)
        if suffix == ".mat":
            return _mat_size(place.file)
    except Exception as error:  # Pillow and SciPy raise all kinds on damaged files
        raise LabelsError(f"{place} cannot be read: {error or type(error).__name__}; replace the file") from error
    return None


def _mat_size(file: str) -> Size | None:
    from scipy.io import whosmat

    try:
        shapes = {name: shape for name, shape, kind in whosmat(file) if name in VARIABLES and kind != "struct"}
    except NotImplementedError:  # version 7.3
        return None
    shape: tuple[int, ...] = next(iter(shapes.values()), ())
    return (shape[0], shape[1]) if len(shape) == 2 else None


@lru_cache(maxsize=256)
def _dataset_size(file: str, dataset: str, matlab: bool) -> Size | None:
    with h5py.File(file) as opened:
        size = _plane(opened[dataset].shape)
    return size[::-1] if size and matlab else size


def _plane(shape: tuple[int, ...]) -> Size | None:
    """The last two axes, None if the last has colours."""
    return None if shape[-1] == 3 else (shape[-2], shape[-1])
