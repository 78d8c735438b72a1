"""Sizes of label maps by their headers, so that a data set is checked without decoding its pixels."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import h5py
import numpy as np
from PIL import Image
from scipy.io import whosmat

from fcnseg.errors import LabelsError
from fcnseg.io import orientation
from fcnseg.io.conventions import VARIABLES
from fcnseg.io.hdf5 import node_at, open_hdf5
from fcnseg.io.raw_map import MapLocation
from fcnseg.io.suffixes import IMAGES, MATLAB, NUMPY, has_suffix

Size = tuple[int, int]
"""Height and width, px."""


def check_sizes(sizes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise LabelsError unless all sizes are equal; keys are file names."""
    (first, size), *others = sizes.items()
    for name, other_size in others:
        if other_size != size:
            turned = "; one of them is turned" if other_size == size[::-1] else ""
            (h, w), (other_h, other_w) = size, other_size
            raise LabelsError(f"{first} is {w} x {h}, but {name} {other_w} x {other_h} px{turned}; sizes must agree")


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
            return _plane_size(np.load(location.file, mmap_mode="r"))
        if has_suffix(location.file, MATLAB):
            return _mat_size(location.file)
    except LabelsError as error:
        raise LabelsError(f"{location}: {error}") from error
    except Exception as error:  # Pillow and SciPy raise all kinds on damaged files
        raise LabelsError(f"{location} cannot be read: {error or type(error).__name__}; replace the file") from error
    return None


def _image_size(file: str) -> Size:
    with Image.open(file) as image:
        if image.format in ("JPEG", "MPO", "WEBP"):
            raise LabelsError(f"{image.format} changes labels, keep them as PNG")
        # getexif of a PNG would decode its pixels, that of its base class reads the header alone
        if Image.Image.getexif(image).get(orientation.TAG, 1) != 1:
            raise LabelsError("its EXIF data turn it, which labels are not; save it upright without them")
        return image.height, image.width


def _mat_size(file: str) -> Size | None:
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


def forget_dataset_sizes() -> None:
    """Drop the sizes kept of HDF5 files, which may change between two checks."""
    _dataset_size.cache_clear()


def _plane_size(values: np.ndarray[Any, Any] | h5py.Dataset) -> Size | None:
    """Return the last two axes, None if the last one is channels. Raises LabelsError if it is no label map."""
    if values.dtype.kind not in "biu" or values.ndim < 2:
        shape = " x ".join(map(str, values.shape)) or "a single value"
        raise LabelsError(f"holds {values.dtype} {shape}; ground truth is whole numbers H x W, or RGB")
    return None if values.shape[-1] in (1, 3) else (values.shape[-2], values.shape[-1])
