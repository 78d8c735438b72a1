"""Label maps in `.npy` files: one, or many of one size."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnseg.errors import LabelsError
from fcnseg.io.raw_map import MapLocation, check_memory, is_color, map_errors


def locate_in_npy(file: str) -> dict[str, MapLocation]:
    """Return the location of each map in a file, by its number; of one map alone, without a number.

    Whole numbers N x H x W are N maps, unless they are one-hot or colours; so are N x H x W x 3 colours and
    N x K x H x W floats. Raises LabelsError if the file cannot be read.
    """
    location = MapLocation(file)
    with map_errors(location):
        values = _mapped(file)
        if not _is_stack(values):
            return {"": location}
        return {f"{i:06}": MapLocation(file, number=i) for i in range(len(values))}


def read_npy(location: MapLocation) -> NDArray[Any]:
    """Read one map, which is not larger than its file. Raises LabelsError, or what NumPy does, without naming it."""
    values = _mapped(location.file)
    if location.number is not None:
        values = values[location.number]
    check_memory(values.nbytes)
    return np.array(values)


def _mapped(file: str) -> NDArray[Any]:
    mapped = np.load(file, mmap_mode="r", allow_pickle=False)
    if not isinstance(mapped, np.ndarray):
        mapped.close()
        raise LabelsError("is an archive of arrays; call it .npz")
    return mapped


def _is_stack(values: NDArray[Any]) -> bool:
    """Tell if an array is several maps."""
    if values.dtype.kind not in "biuf" or values.ndim not in (3, 4) or values.size == 0:
        return False
    if values.ndim == 4:
        return len(values) > 1 and (values.dtype.kind != "f" or values.shape[1] != 1)  # K x 1 x H x W is nnU-Net's
    if values.dtype.kind == "f" or is_color(values) or 1 in (len(values), values.shape[-1]):
        return False
    return not any(_is_one_hot(values, axis) for axis in (0, 2))


def _is_one_hot(values: NDArray[Any], axis: int) -> bool:
    return bool(values.min() >= 0 and values.max() <= 1 and (values.sum(axis, dtype=np.int64) == 1).all())
