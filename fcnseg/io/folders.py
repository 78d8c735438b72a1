"""Images in folders, and images of a second modality found beside them by name."""

from __future__ import annotations

import os
import threading
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from heapq import merge
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from fcnseg.errors import ImageError, SourceError
from fcnseg.io.images import READERS, OnSize
from fcnseg.io.names import stem_of
from fcnseg.io.suffixes import IMAGES, has_suffix
from fcnseg.types import Failure, Pixels, Reference

RUN = 1 << 16
"""How many names are sorted at once."""

PIECE = 256
"""How many names are apart in memory at once, of each run."""


class ImageFiles:
    """What collections of image files share: a reference's place is the file's path."""

    def read(self, place: Any, modality: str, max_pixels: int, on_size: OnSize) -> Pixels:
        """Decode one file."""
        return READERS[modality](Path(place), max_pixels, on_size)

    def fingerprint(self, place: Any) -> str:
        """A text that changes when the file does."""
        return file_fingerprint(place)

    def close(self) -> None:
        """Nothing stays open between reads."""


class ImageFolder(ImageFiles):
    """The image files below a folder by relative path, in the order of their keys.

    Hidden names are left out, symbolic links followed (each real folder once, folders in `exclude` never). A folder
    that cannot be listed is a failure, as is one that is called like an image and holds none. Only one folder's names
    are in memory, packed, and the identities of the folders seen. Raises SourceError if `path` cannot be listed.
    """

    def __init__(self, path: str, exclude: tuple[Path, ...] = ()) -> None:
        self.path, self.exclude = path, exclude

    def __iter__(self) -> Iterator[Reference | Failure]:
        seen = {_identity(path) for path in self.exclude if path.is_dir()}
        try:
            seen.add(_identity(self.path))
            levels = [_Level("", _listed(self.path))]
        except OSError as error:
            raise SourceError(
                f"the folder {self.path} cannot be listed: {error.strerror}; check its permissions"
            ) from error
        root = os.path.join(self.path, "")
        while levels:
            level = levels[-1]
            for name in level.names:
                key = level.prefix + name
                path = root + key
                if not name.endswith("/"):
                    level.empty = False
                    yield file_reference(key, path)
                    continue
                try:
                    if (identity := _identity(path)) not in seen:
                        seen.add(identity)
                        levels.append(_Level(key, _listed(path)))
                        break
                except OSError as error:
                    yield Failure(key, "list", f"the folder cannot be listed: {error.strerror}")
            else:
                levels.pop()
                if levels and not level.empty:
                    levels[-1].empty = False
                elif has_suffix(level.prefix[:-1], IMAGES):
                    yield Failure(level.prefix[:-1], "list", "a folder, and there are no images in it")


@dataclass
class _Level:
    """A folder on the way down: its key's beginning, the names still to come, whether no image was found in it."""

    prefix: str
    names: Iterator[str]
    empty: bool = True


def file_reference(key: str, path: str) -> Reference:
    """An image file: its fingerprint takes a look at it, which listing does not."""
    return Reference(key, stem_of(key), "", path)


def file_fingerprint(path: str) -> str:
    """The size and time of a file; empty if it cannot be looked at, which loading it will tell."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"


def _identity(path: str | Path) -> int:
    status = os.stat(path)
    return status.st_dev << 64 | status.st_ino


def _listed(folder: str) -> Iterator[str]:
    """The names of a folder's images, and of its folders with a slash behind, sorted, in about the memory that their
    characters take: sorted runs, packed into long strings, are merged."""
    names = _names(folder)
    runs = []
    while run := sorted(islice(names, RUN)):
        runs.append(["\0".join(run[i : i + PIECE]) for i in range(0, len(run), PIECE)])
    return merge(*(chain.from_iterable(piece.split("\0") for piece in run) for run in runs))


def _names(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                yield entry.name + "/"
            elif entry.name.lower().endswith(IMAGES):
                yield entry.name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads round in circles or where one may not look
        return False


class CompanionFolder(ImageFiles):
    """Files of a second modality, found by the stem of the first, whatever their extension.

    Of each folder only a hash of every stem and the number of its suffix are kept, 9 bytes a file, and of the folders
    the sixteen used last.
    """

    def __init__(self, path: str, modality: str) -> None:
        if not os.path.isdir(path):
            raise SourceError(f"the {modality} folder {path} does not exist; give an existing folder")
        self.path, self.modality = path, modality
        self._lock = threading.Lock()
        self._index = lru_cache(maxsize=16)(_Index)

    def find(self, reference: Reference) -> str:
        """The one file of that stem. Raises ImageError if there is none, or another."""
        folder, name = os.path.split(os.path.join(self.path, reference.stem))
        try:
            with self._lock:
                names = self._index(folder).named(name)
        except OSError:
            names = []
        found = [path for path in (os.path.join(folder, name) for name in names) if os.path.lexists(path)]
        if len(found) != 1:
            many = f"{len(found)} {self.modality} images" if found else f"no {self.modality} image"
            raise ImageError(f"{many} named {reference.stem} in {self.path}; there must be one")
        return found[0]


class _Index:
    """The images of one folder by stem."""

    def __init__(self, folder: str) -> None:
        hashes, numbers = array("q"), array("B")
        suffixes: dict[str, int] = {}
        for name in _names(folder):
            if not name.endswith("/"):
                stem, suffix = os.path.splitext(name)
                hashes.append(hash(stem))
                numbers.append(suffixes.setdefault(suffix, len(suffixes)))
        order = np.argsort(np.frombuffer(hashes, np.int64))
        self._hashes = np.frombuffer(hashes, np.int64)[order]
        self._numbers = np.frombuffer(numbers, np.uint8)[order]
        self._suffixes = list(suffixes)

    def named(self, stem: str) -> list[str]:
        """The names of that stem."""
        first, last = np.searchsorted(self._hashes, hash(stem)), np.searchsorted(self._hashes, hash(stem), "right")
        return [stem + self._suffixes[number] for number in self._numbers[first:last]]
