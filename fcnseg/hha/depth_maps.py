"""Depth maps of a folder, file, archive or HDF5 dataset: images as `fcnseg run` reads them, and `.npy` arrays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fcnseg.errors import ImageError, SourceError
from fcnseg.hha.encoding import Array
from fcnseg.io.folder_walk import walk
from fcnseg.io.names import is_hdf5_name
from fcnseg.io.sources import open_source
from fcnseg.io.suffixes import NUMPY, has_suffix
from fcnseg.types import Failure, Reference

MILLIMETRES, METRES = 1000.0, 1.0
"""Units of depth in a metre: in image files, and in `.npy` and HDF5 files."""


class DepthMaps:
    """The depth maps of a source. Folders in `exclude` are not entered."""

    def __init__(self, source: str | Path, exclude: tuple[Path, ...] = ()) -> None:
        self.path, self.exclude = os.fspath(source), exclude
        self.single_array = has_suffix(self.path, NUMPY) and Path(self.path).is_file()
        self._images = None if self.single_array else open_source(self.path, ("depth",), exclude=exclude)

    def __iter__(self) -> Iterator[Reference | Failure]:
        """List the images, then the arrays. Raises SourceError at the end if there was neither."""
        arrays = list(self._arrays())
        try:
            yield from self._images or ()
        except SourceError:
            if not arrays:
                raise
        yield from arrays

    def _arrays(self) -> Iterator[Reference]:
        if self.single_array:
            yield _array_reference(Path(self.path).name, self.path)
        elif Path(self.path).is_dir():
            keys = (key for key in walk(self.path, (NUMPY,), self.exclude) if isinstance(key, str))
            yield from (_array_reference(key, str(Path(self.path, key))) for key in keys)

    def read(self, reference: Reference) -> tuple[Array, float]:
        """Read a depth map H x W and the units of its depth in a metre. Raises ImageError."""
        if self._images is None or (isinstance(reference.location, str) and has_suffix(reference.location, NUMPY)):
            return _read_array(reference.location), METRES
        depth = self._images.load(reference).inputs["depth"][..., 0]
        return depth, METRES if is_hdf5_name(self.path) else MILLIMETRES


def _array_reference(key: str, path: str) -> Reference:
    return Reference(key, key[: -len(NUMPY)], "", path)


def _read_array(file: str) -> Array:
    try:
        depth: Array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ImageError(f"cannot be read: {' '.join(str(error).split())}") from error
    if depth.ndim != 2 or depth.dtype.kind not in "uif" or not depth.size:
        raise ImageError(f"holds {depth.dtype} {' x '.join(map(str, depth.shape))}; a depth map is H x W numbers")
    return depth
