"""One HDF5 file with images and their label maps.

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

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
from fcnseg.training.datasets.classes import Classes, classes_of
from fcnseg.training.datasets.images import Item, LabelledImages, ground_truth
from fcnseg.training.datasets.splits import held_out
from fcnseg.types import Failure

GROUPS = {"color": "images", "depth": "depth", "hha": "hha"}
LABELS, SPLIT = "labels", "split"
SPLITS = ("train", "val")


def is_hdf5(data: Path) -> bool:
    """Whether it is an HDF5 file, by its name."""
    return data.is_file() and has_suffix(data, IMAGE_HDF5)


def open_hdf5(data: Path, recipe: Recipe, split: str) -> LabelledImages:
    """The images of a split. Raises SourceError for a split, a dataset or an image's label map that is missing, and for
    a file whose axes are in another order than its name says."""
    main = GROUPS[recipe.modalities[0]]
    with _opened(data) as file:
        groups = [name for name in file if isinstance(file.get(f"{name}/{main}"), h5py.Group | h5py.Dataset)]
        texts = _texts(file[SPLIT][()]) if isinstance(file.get(SPLIT), h5py.Dataset) else None
    if split in groups:
        items = _items(data, recipe, f"/{split}")
    elif groups or (texts is None and split not in SPLITS):
        raise SourceError(
            f"{data} has no group {split} with {main} in it; its splits are {', '.join(groups) or 'none'}"
        )
    else:
        items = _chosen(data, _items(data, recipe, ""), texts, split)
    return LabelledImages(items, {head.name: ground_truth(head) for head in recipe.heads})


def _chosen(data: Path, items: list[Item], texts: list[str] | None, split: str) -> list[Item]:
    """The items of a split, by the texts of each or by their names."""
    if texts is None:
        if len(items) < 2:
            raise SourceError(f"{data} has one image, which leaves none to hold out; training takes two at least")
        val = held_out([item.name for item in items])
        return [item for item in items if (item.name in val) == (split == "val")]
    if len(texts) != len(items):
        raise SourceError(f"{data}::/{SPLIT} has {len(texts)} texts for {len(items)} images; it must have one for each")
    if split not in texts:
        raise SourceError(f"{data}::/{SPLIT} names no image {split}; it has {', '.join(sorted(set(texts)))}")
    return [item for item, text in zip(items, texts, strict=True) if text == split]


def _items(data: Path, recipe: Recipe, group: str) -> list[Item]:
    """The images of a group with all that belongs to them, by name."""
    images = {m: _images(data, f"{group}/{GROUPS[m]}", m) for m in recipe.modalities}
    several = len(recipe.heads) > 1
    labels = {
        head.name: locate_in_hdf5(str(data), f"{group}/{LABELS}" + (f"/{head.name}" if several else ""))
        for head in recipe.heads
    }
    names, *_ = images.values()
    for where, found in (images | labels).items():
        unlike = sorted(names.keys() ^ found.keys())
        if unlike:
            lacks = "has no" if unlike[0] in names else "has more than the images:"
            raise SourceError(f"{data}{group}: {where} {lacks} {unlike[0]}; each image needs one of its name or number")
    return [
        Item(name, {m: places[name] for m, places in images.items()}, {h: places[name] for h, places in labels.items()})
        for name in names
    ]


def _images(data: Path, name: str, modality: str) -> dict[str, MapLocation]:
    """Where each image of a dataset or group is, by its number or its path in there."""
    source = Hdf5Images(f"{data}::{name}", modality)
    try:
        if source.expected.matlab != has_suffix(data, MATLAB):
            wrong = "by MATLAB, but not" if source.expected.matlab else "not by MATLAB, but"
            raise SourceError(f"{data} was written {wrong} called .mat: the order of its axes is unclear; rename it")
        found = {}
        for image in source:
            if isinstance(image, Failure):
                raise SourceError(f"{data}::/{image.key}: {image.reason}; correct or remove it")
            key = image.key.removeprefix(f"{name[1:]}/")
            found[key] = MapLocation(str(data), image.location.dataset, image.location.number)
        return found
    finally:
        source.close()


@contextmanager
def _opened(data: Path) -> Iterator[h5py.File]:
    """The file. What h5py raises on a damaged one becomes a SourceError."""
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


def hdf5_classes(data: Path) -> Classes | None:
    """The classes that the attributes of the labels name, of the first dataset or group that has any; None if none
    does. Raises SettingsError for attributes that contradict each other."""
    with _opened(data) as file:
        described: list[tuple[str, Mapping[str, Any]]] = []

        def visit(name: str, node: Any) -> None:
            if "classes" in node.attrs and not described:
                described.append((name, dict(node.attrs)))

        visit("", file)
        file.visititems(visit)
    if not described:
        return None
    name, attributes = described[0]
    where = f"{data}::/{name}"
    try:
        colors = tuple((int(r), int(g), int(b)) for r, g, b in attributes.get("colors", ()))
        ignore = int(attributes["ignore"]) if "ignore" in attributes else None
    except (ValueError, TypeError) as error:
        raise SettingsError(
            f"{where} has attributes that are no K x 3 colors or no whole ignore; correct them"
        ) from error
    return classes_of(tuple(_texts(attributes["classes"])), where, colors, ignore)
