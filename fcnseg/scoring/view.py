"""Drawing of one label map over its image, with a legend and the shares of its classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fcnseg.errors import LabelsError, SettingsError
from fcnseg.io.label_maps_remote import locate_in_bucket
from fcnseg.io.overlays import legend, overlay
from fcnseg.io.raw_map import MapLocation
from fcnseg.io.suffixes import HDF5, has_suffix
from fcnseg.io.urls import is_url, local_path
from fcnseg.labels import LabelSpace
from fcnseg.recipes import HeadRecipe
from fcnseg.scoring.confusion import Map
from fcnseg.scoring.label_encoding import read_classes
from fcnseg.scoring.label_options import LabelOptions
from fcnseg.scoring.labelling import Labelling, find_labelling, recorded_classes

MARGIN_PX = 8


@dataclass(frozen=True)
class LabelledMap:
    """A label map: codes H x W (classes, negative where void) and their label space."""

    codes: Map
    space: LabelSpace

    @property
    def shares(self) -> dict[int, float]:
        """The share of the pixels of each class that occurs, 0..1, the largest first."""
        classes, counts = np.unique(self.codes[self.codes >= 0], return_counts=True)
        order = counts.argsort(kind="stable")[::-1]
        return {int(classes[i]): float(counts[i] / self.codes.size) for i in order}


def read_labelled(
    mask: str,
    model: str | None = None,
    classes: str | None = None,
    head: str | None = None,
    options: LabelOptions | None = None,
    storage_options: Mapping[str, str] | None = None,
) -> LabelledMap:
    """Read one label map: a file, `FILE.h5::/name` or a URL. By default its classes are those of the run that wrote it.

    `options` say what its values mean, `storage_options` are those of `open_store`.

    Of a model with several heads, `head` names one; by default it is the one whose folder holds the map. Raises
    LabelsError for a file that is no label map or has labels of no class, SettingsError for unknown models or heads.
    """
    options = options or LabelOptions()
    mask = local_path(mask)
    labelling = find_labelling(model, classes, options.binary, mask, options.labels, storage_options)
    space = _head(labelling, mask, head).labels
    own = None if recorded_classes(mask, storage_options) else labelling.own
    encoding = options.encoding(space, labelling.dataset, own)
    return LabelledMap(read_classes(_locate(mask, storage_options or {}), encoding), space)


def _locate(mask: str, storage_options: Mapping[str, str]) -> MapLocation:
    if is_url(mask):
        located = list(locate_in_bucket(mask, storage_options).values())
        if len(located) != 1:
            raise LabelsError(f"{mask} is no label map, or many; give the URL of one")
        return located[0]
    file, separator, inside = mask.partition("::")
    if not separator and not has_suffix(file, HDF5):
        return MapLocation(mask)
    from fcnseg.io.label_maps_hdf5 import locate_in_hdf5  # h5py takes a tenth of a second

    places = locate_in_hdf5(file, inside)
    if len(places) > 1:
        raise LabelsError(f"{mask} holds {len(places)} label maps; name one, e.g. {file}::/{next(iter(places))}")
    return next(iter(places.values()))


def _head(labelling: Labelling, mask: str, name: str | None) -> HeadRecipe:
    labelling.check_head(name)
    if name is None and len(labelling.heads) > 1:
        folders = Path(mask.replace("::", "/")).parts[:-1]
        name = next((head for head in labelling.names if head in folders), None)
        if name is None:
            heads = ", ".join(labelling.names)
            raise SettingsError(f"{labelling.model} has the heads {heads}; --head says whose map this is")
    return next(head for head in labelling.heads if name in (None, head.name))


def draw(
    pixels: NDArray[np.uint8], labelled: LabelledMap, opacity: float = 0.5, with_legend: bool = False
) -> Image.Image:
    """Draw the classes over an image, uint8 H x W x 3 RGB; `with_legend` puts those that occur beside it.

    `opacity` is 0..1. Void stays as the image. Raises LabelsError where the sizes differ.
    """
    codes, space = labelled.codes, labelled.space
    if pixels.shape[:2] != codes.shape:
        image_size, map_size = (f"{w} x {h}" for h, w in (pixels.shape[:2], codes.shape))
        raise LabelsError(
            f"the image is {image_size}, the label map {map_size} px; give an image with its own label map"
        )
    labels = np.where(codes < 0, max(space.ignore, space.classes), codes).astype(np.uint32)
    drawn = Image.fromarray(overlay(pixels, labels, space, opacity))
    shown = sorted(labelled.shares)
    if not (with_legend and shown):
        return drawn
    beside = legend(space, shown)
    size = drawn.width + MARGIN_PX + beside.width, max(drawn.height, beside.height)
    whole = Image.new("RGB", size, "white")
    whole.paste(drawn, (0, 0))
    whole.paste(beside, (drawn.width + MARGIN_PX, 0))
    return whole
