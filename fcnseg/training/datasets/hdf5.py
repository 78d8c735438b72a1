"""HDF5 files of images and their label maps.

| in the file | splits |
|---|---|
| `/train/images`, `/train/labels`, `/val/images`, `/val/labels` | the groups |
| `/images`, `/labels`, and `/split`: a text ("train", "val" ...) for each image | by that |
| `/images`, `/labels` | a fifth is held out for validation, chosen by a hash of the name |

`images` is one dataset of all (N x H x W x 3 uint8, or N encoded files) or a group of one each; `labels` N x H x W, or
a group of the same names; beside them `depth` (in mm, as the recipes' means ask for) and `hha` where the recipe asks
for them. With several heads, `labels` is a group with one of these for each. `labels` (or the file) may have the
attributes `classes`, `colors` and `ignore`, as `fcnseg run --out FILE.h5` writes them: these are then the classes.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fcnseg.errors import SettingsError, SourceError
from fcnseg.io import hdf5
from fcnseg.io.hdf5_images import Hdf5Images
from fcnseg.io.label_maps_hdf5 import locate_in_hdf5
from fcnseg.io.raw_map import MapLocation
from fcnseg.io.suffixes import IMAGE_HDF5, MATLAB, has_suffix
from fcnseg.recipes import Recipe
from fcnseg.scoring.class_files import DatasetClasses, make_classes
from fcnseg.training.datasets.images import FOLDERS, LabelledImages, SampleLocation
from fcnseg.training.datasets.label_maps import ground_truth
from fcnseg.training.datasets.splits import SPLITS, hold_out
from fcnseg.types import Failure

LABELS, SPLIT = "labels", "split"


def is_hdf5(data: Path) -> bool:
    """Tell whether a path is an HDF5 file, by its name."""
    return data.is_file() and has_suffix(data, IMAGE_HDF5)


def open_hdf5(data: Path, recipe: Recipe, split: str) -> LabelledImages:
    """Open a split. Raises SourceError for anything missing, and for axes in another order than the suffix says."""
    main = FOLDERS[recipe.modalities[0]]
    with _opened(data) as file:
        groups = [name for name in hdf5.names_in(file) if hdf5.node_at(file, f"{name}/{main}") is not None]
        texts_node = hdf5.node_at(file, SPLIT)
        texts = _texts(hdf5.read_values(texts_node)) if isinstance(texts_node, h5py.Dataset) else None
    if split in groups:
        locations = _locations(data, recipe, f"/{split}")
    elif groups or (texts is None and split not in SPLITS):
        raise SourceError(
            f"{data} has no group {split} with {main} in it; its splits are {', '.join(groups) or 'none'}"
        )
    else:
        locations = _in_split(data, _locations(data, recipe, ""), texts, split)
    return LabelledImages(locations, {head.name: ground_truth(head) for head in recipe.heads})


def _in_split(data: Path, locations: list[SampleLocation], texts: list[str] | None, split: str) -> list[SampleLocation]:
    """Return the samples of a split: those whose text in `/split` is its name, else by a hash of their names."""
    if texts is None:
        return hold_out(locations, split, data)
    if len(texts) != len(locations):
        counts = f"{len(texts)} texts for {len(locations)} images"
        raise SourceError(f"{data}::/{SPLIT} has {counts}; it must have one for each")
    if split not in texts:
        raise SourceError(f"{data}::/{SPLIT} names no image {split}; it has {', '.join(sorted(set(texts)))}")
    return [sample for sample, text in zip(locations, texts, strict=True) if text == split]


def _locations(data: Path, recipe: Recipe, group: str) -> list[SampleLocation]:
    """Locate the images of a group, and their companions and label maps by name."""
    images = {m: _images(data, f"{group}/{FOLDERS[m]}", m) for m in recipe.modalities}
    several = len(recipe.heads) > 1
    labels = {
        head.name: locate_in_hdf5(str(data), f"{group}/{LABELS}" + (f"/{head.name}" if several else ""))
        for head in recipe.heads
    }
    names, *_ = images.values()
    for kind, locations in (images | labels).items():
        unpaired = sorted(names.keys() ^ locations.keys())
        if unpaired:
            lacks = "has no" if unpaired[0] in names else "has more than the images:"
            raise SourceError(
                f"{data}{group}: {kind} {lacks} {unpaired[0]}; each image needs one of its name or number"
            )
    return [
        SampleLocation(name, {m: of[name] for m, of in images.items()}, {h: of[name] for h, of in labels.items()})
        for name in names
    ]


def _images(data: Path, name: str, modality: str) -> dict[str, MapLocation]:
    """Locate each image of a dataset or group, by its number or its path in there."""
    with closing(Hdf5Images(f"{data}::{name}", modality)) as source:
        if source.expected.matlab != has_suffix(data, MATLAB):
            wrong = "by MATLAB, but not" if source.expected.matlab else "not by MATLAB, but"
            raise SourceError(f"{data} was written {wrong} called .mat: the order of its axes is unclear; rename it")
        locations = {}
        for image in source:
            if isinstance(image, Failure):
                raise SourceError(f"{data}::/{image.key}: {image.reason}; correct or remove it")
            key = image.key.removeprefix(f"{name[1:]}/")
            locations[key] = MapLocation(str(data), image.location.dataset, image.location.number)
        return locations


@contextmanager
def _opened(data: Path) -> Iterator[h5py.File]:
    """Open the file; exceptions of h5py on a damaged one become SourceError."""
    if not data.is_file():
        raise SourceError(f"{data} is no file; give a whole HDF5 file")
    try:
        with hdf5.open_hdf5(data) as file:
            yield file
    except hdf5.DAMAGED as error:
        what = "a whole HDF5 file" + (", of MATLAB one saved with -v7.3" if has_suffix(data, MATLAB) else "")
        raise SourceError(f"{data} cannot be read: {hdf5.reason(error)}; give {what}") from error


def _texts(values: Any) -> list[str]:
    return [text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text) for text in np.ravel(values)]


def hdf5_classes(data: Path) -> DatasetClasses | None:
    """Return the classes that attributes name, of the first dataset or group with any; None if there are none.

    Raises SettingsError for attributes that contradict each other.
    """
    with _opened(data) as file:
        found: list[tuple[str, Mapping[str, Any]]] = []

        def visit(name: str, node: Any) -> None:
            if "classes" in node.attrs and not found:
                found.append((name, dict(node.attrs)))

        visit("", file)
        file.visititems(visit)
    if not found:
        return None
    name, attributes = found[0]
    where = f"{data}::/{name}"
    try:
        colors = tuple((int(r), int(g), int(b)) for r, g, b in attributes.get("colors", ()))
        ignore = int(attributes["ignore"]) if "ignore" in attributes else None
    except (ValueError, TypeError) as error:
        raise SettingsError(
            f"{where} has attributes that are no K x 3 colors or no whole ignore; correct them"
        ) from error
    return make_classes(tuple(_texts(attributes["classes"])), where, colors, ignore)
