"""Label maps of training: their values as classes, and what may be known of them before they are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import h5py
import numpy as np
from PIL import Image

from fcnseg.errors import LabelsError
from fcnseg.io.conventions import VARIABLES
from fcnseg.io.hdf5 import open_hdf5
from fcnseg.io.label_maps import read_map
from fcnseg.io.raw_map import MapLocation
from fcnseg.io.suffixes import IMAGES, MATLAB, NUMPY, has_suffix
from fcnseg.scoring.coded_maps import read_codes
from fcnseg.scoring.label_encoding import FOREIGN, LabelEncoding
from fcnseg.types import Labels

ORIENTATION = 0x0112
"""The EXIF tag that says how an image is turned."""

Size = tuple[int, int]
"""Height and width, px."""


def read_labels(place: MapLocation, meaning: LabelEncoding) -> Labels:
    """A label map H x W of classes and `ignore`. Raises LabelsError that names the file, and a value of no class."""
    try:
        codes = read_codes(place, meaning)
    except LabelsError as error:
        fault, _, advice = str(error).rpartition("; ")
        if not fault or "--" in advice:  # of other commands
            advised = "correct the label map, or name the classes with their colours in classes.txt, void as the last"
            fault, advice = fault or advice, advised
        raise LabelsError(f"{fault}; {advice}") from error
    if (codes == FOREIGN).any():
        raise LabelsError(_foreign(place, codes, meaning))
    ignore = meaning.space.ignore
    return np.where(codes < 0, ignore, codes).astype(np.uint8 if ignore < 256 else np.uint16)


def check_masks(places: Iterable[MapLocation], meaning: LabelEncoding) -> None:
    """Of two classes, raise LabelsError if the second never occurs, but 255, which is void: masks of 0 and 255."""
    if (meaning.space.classes, meaning.space.ignore) != (2, 255):
        return
    masks = []
    for place in places:
        values = read_labels(place, meaning)
        if (values == 1).any():
            return
        if (values == 255).any():
            masks.append(place)
    if masks:
        name = meaning.space.names[1]
        raise LabelsError(
            f"no label map has {name} (1), but {len(masks)} have 255, which is void, the first {masks[0]}; save {name} "
            "as 1"
        )


def _foreign(place: MapLocation, codes: np.ndarray[Any, Any], meaning: LabelEncoding) -> str:
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


def labels_size(place: MapLocation) -> Size | None:
    """The size of a label map by its header; None where that says nothing. Raises LabelsError for a damaged file."""
    try:
        if place.dataset:
            return dataset_size(place.file, place.dataset, has_suffix(place.file, MATLAB))
        if has_suffix(place.file, IMAGES):
            with Image.open(place.file) as image:
                if image.format in ("JPEG", "MPO", "WEBP"):
                    raise LabelsError(f"{image.format} changes labels, keep them as PNG")
                if Image.Image.getexif(image).get(ORIENTATION, 1) != 1:
                    raise LabelsError("its EXIF data turn it, which labels are not; save it upright without them")
                return image.height, image.width
        if has_suffix(place.file, NUMPY):
            return _plane(np.load(place.file, mmap_mode="r"))
        if has_suffix(place.file, MATLAB):
            return _mat_size(place.file)
    except LabelsError as error:
        raise LabelsError(f"{place}: {error}") from error
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
def dataset_size(file: str, dataset: str, matlab: bool) -> Size | None:
    """The size of the label maps in a dataset of an HDF5 file; None where they have colours."""
    with open_hdf5(file) as opened:
        size = _plane(opened[dataset])
    return size[::-1] if size and matlab else size


def _plane(values: np.ndarray[Any, Any] | h5py.Dataset) -> Size | None:
    """The last two axes, None if the last has channels. Raises LabelsError for what is no label map."""
    if values.dtype.kind not in "biu" or values.ndim < 2:
        shape = " x ".join(map(str, values.shape)) or "a single value"
        raise LabelsError(f"holds {values.dtype} {shape}; ground truth is whole numbers H x W, or RGB")
    return None if values.shape[-1] in (1, 3) else (values.shape[-2], values.shape[-1])
