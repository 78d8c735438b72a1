"""Labelled images on disk: the form that every data set is opened as, read as `fcnseg run` and `fcnseg score` do."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

from torch.utils.data import ConcatDataset, Dataset

from fcnseg.errors import ImageError, SettingsError, SourceError
from fcnseg.io.hdf5_images import Hdf5Images, Hdf5Location
from fcnseg.io.images import MAX_PIXELS, READERS, OnSize, announced_size, ignore_size
from fcnseg.io.raw_map import MapLocation
from fcnseg.labels import Color
from fcnseg.recipes import HeadRecipe, Recipe
from fcnseg.scoring.codes import VOID
from fcnseg.scoring.label_encoding import LabelEncoding, check_sizes
from fcnseg.scoring.label_options import LabelOptions
from fcnseg.training.datasets.label_maps import check_binary_masks, forget_sizes, label_map_size, read_labels
from fcnseg.training.samples import LabelledSample
from fcnseg.types import Pixels

FOLDERS = {"color": "images", "depth": "depth", "hha": "hha"}
"""Names of the folders (or groups of an HDF5 file) that hold the images of each modality."""

SIZES_AGREE = "; sizes must agree"


@dataclass(frozen=True)
class SampleLocation:
    """The locations of a sample's images, by modality of the recipe, and of its label maps, by head."""

    name: str
    inputs: Mapping[str, MapLocation]
    labels: Mapping[str, MapLocation]


class LabelledImages(Dataset[LabelledSample]):
    """Images and label maps in files, read as `fcnseg run` and `fcnseg score` read them.

    `encodings` tells by head how label maps are read. Only HDF5 files stay open between reads, in each process.
    """

    def __init__(self, locations: Sequence[SampleLocation], encodings: Mapping[str, LabelEncoding]) -> None:
        self.locations, self.encodings = tuple(locations), dict(encodings)
        self.names = tuple(location.name for location in locations)
        self.sizes: tuple[tuple[int, int], ...] = ()
        """Height and width of each image, px, once they were checked."""

    def __len__(self) -> int:
        return len(self.locations)

    def __getitem__(self, index: int) -> LabelledSample:
        """Read a sample. Raises SourceError or LabelsError that names the file and its fault."""
        sample = self.locations[index]
        inputs = {modality: _pixels(location, modality) for modality, location in sample.inputs.items()}
        labels = {head: read_labels(location, self.encodings[head]) for head, location in sample.labels.items()}
        sizes = {str(sample.inputs[modality]): pixels.shape[:2] for modality, pixels in inputs.items()}
        sizes |= {str(sample.labels[head]): values.shape for head, values in labels.items()}
        check_sizes(sizes, SIZES_AGREE)
        return LabelledSample(sample.name, inputs, labels)

    def read_as(self, options: LabelOptions, values: Mapping[int, int] | None, dataset: str) -> None:
        """Read label maps by what the options say, and else by the class (or VOID) that `values` gives each value.

        `dataset` is that of the recipe. Raises SettingsError as `LabelOptions.encoding`.
        """
        for head, encoding in self.encodings.items():
            if values is not None and encoding.table is None:
                void = frozenset({encoding.space.ignore})
                encoding = replace(encoding, table=values, void=void, colors_given=True)
            self.encodings[head] = options.applied(encoding, dataset)

    def set_void_color(self, color: Color) -> None:
        """Read a colour of RGB label maps as void, unless a class has it too."""
        for head, encoding in self.encodings.items():
            if color not in encoding.space.colors:
                self.encodings[head] = replace(encoding, colors={**encoding.colors, color: VOID})

    def check(self) -> None:
        """Check that every file is there, an image, and of its companions' size, without decoding pixels.

        Also reads label maps of two classes until they are known not to be masks of 0 and 255. Raises SourceError or
        LabelsError that names the first file at fault. The sizes of SBD's and MATLAB v7.3 label maps are not in their
        headers; they are compared when they are read.
        """
        if not self.locations:
            raise SourceError("the split names no images; name some")
        files = (place.file for s in self.locations for place in (*s.inputs.values(), *s.labels.values()))
        missing = [file for file in dict.fromkeys(files) if not Path(file).is_file()]
        if missing:
            more = f" (and {len(missing) - 1} more files)" if len(missing) > 1 else ""
            raise SourceError(f"there is no {missing[0]}{more}; complete the data set, or take it off the lists")
        checked = []
        try:
            for sample in self.locations:
                sizes = {str(place): announced_size(partial(_pixels, place, m)) for m, place in sample.inputs.items()}
                known = {str(place): size for place in sample.labels.values() if (size := label_map_size(place))}
                check_sizes(sizes | known, SIZES_AGREE)
                checked.append(next(iter(sizes.values())))
        finally:
            _close_hdf5_images()
            forget_sizes()
        self.sizes = tuple(checked)
        for head, encoding in self.encodings.items():
            check_binary_masks([sample.labels[head] for sample in self.locations], encoding)


class JoinedImages(ConcatDataset[LabelledSample]):
    """Several data sets, one after the other."""

    def __init__(self, parts: Sequence[LabelledImages]) -> None:
        super().__init__(parts)
        self.names = tuple(name for part in parts for name in part.names)
        self.sizes = tuple(size for part in parts for size in part.sizes)


def _pixels(location: MapLocation, modality: str, on_size: OnSize = ignore_size) -> Pixels:
    """Read an image; `on_size` is called with its upright height and width, px. Raises SourceError that names it."""
    try:
        if not location.dataset:
            return READERS[modality](Path(location.file), MAX_PIXELS, on_size)
        root = location.dataset if location.number is not None else location.dataset.rpartition("/")[0] or "/"
        place = Hdf5Location(location.dataset, location.number)
        return _open_hdf5_images(location.file, root, modality).read(place, modality, MAX_PIXELS, on_size)
    except (ImageError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SourceError(f"{location}: {reason}; replace it, or take it out of the data set") from error


@lru_cache(maxsize=8)
def _open_hdf5_images(file: str, root: str, modality: str) -> Hdf5Images:
    return Hdf5Images(f"{file}::{root}", modality)


def _close_hdf5_images() -> None:
    """Close the HDF5 files that this process keeps open between reads."""
    _open_hdf5_images.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_close_hdf5_images)  # two processes must not share an open HDF5 file


def only_head(recipe: Recipe, data_set: str) -> HeadRecipe:
    """Return the one head of a recipe. Raises SettingsError if it has several: the data set has labels for one."""
    if len(recipe.heads) > 1:
        names = ", ".join(head.name for head in recipe.heads)
        raise SettingsError(f"{data_set} has one label map an image, but {recipe.name} has the heads {names}")
    return recipe.heads[0]


def only_color(recipe: Recipe, data_set: str) -> None:
    """Raise SettingsError if a recipe takes other inputs than colour images."""
    if recipe.modalities != ("color",):
        inputs = " and ".join(recipe.modalities)
        raise SettingsError(f"{data_set} has color images only, but {recipe.name} takes {inputs}; use another recipe")
