"""Label maps as people keep them (images, `.npy`, `.npz`, `.mat`, HDF5), read without interpreting their values."""

from __future__ import annotations

import math
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnseg.errors import LabelsError
from fcnseg.io.png import read_unfiltered
from fcnseg.io.raw_map import MapLocation, RawMap, check_memory, map_errors, palette_colors
from fcnseg.io.suffixes import MATLAB, NUMPY, NUMPY_ARCHIVE, has_suffix


def read_map(location: MapLocation) -> RawMap:
    """Read one map. Raises LabelsError that names its location and says what is wrong with it."""
    with map_errors(location):
        return _checked(_read(location))


def _read(location: MapLocation) -> RawMap:
    """Read one map with the reader of its format; each is imported with its library when a file needs it."""
    file = location.file
    if not Path(file).is_file():
        Path(file).stat()
        raise LabelsError("is no regular file")  # a named pipe, for which one would wait
    if location.dataset:
        from fcnseg.io.label_maps_hdf5 import read_from_hdf5

        return read_from_hdf5(location)
    if has_suffix(file, NUMPY):
        return RawMap(_read_npy(file))
    if has_suffix(file, NUMPY_ARCHIVE):
        return _read_top_k(file)
    if has_suffix(file, MATLAB):
        from fcnseg.io.label_maps_matlab import read_from_mat

        return read_from_mat(file)
    check_memory(Path(file).stat().st_size)
    data = Path(file).read_bytes()
    if plain := read_unfiltered(data):
        return RawMap(plain[0], palette_colors(plain[1]))
    from fcnseg.io.label_maps_image import read_from_image

    return read_from_image(data)


def _read_npy(file: str) -> NDArray[Any]:
    """Read an array, which is not larger than its file."""
    mapped = np.load(file, mmap_mode="r", allow_pickle=False)
    if not isinstance(mapped, np.ndarray):
        mapped.close()
        raise LabelsError("is an archive of arrays; call it .npz")
    check_memory(mapped.nbytes)
    return np.array(mapped)


def _check_npz(file: str) -> None:
    """Raise LabelsError if the arrays of an archive unpack to more than they say, or than there is memory for."""
    total = 0
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            with archive.open(member) as array:
                version = np.lib.format.read_magic(array)
                read = {(1, 0): np.lib.format.read_array_header_1_0}.get(version, np.lib.format.read_array_header_2_0)
                shape, _, dtype = read(array)
                total += math.prod(shape) * dtype.itemsize
                if math.prod(shape) * dtype.itemsize > member.file_size:
                    raise LabelsError(f"says that {member.filename} is larger than it is")
    check_memory(total)


def _read_top_k(file: str) -> RawMap:
    """Read what `fcnseg run --top-k` writes: `classes` and `probabilities`, k x H x W, the most probable first."""
    _check_npz(file)
    with np.load(file, allow_pickle=False) as arrays:
        if set(arrays) != {"classes", "probabilities"} or arrays["classes"].shape != arrays["probabilities"].shape:
            raise LabelsError(f"holds {', '.join(arrays)}; expected classes and probabilities, k x H x W")
        return RawMap(arrays["classes"][0], confidence=arrays["probabilities"][0])


def _checked(raw: RawMap) -> RawMap:
    """Return a map in one of the forms of `RawMap`. Raises LabelsError, without naming the file, if it has none."""
    values = raw.values
    if values.dtype == bool:
        values = values.astype(np.uint8)
    colors = values.ndim == 3 and values.shape[2] == 3 and values.dtype == np.uint8
    if values.ndim == 3 and values.shape[0] == 1 and values.dtype.kind in "iu" and not colors:
        values = values[0]
    if values.ndim == 2 and values.dtype.kind == "f":
        whole = (np.abs(values) < 1 << 53) & (values == np.floor(values))
        if not raw.variable or not whole.all():  # MATLAB's numbers are floats by default
            raise LabelsError(f"holds {values.dtype} values H x W; label maps must be whole numbers")
        values = values.astype(np.int64)
    colors = values.ndim == 3 and values.shape[2] == 3 and values.dtype == np.uint8
    if not (
        (values.dtype.kind in "iu" and (values.ndim == 2 or colors)) or (values.dtype.kind == "f" and values.ndim == 3)
    ):
        shape = " x ".join(map(str, values.shape)) or "a single value"
        raise LabelsError(
            f"holds {values.dtype} {shape}; a label map is whole numbers H x W (or RGB), probabilities are K x H x W"
        )
    if values.size == 0:
        raise LabelsError("is empty")
    if values.dtype == np.uint64 and values.max() > np.iinfo(np.int64).max:
        raise LabelsError(f"holds the value {values.max()}; labels must fit 63 bits")
    return replace(raw, values=values)
