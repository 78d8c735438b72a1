"""Label maps as files hold them, before their values are interpreted, and where they lie."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnseg.errors import LabelsError, StorageError
from fcnseg.labels import Color
from fcnseg.workers.limits import free_memory_bytes

SMALL_BYTES = 256 << 20
"""Maps of fewer bytes are read without a look at the memory."""


@dataclass(frozen=True)
class MapLocation:
    """The location of a map: a file and, in files of many, the dataset and its number."""

    file: str
    dataset: str = ""
    number: int | None = None

    def __str__(self) -> str:
        inside = f"::{self.dataset}" if self.dataset else ""
        return f"{self.file}{inside}" + (f"[{self.number}]" if self.number is not None else "")


@dataclass(frozen=True)
class RawMap:
    """The content of a file: values H x W (whole numbers, or fractions as floats), or colours H x W x 3 (uint8 RGB), or
    planes of classes, K x H x W or H x W x K (whole numbers: one-hot; floats: probabilities).

    `palette` is an indexed image's, `variable` the name in a `.mat` file, `confidence` the probability of each label,
    H x W, where it was kept beside labels. `floats`: whole numbers that were stored as floats.
    """

    values: NDArray[Any]
    palette: tuple[Color, ...] = ()
    variable: str = ""
    confidence: NDArray[Any] | None = None
    floats: bool = False

    @property
    def kind(self) -> str:
        """One of "labels", "fractions", "colors", "planes" (whole numbers) and "probabilities" (planes of floats)."""
        if self.values.ndim == 2:
            return "fractions" if self.values.dtype.kind == "f" else "labels"
        if self.values.dtype.kind == "f":
            return "probabilities"
        return "colors" if is_color(self.values) else "planes"


def is_color(values: NDArray[Any]) -> bool:
    """Tell if an array has the form of RGB pixels: uint8 H x W x 3."""
    return values.ndim == 3 and values.shape[2] == 3 and values.dtype == np.uint8


@contextmanager
def naming(location: MapLocation) -> Iterator[None]:
    """Begin the message of a LabelsError with the file."""
    try:
        yield
    except LabelsError as error:
        raise LabelsError(f"{location} {error}") from error


@contextmanager
def map_errors(location: MapLocation) -> Iterator[None]:
    """Turn everything that readers raise on a damaged or foreign file into one LabelsError that names it."""
    try:
        with naming(location):
            yield
    except (LabelsError, MemoryError, StorageError):
        raise
    except Exception as error:  # Pillow, NumPy, SciPy and h5py raise all kinds on damaged files
        raise LabelsError(f"{location} cannot be read: {_reason(error)}") from error


def check_memory(nbytes: int) -> None:
    """Raise LabelsError, without naming the file, for a map that says it is larger than the memory there is."""
    if nbytes > SMALL_BYTES and nbytes > free_memory_bytes():
        raise LabelsError(
            f"says it takes {nbytes} bytes, more than the memory that is free; it is damaged, or cut it up"
        )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    message = str(error).partition("\n")[0] or type(error).__name__
    if "cannot identify" in message:
        return "it is no image that can be read"
    return "it is no HDF5 file" if "file signature not found" in message else message


@lru_cache(maxsize=64)
def palette_colors(palette: bytes) -> tuple[Color, ...]:
    """Return the colours of a palette R, G, B, R, G, B ..."""
    return tuple(zip(*[iter(palette)] * 3, strict=False))
