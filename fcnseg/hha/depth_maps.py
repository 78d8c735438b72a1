"""Depth maps in files, each with its raw map if one is asked for: images as `fcnseg run` reads them, `.npy` arrays,
and HDF5."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fcnseg.errors import SettingsError, SourceError
from fcnseg.hha.arrays import read_array
from fcnseg.hha.encoding import Array
from fcnseg.hha.raw_maps import RawMaps
from fcnseg.io.folder_walk import walk
from fcnseg.io.folders import file_fingerprint
from fcnseg.io.names import is_hdf5_name
from fcnseg.io.sources import open_source
from fcnseg.io.suffixes import NUMPY, has_suffix
from fcnseg.types import Failure, Reference

MILLIMETRES, METRES = 1000.0, 1.0
"""Units of depth in a metre: in image files, and in `.npy` and HDF5 files."""


class DepthPair(NamedTuple):
    """A depth map H x W in metres, float64, and its raw map in any unit; None without one."""

    depth: Array
    raw: Array | None


class DepthMaps:
    """The depth maps of a source, and the `raw` ones that go with them. Folders in `exclude` are not entered.

    `scale` is the units of depth in a metre (None: 1000 in images, 1 in `.npy` and HDF5). Raises SettingsError for a
    scale that is none, SourceError for a source that cannot be read.
    """

    def __init__(
        self,
        source: str | Path,
        raw: str | Path | None = None,
        scale: float | None = None,
        exclude: tuple[Path, ...] = (),
    ) -> None:
        if scale is not None and not (np.isfinite(scale) and scale > 0):
            raise SettingsError(f"--depth-scale is {scale}; give how many units of depth a metre has, e.g. 1000")
        self.path, self.scale, self.exclude = os.fspath(source), scale, exclude
        is_file = Path(self.path).is_file()
        self.raw = None if raw is None else RawMaps(os.fspath(raw), is_for_one=is_file)
        self._images = None
        if not (is_file and has_suffix(self.path, NUMPY)):
            self._images = open_source(self.path, ("depth",), exclude=exclude)

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
        if self._images is None:
            yield _array_reference(Path(self.path).name, self.path)
        elif Path(self.path).is_dir():
            keys = (key for key in walk(self.path, (NUMPY,), self.exclude) if isinstance(key, str))
            yield from (_array_reference(key, str(Path(self.path, key))) for key in keys)

    def fingerprint(self, reference: Reference) -> str:
        """Return a text that changes when the depth map or its raw one does."""
        if self._images is None or _is_array(reference):
            own = file_fingerprint(reference.location)
        else:
            own = self._images.fingerprint(reference)
        return own if self.raw is None else f"{own} {self.raw.fingerprint(reference)}"

    def read(self, reference: Reference) -> DepthPair:
        """Read a depth map and its raw one. Raises ImageError."""
        raw = self.raw.read(reference) if self.raw else None
        if self._images is None or _is_array(reference):
            depth, scale = read_array(reference.location), METRES
        else:
            depth = self._images.load(reference).inputs["depth"][..., 0]
            scale = METRES if is_hdf5_name(self.path) else MILLIMETRES
        return DepthPair(depth.astype(np.float64) / (self.scale or scale), raw)

    def close(self) -> None:
        """Release open files."""
        if self._images:
            self._images.close()
        if self.raw:
            self.raw.close()


def _is_array(reference: Reference) -> bool:
    return isinstance(reference.location, str) and has_suffix(reference.location, NUMPY)


def _array_reference(key: str, path: str) -> Reference:
    return Reference(key, key[: -len(NUMPY)], "", path)
