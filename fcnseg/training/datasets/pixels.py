"""Pixels of images on disk, as `fcnseg run` sees them, and their sizes by their headers."""

from __future__ import annotations

import os
from functools import lru_cache, partial
from pathlib import Path

from fcnseg.errors import ImageError, SourceError
from fcnseg.io.hdf5_images import Hdf5Images, Hdf5Location
from fcnseg.io.images import MAX_PIXELS, READERS, OnSize, announced_size
from fcnseg.io.raw_map import MapLocation
from fcnseg.types import Pixels


def read_pixels(location: MapLocation, modality: str) -> Pixels:
    """Read an image. Raises SourceError that names it."""
    return _decoded(location, modality, lambda height, width: None)


def image_size(location: MapLocation, modality: str) -> tuple[int, int]:
    """Return the upright height and width of an image, px, by its header. Raises SourceError that names it."""
    return announced_size(partial(_decoded, location, modality))


def _decoded(location: MapLocation, modality: str, on_size: OnSize) -> Pixels:
    try:
        if not location.dataset:
            return READERS[modality](Path(location.file), MAX_PIXELS, on_size)
        root = location.dataset if location.number is not None else location.dataset.rpartition("/")[0] or "/"
        place = Hdf5Location(location.dataset, location.number)
        return _open_hdf5_images(location.file, root, modality).read(place, modality, MAX_PIXELS, on_size)
    except (ImageError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SourceError(f"{location}: {reason}; replace it, or take it out of the data set") from error


@lru_cache(maxsize=8)
def _open_hdf5_images(file: str, root: str, modality: str) -> Hdf5Images:
    return Hdf5Images(f"{file}::{root}", modality)


def close_hdf5_images() -> None:
    """Close the HDF5 files that this process keeps open between reads."""
    _open_hdf5_images.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=close_hdf5_images)  # two processes must not share an open HDF5 file
