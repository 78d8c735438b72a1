"""Raw depth maps: what the sensor measured, before the holes were filled."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fcnseg.errors import ImageError, SettingsError, SourceError
from fcnseg.hha.arrays import read_array
from fcnseg.hha.encoding import Array
from fcnseg.io.folders import CompanionFolder, ImageFiles, file_fingerprint
from fcnseg.io.image_source import CompanionCollection
from fcnseg.io.images import MAX_PIXELS, ignore_size
from fcnseg.io.names import is_hdf5_name
from fcnseg.io.suffixes import NUMPY, has_suffix
from fcnseg.types import Reference

NAME = "raw depth"
"""The kind of these maps in messages."""


class RawMaps:
    """The raw maps of a folder or an HDF5 dataset, each found by its depth map's name or number; or one in a file, for
    a source of one."""

    def __init__(self, place: str, is_for_one: bool) -> None:
        self.place = place
        self._images: CompanionCollection
        if is_hdf5_name(place) and not Path(place).is_dir():
            from fcnseg.io.hdf5_images import Hdf5Images  # h5py takes a tenth of a second

            self._images = Hdf5Images(place, "depth")
        elif Path(place).is_dir():
            self._images = CompanionFolder(place, NAME)
        elif not Path(place).is_file():
            raise SourceError(f"--raw {place} does not exist; give the folder of the raw depth maps, or FILE.h5::/NAME")
        elif not is_for_one:
            raise SettingsError(f"--raw {place} is one file; give a folder whose raw maps have the depth maps' names")
        else:
            self._images = _OneFile(place)

    def read(self, reference: Reference) -> Array:
        """Read the raw map H x W of a depth map, in its own unit. Raises ImageError if there is none, or another."""
        location = self._find(reference)
        try:
            if isinstance(location, str) and has_suffix(location, NUMPY):
                return read_array(location)
            raw: Array = self._images.read(location, "depth", MAX_PIXELS, ignore_size)[..., 0]
        except ImageError as error:
            raise ImageError(f"its {NAME} {error}") from error
        return raw

    def _find(self, reference: Reference) -> Any:
        places = [path for path in self._arrays(reference) if os.path.lexists(path)]
        try:
            places.append(self._images.find(reference))
        except ImageError:
            if not places:
                raise
        if len(places) > 1:
            raise ImageError(f"{len(places)} {NAME} maps named {reference.stem} in {self.place}; there must be one")
        return places[0]

    def _arrays(self, reference: Reference) -> list[str]:
        folder = isinstance(self._images, CompanionFolder)
        return [f"{self.place}/{reference.stem}{suffix}" for suffix in (NUMPY, NUMPY.upper()) if folder]

    def fingerprint(self, reference: Reference) -> str:
        """Return a text that changes when the raw map of a depth map does."""
        try:
            location = self._find(reference)
        except ImageError:
            return "missing"
        return file_fingerprint(location) if isinstance(location, str) else self._images.fingerprint(location)

    def close(self) -> None:
        """Release open files."""
        self._images.close()


class _OneFile(ImageFiles):
    """The one raw map of a source of one."""

    def __init__(self, path: str) -> None:
        self.path = path

    def find(self, reference: Reference) -> str:  # noqa: ARG002 - there is no other
        """Return its path."""
        return self.path
