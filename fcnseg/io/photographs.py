"""Photographs of label maps, found by name in whatever `fcnseg run` takes images from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from fcnseg.errors import ImageError, SettingsError, SourceError, StorageError
from fcnseg.io.image_source import ImageSource
from fcnseg.io.names import is_hdf5_name, split_hdf5_name
from fcnseg.io.sources import open_source
from fcnseg.io.urls import is_url
from fcnseg.types import Pixels, Reference


class Photographs:
    """The images of a source (or of none) by the names of their label maps. A context manager.

    Nothing is listed before the first photograph is looked for.
    """

    def __init__(self, source: ImageSource | None) -> None:
        self._source = source

    @classmethod
    def of(
        cls, images: str | Path | None, record: Mapping[str, Any], storage_options: Mapping[str, str] | None = None
    ) -> Self:
        """Open the photographs that were named, or else those of the run with this record, as far as they are there.

        Raises SettingsError if those that were named are not there, SourceError if they cannot be opened.
        """
        if images is None:
            return cls(_source_of_run(record.get("settings") or {}, storage_options))
        if not is_url(images) and not Path(split_hdf5_name(str(images))[0]).exists():
            raise SettingsError(f"there is no {images} with images; check the path")
        return cls(open_source(images, storage_options=storage_options))

    def find(self, name: str, height: int, width: int) -> Pixels | None:
        """Return the pixels of the image of a label map, uint8 H x W x 3, upright RGB; None unless it is there in that
        size. A name is a relative path without suffix; a file name without its path will do if it is the only one."""
        reference = self._by_path.get(name) or self._by_file_name.get(_file_name(name))
        if self._source is None or reference is None or self._source.size(reference) != (height, width):
            return None
        try:
            return self._source.load(reference).inputs["color"]
        except ImageError:
            return None

    @cached_property
    def _by_path(self) -> dict[str, Reference]:
        """The first image of each path without suffix."""
        references: dict[str, Reference] = {}
        try:
            for reference in self._source or ():
                if isinstance(reference, Reference):
                    references.setdefault(reference.stem, reference)
        except (SourceError, StorageError):  # there are none, or no more
            pass
        return references

    @cached_property
    def _by_file_name(self) -> dict[str, Reference]:
        """The images whose file names, without suffix, occur once."""
        counts = Counter(map(_file_name, self._by_path))
        return {_file_name(path): image for path, image in self._by_path.items() if counts[_file_name(path)] == 1}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._source is not None:
            self._source.close()


def _source_of_run(settings: Mapping[str, Any], storage_options: Mapping[str, str] | None) -> ImageSource | None:
    """The images that a run was given; None if they are gone, or were named on standard input."""
    source = str(settings.get("source") or "-")
    if source == "-":
        return None
    layout = settings.get("layout", "auto") if is_hdf5_name(source) else "auto"
    try:
        return open_source(source, pattern=settings.get("glob"), layout=layout, storage_options=storage_options)
    except (SourceError, SettingsError, StorageError):
        return None


def _file_name(path: str) -> str:
    return path.rpartition("/")[2]
