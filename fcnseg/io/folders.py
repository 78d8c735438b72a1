"""Images in folders, and images of a second modality found beside them by name."""

from __future__ import annotations

import os
import threading
from array import array
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fcnseg.errors import ImageError, SourceError
from fcnseg.io.folder_walk import Choice, names_in, walk
from fcnseg.io.image_kinds import START_BYTES, is_image_by_content
from fcnseg.io.images import READERS, OnSize
from fcnseg.io.left_out import LeftOut, files_below
from fcnseg.io.names import HHA_RECORD, RECORDS, stem_of
from fcnseg.io.suffixes import IMAGES
from fcnseg.types import Failure, Pixels, Reference


class ImageFiles:
    """Collections of image files: the location of an image is its file's path."""

    def read(self, location: Any, modality: str, max_pixels: int, on_size: OnSize) -> Pixels:
        """Decode one file."""
        return READERS[modality](Path(location), max_pixels, on_size)

    def fingerprint(self, location: Any) -> str:
        """Return a text that changes when the file does."""
        return file_fingerprint(location)

    def close(self) -> None:
        """Do nothing: no file stays open between reads."""


class ImageFolder(ImageFiles):
    """The image files below a folder by relative path, as `walk` finds them; by content where a name tells nothing.

    Outputs of other runs are not entered. Once all was listed, `left_out` counts the files not taken by suffix, or by
    the folder that was not entered, and `excluded_inside` are those of the folders to exclude that were met.
    """

    def __init__(self, path: str, exclude: tuple[Path, ...] = ()) -> None:
        self.path, self.exclude = path, exclude
        self.left_out: Mapping[str, int] = {}
        self.excluded_inside: list[str] = []

    def __iter__(self) -> Iterator[Reference | Failure]:
        root, left_out, excluded = os.path.join(self.path, ""), LeftOut(), list[str]()

        def skip(key: str, path: str) -> None:
            name = key[:-1] if is_run_output(path) else os.path.basename(key[:-1])
            left_out.add_in(name, files_below(path))

        choice = Choice(
            _starts_as_image,
            lambda path: not is_run_output(path),
            left_out.add,
            skip,
            lambda key: excluded.append(root + key),
        )
        for key in walk(self.path, IMAGES, self.exclude, choice):
            yield key if isinstance(key, Failure) else file_reference(key, root + key)
        self.left_out, self.excluded_inside = left_out.by_suffix, excluded


def is_run_output(folder: str) -> bool:
    """Tell whether a run wrote to this folder: its records lie in it, and are not those of HHA images."""
    records = os.path.join(folder, RECORDS)
    return os.path.isdir(records) and not os.path.exists(os.path.join(records, HHA_RECORD))


def _starts_as_image(entry: os.DirEntry[str]) -> bool:
    """Tell whether a file is an image by its content; one whose name says something else is not looked into."""

    def start() -> bytes:
        if not entry.is_file():  # a pipe would block
            return b""
        with open(entry.path, "rb", buffering=0) as file:
            return file.read(START_BYTES)

    try:
        return is_image_by_content(entry.name, start)
    except OSError:
        return False


def file_reference(key: str, path: str) -> Reference:
    """Return the reference of an image file, without a fingerprint: that takes a look at the file."""
    return Reference(key, stem_of(key), "", path)


def file_fingerprint(path: str) -> str:
    """Return the size and time of a file; empty if it cannot be looked at, which loading it will explain."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"


class CompanionFolder(ImageFiles):
    """Files of a second modality, found by the stem of the first, whatever their suffix.

    Of each folder only a hash of every stem and the number of its suffix are kept, 9 bytes a file, and of the folders
    the sixteen used last.
    """

    def __init__(self, path: str, modality: str) -> None:
        if not os.path.isdir(path):
            raise SourceError(f"the {modality} folder {path} does not exist; give an existing folder")
        self.path, self.modality = path, modality
        self._lock = threading.Lock()
        self._index = lru_cache(maxsize=16)(_StemIndex)

    def find(self, reference: Reference) -> str:
        """Return the path of the one file of that stem. Raises ImageError if there is none, or another."""
        folder, stem = os.path.split(os.path.join(self.path, reference.stem))
        try:
            with self._lock:
                names = self._index(folder).names_of(stem)
        except OSError:
            names = []
        paths = [path for path in (os.path.join(folder, name) for name in names) if os.path.lexists(path)]
        if len(paths) != 1:
            many = f"{len(paths)} {self.modality} images" if paths else f"no {self.modality} image"
            raise ImageError(f"{many} named {reference.stem} in {self.path}; there must be one")
        return paths[0]


class _StemIndex:
    """The image files of one folder by stem."""

    def __init__(self, folder: str) -> None:
        hashes, numbers = array("q"), array("B")
        suffixes: dict[str, int] = {}
        for name in names_in(folder, IMAGES, Choice(takes=_starts_as_image)):
            if not name.endswith("/"):
                stem = stem_of(name)
                suffix = name[len(stem) :]
                hashes.append(hash(stem))
                numbers.append(suffixes.setdefault(suffix, len(suffixes)))
        order = np.argsort(np.frombuffer(hashes, np.int64))
        self._hashes = np.frombuffer(hashes, np.int64)[order]
        self._numbers = np.frombuffer(numbers, np.uint8)[order]
        self._suffixes = list(suffixes)

    def names_of(self, stem: str) -> list[str]:
        """Return the names of that stem, and rarely of another with its hash."""
        first, last = np.searchsorted(self._hashes, hash(stem)), np.searchsorted(self._hashes, hash(stem), "right")
        return [stem + self._suffixes[number] for number in self._numbers[first:last]]
