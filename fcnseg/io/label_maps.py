"""Label maps as people keep them (images, `.npy`, `.npz`, `.mat`, HDF5), read without interpreting their values."""

from __future__ import annotations

import math
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnseg.errors import LabelsError
from fcnseg.io.image_kinds import START_BYTES, kind_of
from fcnseg.io.label_maps_npy import read_npy
from fcnseg.io.label_maps_remote import RemoteLocation
from fcnseg.io.png import read_unfiltered
from fcnseg.io.raw_map import MapLocation, RawMap, check_memory, is_color, map_errors, palette_colors
from fcnseg.io.suffixes import MATLAB, NUMPY, NUMPY_ARCHIVE, has_suffix

PROBABILITY_ARRAYS = {"probabilities", "softmax"}
"""Names of the probabilities in archives of nnU-Net's two versions, K x H x W or K x 1 x H x W."""

LABEL_ARRAYS = {"label", "labels", "mask", "segmentation", "seg", "gt", "prediction", "pred"}


def read_map(location: MapLocation) -> RawMap:
    """Read one map. Raises LabelsError that names its location and says what is wrong with it."""
    with map_errors(location):
        return _checked(_read(location))


def _read(location: MapLocation) -> RawMap:
    """Read one map with the reader of its format; each is imported with its library when a file needs it."""
    if isinstance(location, RemoteLocation):
        return _read_remote(location)
    file = location.file
    if not Path(file).is_file():
        Path(file).stat()
        raise LabelsError("is no regular file")  # a named pipe, for which one would wait
    if location.dataset:
        from fcnseg.io.label_maps_hdf5 import read_from_hdf5

        return read_from_hdf5(location)
    if has_suffix(file, NUMPY):
        return RawMap(read_npy(location))
    if has_suffix(file, NUMPY_ARCHIVE):
        return _read_npz(file)
    if has_suffix(file, MATLAB):
        from fcnseg.io.label_maps_matlab import read_from_mat

        return read_from_mat(file)
    check_memory(Path(file).stat().st_size)
    return _read_picture(Path(file).read_bytes())


def _read_picture(data: bytes) -> RawMap:
    """Read the bytes of an image."""
    if plain := read_unfiltered(data):
        return RawMap(plain[0], palette_colors(plain[1]))
    if kind_of(data[:START_BYTES]) == "TIFF":
        from fcnseg.io.label_maps_tiff import read_from_tiff

        return read_from_tiff(data)
    from fcnseg.io.label_maps_image import read_from_image

    return read_from_image(data)


def _read_remote(location: RemoteLocation) -> RawMap:
    """Read an object; the readers of arrays get it in a temporary file."""
    data = location.content(check_memory)
    if not has_suffix(location.name, (NUMPY, NUMPY_ARCHIVE, MATLAB)):
        return _read_picture(data)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / PurePosixPath(location.name).name
        copy.write_bytes(data)
        return _read(MapLocation(str(copy)))


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


def _read_npz(file: str) -> RawMap:
    """Read the one map of an archive of arrays.

    That is what `fcnseg run --top-k` writes (`classes` and `probabilities`, k x H x W, the most probable first),
    probabilities as nnU-Net writes them, an array alone, or the one among others whose name says that it is labels.
    """
    _check_npz(file)
    with np.load(file, allow_pickle=False) as arrays:
        names = set(arrays)
        if names == {"classes", "probabilities"} and arrays["classes"].shape == arrays["probabilities"].shape:
            return RawMap(arrays["classes"][0], confidence=arrays["probabilities"][0])
        for known in (PROBABILITY_ARRAYS, names if len(names) == 1 else set(), LABEL_ARRAYS):
            if len(chosen := names & known) == 1:
                return RawMap(arrays[chosen.pop()])
        raise LabelsError(
            f"holds {', '.join(arrays) or 'nothing'}; expected one array, or one called probabilities or labels, or "
            "classes and probabilities, k x H x W"
        )


def _checked(raw: RawMap) -> RawMap:
    """Return a map in one of the forms of `RawMap`. Raises LabelsError, without naming the file, if it has none."""
    values = raw.values.astype(np.uint8) if raw.values.dtype == bool else raw.values
    values = _without_single_axes(values)
    floats = values.ndim == 2 and values.dtype.kind == "f"
    if floats:
        wide = values.astype(np.float64)
        whole = (np.abs(wide) < 1 << 53) & (wide == np.floor(wide))
        if raw.variable and not whole.all():
            raise LabelsError(f"holds {values.dtype} values H x W; label maps must be whole numbers")
        values = values.astype(np.int64) if whole.all() else values
    if values.dtype.kind not in "iuf" or values.ndim not in (2, 3):
        shape = " x ".join(map(str, raw.values.shape)) or "a single value"
        raise LabelsError(
            f"holds {values.dtype} {shape}; a label map is whole numbers H x W (or RGB), probabilities are K x H x W"
        )
    if values.size == 0:
        raise LabelsError("is empty")
    if values.dtype == np.uint64 and values.max() > np.iinfo(np.int64).max:
        raise LabelsError(f"holds the value {values.max()}; labels must fit 63 bits")
    return replace(raw, values=values, floats=floats and values.dtype.kind != "f")


def _without_single_axes(values: NDArray[Any]) -> NDArray[Any]:
    """Return an array without the axes of length 1 beside rows and columns: H x W x 1, 1 x H x W, K x 1 x H x W ..."""
    while values.ndim > 2 and not is_color(values):
        candidates = (-1, 0) if values.ndim == 3 else (0, -1, 1)
        axis = next((axis for axis in candidates if values.shape[axis] == 1), None)
        if axis is None:
            break
        values = values.squeeze(axis)
    return values
