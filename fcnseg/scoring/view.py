"""One label map to look at: its classes drawn over the image, with their shares and a legend."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fcnseg.errors import LabelsError, SettingsError
from fcnseg.io.overlays import legend, overlay
from fcnseg.io.raw_map import MapLocation
from fcnseg.io.suffixes import HDF5, has_suffix
from fcnseg.labels import LabelSpace
from fcnseg.recipes import HeadRecipe
from fcnseg.scoring.confusion import Map
from fcnseg.scoring.counting import read_classes
from fcnseg.scoring.labelling import Labelling, find_labelling
from fcnseg.scoring.meaning import Meaning, color_codes

if TYPE_CHECKING:
    from PIL.Image import Image

MARGIN_PX = 8


@dataclass(frozen=True)
class Labelled:
    """A label map: codes H x W (classes, negative where void) and what they mean."""

    codes: Map
    space: LabelSpace

    @property
    def shares(self) -> dict[int, float]:
        """The share of the pixels of each class that occurs, 0..1, the largest first."""
        found, counts = np.unique(self.codes[self.codes >= 0], return_counts=True)
        order = counts.argsort(kind="stable")[::-1]
        return {int(found[i]): float(counts[i] / self.codes.size) for i in order}


def read_labelled(mask: str, model: str | None = None, classes: str | None = None, head: str | None = None) -> Labelled:
    """Read one label map of a model, a file or `FILE.h5::/name`; by default of the run that wrote it, else the default
    model.

    Of a model of several heads, `head` says which; by default the one whose folder holds the map. Raises LabelsError
    for what is no label map or has labels of no class, SettingsError for unknown models or heads.
    """
    chosen = _head(find_labelling(model, classes, False, mask), mask, head)
    space, place = chosen.labels, _place(mask)
    return Labelled(read_classes(place, Meaning(space, colors=color_codes(space), checked=False)), space)


def _place(mask: str) -> MapLocation:
    file, separator, inside = mask.partition("::")
    if not separator and not has_suffix(file, HDF5):
        return MapLocation(mask)
    from fcnseg.io.label_maps_hdf5 import locate_in_hdf5  # h5py takes a tenth of a second

    places = locate_in_hdf5(file, inside)
    if len(places) > 1:
        raise LabelsError(f"{mask} holds {len(places)} label maps; name one, e.g. {file}::/{next(iter(places))}")
    return next(iter(places.values()))


def _head(labelling: Labelling, mask: str, wanted: str | None) -> HeadRecipe:
    names = [head.name for head in labelling.heads]
    folders = Path(mask.replace("::", "/")).parts[:-1]
    if wanted is None and len(names) > 1:
        wanted = next((name for name in names if name in folders), None)
        if wanted is None:
            raise SettingsError(f"{labelling.model} has the heads {', '.join(names)}; --head says whose map this is")
    for head in labelling.heads:
        if wanted in (None, head.name):
            return head
    raise SettingsError(f"{labelling.model or 'this'} has no head {wanted}; it has {', '.join(names)}")


def draw(pixels: NDArray[np.uint8], labelled: Labelled, opacity: float = 0.5, with_legend: bool = False) -> Image:
    """The image, uint8 H x W x 3 RGB, with the classes drawn over it; with a legend of those that occur beside it.

    `opacity` is 0..1. Void stays as the image. Raises LabelsError where the sizes differ.
    """
    from PIL import Image

    codes, space = labelled.codes, labelled.space
    if pixels.shape[:2] != codes.shape:
        ours, theirs = (f"{w} x {h}" for h, w in (pixels.shape[:2], codes.shape))
        raise LabelsError(f"the image is {ours}, the label map {theirs} px; give an image with its own label map")
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
