"""Ground truth of training: label maps as classes, and their sizes by their headers."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from fcnseg.errors import LabelsError, require
from fcnseg.io import orientation
from fcnseg.io.conventions import VARIABLES, one_based_variables
from fcnseg.io.hdf5 import node_at, open_hdf5
from fcnseg.io.image_kinds import START_BYTES, kind_of
from fcnseg.io.image_opening import FORMATS
from fcnseg.io.raw_map import MapLocation
from fcnseg.io.suffixes import IMAGES, MATLAB, NUMPY, has_suffix
from fcnseg.io.tiff import picture_of
from fcnseg.recipes import HeadRecipe
from fcnseg.scoring.codes import FOREIGN, codes_of
from fcnseg.scoring.colors import color_codes
from fcnseg.scoring.confusion import Map
from fcnseg.scoring.label_encoding import LabelEncoding, read_class_map
from fcnseg.types import Labels

Size = tuple[int, int]
"""Height and width, px."""

TURNED = "its EXIF data turn it, which labels are not; save it upright without them"


def ground_truth(
    head: HeadRecipe, void: Iterable[int] = (), one_based: Mapping[str, tuple[int, ...]] | None = None
) -> LabelEncoding:
    """Return the label encoding of a head's label maps: as in `fcnseg score`, except that palettes are not checked.

    Values in `void` are void besides the head's `ignore`. With the `one_based` variables of a data set, labels count
    from 1 whatever the head's classes are, and whatever the variable is called.
    """
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


def read_labels(location: MapLocation, encoding: LabelEncoding) -> Labels:
    """Read a label map H x W of classes and `ignore`. Raises LabelsError that names a value of no class."""
    try:
        codes = _codes(location, encoding)
    except LabelsError as error:
        fault, _, advice = str(error).rpartition("; ")
        if not fault or "--" in advice:  # of other commands
            place = "the attributes classes and colors" if location.dataset else "classes.txt, void as the last"
            own_advice = f"correct the label map, or name the classes with their colours in {place}"
            fault, advice = fault or advice, own_advice
        raise LabelsError(f"{fault}; {advice}") from error
    if (codes == FOREIGN).any():
        raise LabelsError(_describe_foreign(location, codes, encoding))
    ignore = encoding.space.ignore
    return np.where(codes < 0, ignore, codes).astype(np.uint8 if ignore < 256 else np.uint16)


def _codes(location: MapLocation, encoding: LabelEncoding) -> Map:
    read = read_class_map(location, encoding)
    if read.soft:
        raise LabelsError(f"{location} holds probabilities; ground truth is whole numbers, or one-hot")
    return codes_of(read.values, read.table)


def _describe_foreign(location: MapLocation, codes: np.ndarray[Any, Any], encoding: LabelEncoding) -> str:
    read = read_class_map(location, encoding)
    values, counts = np.unique(read.values[codes == FOREIGN], return_counts=True)
    more = f" (and {len(values) - 1} more values)" if len(values) > 1 else ""
    void = ", ".join(map(str, sorted(encoding.void)))
    place = _place_of_classes(location)
    return (
        f"{location} has label {values[0]} on {counts[0]} pixels{more}, but there are {encoding.space.classes} "
        f"classes, and void is {void}; correct the label map, name all classes in {place}, or say with "
        "--ignore, --reduce-labels, --labels or --label-map what the values mean"
    )


def _place_of_classes(location: MapLocation) -> str:
    if not location.dataset:
        return "the data set's classes.txt"
    return "the attribute `classes` of its dataset of labels (a list of texts, one of them perhaps void)"


def check_binary_masks(locations: Iterable[MapLocation], encoding: LabelEncoding) -> None:
    """Raise LabelsError for masks of 0 and 255, in which the second of two classes would be void.

    Reads label maps until one has the second class (1).
    """
    if encoding.binary or (encoding.space.classes, encoding.space.ignore) != (2, 255):
        return
    masks = []
    for location in locations:
        values = read_labels(location, encoding)
        if (values == 1).any():
            return
        if (values == 255).any():
            masks.append(location)
    if masks:
        name = encoding.space.names[1]
        raise LabelsError(
            f"no label map has {name} (1), but {len(masks)} have 255, which is void, the first {masks[0]}; save {name} "
            "as 1, or give --binary"
        )


# ---------------------------------------------------------------------- sizes


def label_map_size(location: MapLocation) -> Size | None:
    """Return the size of a label map by its header; None where that does not tell it.

    Raises LabelsError for a damaged file.
    """
    try:
        if location.dataset:
            return _dataset_size(location.file, location.dataset, has_suffix(location.file, MATLAB))
        if has_suffix(location.file, IMAGES):
            return _image_size(location.file)
        if has_suffix(location.file, NUMPY):
            return _array_size(np.load(location.file, mmap_mode="r"))
        if has_suffix(location.file, MATLAB):
            return _mat_size(location.file)
    except LabelsError as error:
        raise LabelsError(f"{location}: {error}") from error
    except Exception as error:  # Pillow and SciPy raise all kinds on damaged files
        raise LabelsError(f"{location} cannot be read: {error or type(error).__name__}; replace the file") from error
    return None


def _image_size(file: str) -> Size:
    with Path(file).open("rb") as content:
        if kind_of(content.read(START_BYTES)) == "TIFF":
            picture = picture_of(content)
            if picture.orientation != 1:
                raise LabelsError(TURNED)
            return picture.height, picture.width
    with Image.open(file, formats=FORMATS) as image:
        if image.format in ("JPEG", "MPO", "WEBP"):
            raise LabelsError(f"{image.format} changes labels, keep them as PNG")
        # getexif of a PNG would decode its pixels, that of its base class reads the header alone
        if Image.Image.getexif(image).get(orientation.TAG, 1) != 1:
            raise LabelsError(TURNED)
        return image.height, image.width


def _mat_size(file: str) -> Size | None:
    require("scipy")
    from scipy.io import whosmat

    try:
        shapes = {name: shape for name, shape, kind in whosmat(file) if name in VARIABLES and kind != "struct"}
    except NotImplementedError:  # version 7.3
        return None
    shape: tuple[int, ...] = next(iter(shapes.values()), ())
    return (shape[0], shape[1]) if len(shape) == 2 else None


@lru_cache(maxsize=256)
def _dataset_size(file: str, dataset: str, matlab: bool) -> Size | None:
    """Return the size of the label maps in a dataset of an HDF5 file; None if they are RGB."""
    with open_hdf5(file) as opened:
        node = node_at(opened, dataset)
        if not isinstance(node, h5py.Dataset):
            raise LabelsError("is no dataset")
        size = _plane_size(node)
    return size[::-1] if size and matlab else size


def forget_sizes() -> None:
    """Drop the sizes kept of HDF5 files, which may change between two checks."""
    _dataset_size.cache_clear()


def _array_size(values: np.ndarray[Any, Any]) -> Size | None:
    """Return the size of an array H x W; None if it has more axes, whose order its values tell."""
    if values.dtype.kind not in "biuf" or values.ndim < 2:
        raise LabelsError(_no_map(values))
    return (values.shape[0], values.shape[1]) if values.ndim == 2 else None


def _no_map(values: np.ndarray[Any, Any] | h5py.Dataset) -> str:
    shape = " x ".join(map(str, values.shape)) or "a single value"
    return f"holds {values.dtype} {shape}; ground truth is whole numbers H x W, or RGB"


def _plane_size(values: np.ndarray[Any, Any] | h5py.Dataset) -> Size | None:
    """Return the last two axes, None if the last one is channels. Raises LabelsError if it is no label map."""
    if values.dtype.kind not in "biu" or values.ndim < 2:
        raise LabelsError(_no_map(values))
    return None if values.shape[-1] in (1, 3) else (values.shape[-2], values.shape[-1])
