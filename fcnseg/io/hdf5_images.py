"""Images in HDF5 files, MATLAB's v7.3 files among them: one dataset of many (see `hdf5_axes`) or a group of single
ones.

The HDF5 library reads for one thread at a time; encoded files are decoded in parallel.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py

from fcnseg.errors import ImageError, SettingsError, SourceError
from fcnseg.io.hdf5 import DAMAGED, advice, is_matlab, name_of, node_at, open_hdf5, read_values, reason
from fcnseg.io.hdf5_axes import DatasetKind, ExpectedImages, cache_bytes, encoded, kind_of, open_with_cache, ordered
from fcnseg.io.hdf5_candidates import candidates, held_text
from fcnseg.io.image_limits import check_bytes, check_pixels
from fcnseg.io.images import READERS, OnSize
from fcnseg.io.names import LONGEST_PART_BYTES, is_too_long, safe_key, split_hdf5_name, stem_of
from fcnseg.types import Failure, Pixels, Reference

LAYOUTS = ("auto", "NHWC", "NCHW")

DIGITS = 6
"""The least number of digits of the numbers in keys."""


class Hdf5Location(NamedTuple):
    """The location of an image: the path of its dataset, and its number if that holds many."""

    dataset: str
    number: int | None = None


class Hdf5Images:
    """The images of one dataset or group of a file, `data.h5::/images`; without a name, of the only one it holds.

    Keys are `images/000123`, or the path of the dataset of a single image. Fingerprints are the file's size and time.
    `layout` (auto, NHWC, NCHW) says how the axes of a dataset are. Raises SourceError for a file that is damaged or
    holds no such images, SettingsError for an unknown layout.
    """

    location_type = Hdf5Location

    def __init__(self, source: str, modality: str = "color", layout: str = "auto") -> None:
        if layout not in LAYOUTS:
            raise SettingsError(f"layout {layout!r} is unknown; use {', '.join(LAYOUTS)}")
        self.path, name = split_hdf5_name(source)
        self.modality = modality
        self._file = _opened(self.path)
        try:
            with self._source_errors():
                self.expected = ExpectedImages(modality, layout, is_matlab(self._file))
                self._root = self._node(name or self._only_candidate())
                status = Path(self.path).stat()
        except BaseException:
            self._file.close()
            raise
        self._fingerprint = f"{status.st_size}-{status.st_mtime_ns}"
        self.name = f"{self.path}::{name_of(self._root)}"

    @contextmanager
    def _source_errors(self) -> Iterator[None]:
        try:
            yield
        except DAMAGED as error:
            raise SourceError(f"{self.path} cannot be read: {reason(error)}; check that the file is whole") from error

    # ------------------------------------------------------------------ opening

    def _node(self, name: str) -> h5py.Dataset | h5py.Group:
        node = node_at(self._file, f"/{name.strip('/')}")
        if isinstance(node, h5py.Group):
            return node
        if not isinstance(node, h5py.Dataset):
            held = held_text(candidates(self._file, self.expected), self.modality)
            raise SourceError(f"there is no dataset {name} in {self.path}; {held}")
        try:
            self._kind = kind_of(node, self.expected)
        except ImageError as error:
            raise SourceError(f"{name} in {self.path} is no {self.modality} images: {error}") from error
        path, needed = name_of(node), cache_bytes(node) if self._kind.many else 0
        if needed:
            del node  # closes it
            node = open_with_cache(self._file, path, needed)
        return node

    def _only_candidate(self) -> str:
        names = candidates(self._file, self.expected)
        if len(names) != 1:
            held = held_text(names, self.modality)
            raise SourceError(f"which images of {self.path} are meant? {held}; name one as FILE::NAME")
        return names[0]

    # ------------------------------------------------------------------ listing and reading

    def __iter__(self) -> Iterator[Reference | Failure]:
        if isinstance(self._root, h5py.Group):
            yield from self._members(self._root, name_of(self._root).rstrip("/"), set())
            return
        path = name_of(self._root)
        if not self._kind.many:
            yield self._reference(path[1:], Hdf5Location(path))
            return
        digits = max(DIGITS, len(str(len(self._root) - 1)))
        for number in range(len(self._root)):
            yield self._reference(f"{path[1:]}/{number:0{digits}}", Hdf5Location(path, number))

    def _reference(self, name: str, location: Hdf5Location) -> Reference | Failure:
        key = safe_key(name)
        if key is None:
            return Failure(name, "list", "the name leads outside the output folder")
        if is_too_long(key):
            return Failure(f"{key[:LONGEST_PART_BYTES]}...", "list", "the name is too long for a file")
        return Reference(key, stem_of(key), self._fingerprint, location)

    def _members(self, group: h5py.Group, above: str, seen: set[int]) -> Iterator[Reference | Failure]:
        """Yield the datasets below a group, each group once, whatever the links."""
        with self._source_errors():
            seen.add(h5py.h5o.get_info(group.id).addr)
            names = list(group)
        for name in names:
            raw = os.fsencode(name)
            path = f"{above}/{os.fsdecode(raw)}"
            try:
                if group.id.links.get_info(raw).type == h5py.h5l.TYPE_HARD:
                    info = h5py.h5o.get_info(group.id, raw)
                else:
                    if (node := node_at(group, raw)) is None:
                        yield Failure(path[1:], "list", "a link to an object that is not there")
                        continue
                    info = h5py.h5o.get_info(node.id)
                below = node_at(group, raw) if info.type == h5py.h5o.TYPE_GROUP and info.addr not in seen else None
            except DAMAGED as error:
                yield Failure(path[1:], "list", reason(error))
                continue
            if info.type == h5py.h5o.TYPE_DATASET:
                yield self._reference(path[1:], Hdf5Location(path))
            elif below is not None:
                yield from self._members(below, path, seen)

    def find(self, reference: Reference) -> Hdf5Location:
        """Return the location of the image that goes with one of another source: of its number, or of its name
        in a group. Raises ImageError if there is none."""
        if isinstance(self._root, h5py.Dataset):
            number = reference.location.number if isinstance(reference.location, Hdf5Location) else None
            if self._kind.many and number is None:
                raise ImageError(f"it has no number to find its {self.modality} image by in {self.name}")
            if number is not None and not (self._kind.many and number < len(self._root)):
                raise ImageError(f"{self.name} has no {self.modality} image number {number}")
            return Hdf5Location(name_of(self._root), number)
        name = reference.stem.rpartition("/")[2]
        for candidate in (name, reference.key.rpartition("/")[2], reference.stem):
            with _image_errors():
                node = node_at(self._root, candidate)
            if isinstance(node, h5py.Dataset):
                return Hdf5Location(f"{name_of(self._root).rstrip('/')}/{candidate}")
        raise ImageError(f"no {self.modality} image named {name} in {self.name}; there must be one")

    def read(self, location: Hdf5Location, modality: str, max_pixels: int, on_size: OnSize) -> Pixels:
        """Read one image: decode it, or bring its axes into order."""
        with _image_errors():
            node, kind = self._dataset(location)
            content = b""
            if not kind.axes:
                check_bytes(node.dtype.itemsize * (node.size if location.number is None else 1), max_pixels)
                content = encoded(node, location.number)
        if not kind.axes:
            return READERS[modality](content, max_pixels, on_size)
        axes = kind.axes.removeprefix("N")
        shape = node.shape[-len(axes) :]
        height, width = shape[axes.index("H")], shape[axes.index("W")]
        check_pixels(height, width, max_pixels)
        if not height * width:
            raise ImageError("it has no pixels")
        on_size(height, width)
        with _image_errors():
            pixels = read_values(node, location.number)
        return ordered(pixels, axes, modality)

    def _dataset(self, location: Hdf5Location) -> tuple[h5py.Dataset, DatasetKind]:
        if isinstance(self._root, h5py.Dataset):
            return self._root, self._kind
        node = node_at(self._file, location.dataset)
        if not isinstance(node, h5py.Dataset):
            raise ImageError("it is not there any more")
        return node, kind_of(node, self.expected, single=True)

    def fingerprint(self, location: Any) -> str:  # noqa: ARG002 - of the whole file
        """Return a text that changes when the file does."""
        return self._fingerprint

    def close(self) -> None:
        """Release the file."""
        self._file.close()


def _opened(path: str) -> h5py.File:
    if not Path(path).is_file():
        raise SourceError(f"{path} does not exist or is no file; give an HDF5 file, as FILE::NAME")
    try:
        return open_hdf5(path)
    except DAMAGED as error:
        raise SourceError(f"{path} cannot be opened: {reason(error)}; {advice(path)}") from error


@contextmanager
def _image_errors() -> Iterator[None]:
    try:
        yield
    except DAMAGED as error:
        raise ImageError(f"cannot be read: {reason(error)}") from error
