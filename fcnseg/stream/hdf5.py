"""Images in HDF5 files: datasets of many images, groups of single ones, encoded files, MATLAB's v7.3 files.

| dataset | images |
|---|---|
| rank 4 | N x H x W x C or N x C x H x W; of a MATLAB file N x C x W x H |
| rank 3 | N grey (or depth) images H x W; of a MATLAB file W x H; one image if the last axis has its channels |
| rank 2 | one grey (or depth) image |
| rank 1 of variable-length uint8, of strings or opaque | N encoded files (JPEG, PNG ...) |
| rank 1 of uint8; rank 0 opaque or string | one encoded file |
| group | each dataset below it one image, of its own size |

Color and HHA are uint8, three channels (one grey channel is repeated); depth is any number, one channel. The HDF5
library reads for one thread at a time; encoded files are decoded in parallel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fcnseg.errors import ImageError, SettingsError, SourceError
from fcnseg.stream.decoding import READERS, OnSize, check_pixels
from fcnseg.stream.names import member_key, split_name, stem_of
from fcnseg.types import Failure, Pixels, Reference

LAYOUTS = ("auto", "NHWC", "NCHW")

CACHE_BYTES = 256 << 20
"""The most memory that chunks of several images are kept in between reads."""

DIGITS = 6
"""To how many digits the indices in keys are filled up at least."""

CHANNELS = {"color": (3, 1), "hha": (3,), "depth": (1,)}
"""How many channels images of each modality may have, the usual number first."""

CANDIDATES_SHOWN = 8


@dataclass(frozen=True)
class _Kind:
    """What a dataset holds: `axes` of its pixels (N, H, W, C by their letters), or encoded files if empty."""

    axes: str
    many: bool


class Hdf5:
    """The images of one dataset or group. The stamp is the file's size and time, a place (dataset, index or None).

    Keys are `dataset/000123` or the dataset's own path. `layout` says how to take a rank-4 or rank-3 dataset whose
    axes are ambiguous. Raises SourceError for a file that is damaged or holds no such images, SettingsError for a
    layout that does not fit.
    """

    def __init__(self, source: str, modality: str = "color", layout: str = "auto") -> None:
        if layout not in LAYOUTS:
            raise SettingsError(f"layout {layout!r} is unknown; use {', '.join(LAYOUTS)}")
        self.path, name = split_name(source)
        self.modality, self.layout = modality, layout
        self._file = _opened(self.path)
        try:
            with self._source_errors():
                self.matlab = _is_matlab(self._file)
                self._root = self._found(name.strip("/") or self._only_candidate())
                status = Path(self.path).stat()
        except BaseException:
            self._file.close()
            raise
        self._stamp = f"{status.st_size}-{status.st_mtime_ns}"
        self.name = f"{self.path}::{self._root.name}"

    @contextmanager
    def _source_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
            raise SourceError(f"{self.path} cannot be read: {_line(error)}; check that the file is whole") from error

    # ------------------------------------------------------------------ opening

    def _found(self, name: str) -> h5py.Dataset | h5py.Group:
        node = self._file.get(name) if name != "/" else self._file["/"]
        if isinstance(node, h5py.Group):
            return node
        if not isinstance(node, h5py.Dataset):
            raise SourceError(f"there is nothing called {name} in {self.path}; {self._held()}")
        kind = self._kind(node)
        if isinstance(kind, str):
            raise SourceError(f"{node.name} in {self.path} holds no {self.modality} images: {kind}; {self._held()}")
        return _with_cache(node, kind)

    def _held(self) -> str:
        names = self._candidates()
        more = f" and {len(names) - CANDIDATES_SHOWN} more" if len(names) > CANDIDATES_SHOWN else ""
        shown = ", ".join(names[:CANDIDATES_SHOWN])
        return f"it holds {shown}{more}" if names else f"it holds no {self.modality} images"

    def _only_candidate(self) -> str:
        names = self._candidates()
        if len(names) != 1:
            raise SourceError(f"{self.path} does not say where its images are: {self._held()}; name one, as FILE::NAME")
        return names[0]

    def _candidates(self) -> list[str]:
        """What looks most like the images: datasets of many, best those with channels, else groups of single ones."""
        ranked: list[dict[str, None]] = [{}, {}, {}, {}]

        def visit(name: str, node: Any) -> None:
            if not isinstance(node, h5py.Dataset):
                return
            kind = self._kind(node)
            if isinstance(kind, str):
                if "ambiguous" in kind:
                    ranked[0][f"/{name}"] = None
            elif kind.many:
                usual = len(kind.axes) == 4 or (self.modality == "depth" and node.dtype != np.uint8)
                ranked[0 if usual else 1 if not kind.axes else 3][f"/{name}"] = None
            elif len(kind.axes) != 2:
                ranked[2][node.parent.name] = None

        self._file.visititems(visit)
        return next((list(names) for names in ranked if names), [])

    # ------------------------------------------------------------------ what a dataset holds

    def _kind(self, node: h5py.Dataset, *, single: bool = False) -> _Kind | str:
        """What a dataset holds, or why no images; `single`: it is one of a group."""
        if node.shape is None:
            return "it is empty"
        rank, dtype = len(node.shape), node.dtype
        variable = h5py.check_vlen_dtype(dtype)
        if (dtype.kind in "SV" and dtype.names is None) or variable in (bytes, str) or variable == np.uint8:
            many = rank == 1 and not single
            return _Kind("", many) if many or node.size == 1 else f"encoded files have rank 1, this has rank {rank}"
        if dtype.kind not in "uif":
            return f"its values are {dtype}, neither numbers nor encoded files"
        if rank == 1 and dtype == np.uint8:
            return _Kind("", False)
        if not 2 <= rank <= (3 if single else 4):
            return f"its rank is {rank}, shape {_shape(node)}"
        axes = self._axes(node.shape, single)
        if "ambiguous" in axes or " " in axes:
            return axes
        if self.modality != "depth" and dtype != np.uint8:
            return f"its values are {dtype}, and {self.modality} images are uint8"
        return _Kind(axes, "N" in axes)

    def _axes(self, shape: tuple[int, ...], single: bool) -> str:
        """The letters of a dataset's axes, in order, or why there are none."""
        channels = CHANNELS[self.modality]
        plane = "WH" if self.matlab and self.layout == "auto" else "HW"
        if len(shape) == 2:
            return plane if 1 in channels else f"its rank is 2, and {self.modality} images have three channels"
        first, last = "C" + plane, plane + "C"
        if len(shape) == 3 and not single and 1 in channels:
            if shape[-1] in channels and plane == "HW":
                return last
            if shape[0] != 3 or self.modality == "depth" or self.layout == "NHWC":
                return "N" + plane
            return first if self.layout == "NCHW" else _ambiguous(shape, "one image (NCHW) or three grey ones (NHWC)")
        if self.layout != "auto":
            wanted = last if self.layout == "NHWC" else first
            fits = shape[-3:][wanted.index("C")] in channels
            return ("N" * (len(shape) - 3)) + wanted if fits else f"its shape {_shape(shape)} is not {self.layout}"
        for count in channels:
            found = [axes for axes in (first, last) if shape[-3:][axes.index("C")] == count]
            if plane == "WH":
                found = found[:1]  # MATLAB's H x W x C x N, whose axes HDF5 reverses
            if len(found) == 2:
                return _ambiguous(shape, "NHWC or NCHW")
            if found:
                return ("N" * (len(shape) - 3)) + found[0]
        return f"no axis of its shape {_shape(shape)} has {' or '.join(map(str, channels))} channels"

    # ------------------------------------------------------------------ listing and reading

    def __iter__(self) -> Iterator[Reference | Failure]:
        if isinstance(self._root, h5py.Group):
            yield from self._members(self._root, set())
            return
        kind = self._kind(self._root)
        name = self._root.name.strip("/")
        if not (isinstance(kind, _Kind) and kind.many):
            yield self._reference(name, (self._root, None))
            return
        digits = max(DIGITS, len(str(len(self._root) - 1)))
        for index in range(len(self._root)):
            yield self._reference(f"{name}/{index:0{digits}}", (self._root, index))

    def _reference(self, key: str, place: Any) -> Reference:
        return Reference(key, stem_of(key), self._stamp, place)

    def _members(self, group: h5py.Group, seen: set[int]) -> Iterator[Reference | Failure]:
        """The datasets below a group, each group once, whatever the links."""
        seen.add(h5py.h5o.get_info(group.id).addr)
        for name in group:
            full = f"{group.name}/{name}".strip("/")
            key = member_key(full)
            if key is None:
                yield Failure(full, "list", "the name leads outside the output folder")
                continue
            if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
                yield Failure(key, "list", "a link to another file")
                continue
            try:
                node = group[name]
            except (KeyError, OSError, RuntimeError) as error:
                yield Failure(key, "list", _line(error))
                continue
            if isinstance(node, h5py.Dataset):
                yield self._reference(key, (full, None))
            elif isinstance(node, h5py.Group) and h5py.h5o.get_info(node.id).addr not in seen:
                yield from self._members(node, seen)

    def find(self, reference: Reference) -> Any:
        """The place of the image that goes with one of another collection: of the same index, else the same name.
        Raises ImageError if there is none."""
        place = reference.place
        if isinstance(self._root, h5py.Dataset):
            index = place[1] if isinstance(place, tuple) and len(place) == 2 else None
            kind = self._kind(self._root)
            many = isinstance(kind, _Kind) and kind.many
            if many == (index is not None) and (index is None or index < len(self._root)):
                return self._root, index
            raise ImageError(f"{self.name} has no {self.modality} image number {index}; there must be one for each")
        name = reference.stem.rpartition("/")[2]
        for candidate in (name, reference.key.rpartition("/")[2], reference.stem):
            if isinstance(self._root.get(candidate), h5py.Dataset):
                return f"{self._root.name}/{candidate}".strip("/"), None
        raise ImageError(f"no {self.modality} image named {name} in {self.name}; there must be one")

    def read(self, place: Any, modality: str, max_pixels: int, on_size: OnSize) -> Pixels:
        """One image: decoded, or its axes brought into order."""
        node, index = place
        try:
            node = self._file[node] if isinstance(node, str) else node
            kind = self._kind(node, single=node is not self._root)
            if isinstance(kind, str):
                raise ImageError(kind)
            if not kind.axes:
                content = self._encoded(node, index)
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
            raise ImageError(f"cannot be read: {_line(error)}") from error
        if not kind.axes:
            return READERS[modality](content, max_pixels, on_size)
        axes = kind.axes.removeprefix("N")
        shape = node.shape[-len(axes) :]
        height, width = shape[axes.index("H")], shape[axes.index("W")]
        check_pixels(height, width, max_pixels)
        if not height * width:
            raise ImageError(f"it has no pixels (shape {_shape(shape)})")
        on_size(height, width)
        try:
            pixels = node[() if index is None else index]
        except (OSError, RuntimeError, ValueError, MemoryError) as error:
            raise ImageError(f"cannot be read: {_line(error)}") from error
        return _ordered(pixels, axes, modality)

    def _encoded(self, node: h5py.Dataset, index: int | None) -> bytes:
        content = node[() if index is None else index]
        if isinstance(content, np.ndarray) and content.dtype == object and content.size == 1:
            content = content.item()
        if isinstance(content, str):
            content = content.encode("utf-8", "surrogateescape")
        return bytes(content)

    def close(self) -> None:
        """Release the file."""
        self._file.close()


def _ordered(pixels: Pixels, axes: str, modality: str) -> Pixels:
    """H x W x C, contiguous: three channels uint8, or one of float32 for depth."""
    if "C" not in axes:
        pixels, axes = pixels[..., None], axes + "C"
    pixels = pixels.transpose([axes.index(letter) for letter in "HWC"])
    if modality == "depth":
        return np.ascontiguousarray(pixels, np.float32)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _opened(path: str) -> h5py.File:
    if not Path(path).is_file():
        raise SourceError(f"{path} does not exist or is no file; give an HDF5 file, as FILE::NAME")
    try:
        return h5py.File(path, "r", locking="best-effort")
    except OSError as error:
        with Path(path).open("rb") as file:
            old = file.read(10) == b"MATLAB 5.0"
        hint = "it is in MATLAB's older format; save it with -v7.3" if old else "check that it is a whole HDF5 file"
        raise SourceError(f"{path} cannot be opened: {_line(error)}; {hint}") from error


def _is_matlab(file: h5py.File) -> bool:
    """Whether MATLAB (or what writes its format) stored the file, and reversed the order of all axes."""
    if file.userblock_size >= 128:
        with Path(file.filename).open("rb") as raw:
            if raw.read(10) == b"MATLAB 7.3":
                return True
    return any("MATLAB_class" in node.attrs for node in file.values())


def _with_cache(node: h5py.Dataset, kind: _Kind) -> h5py.Dataset:
    """The dataset again with a cache for the chunks of the images at hand, where a chunk holds several images:
    without one, each chunk would be unpacked once for each of its images."""
    if not (node.chunks and kind.many and kind.axes) or node.chunks[0] == 1:
        return node
    padded = [-(-side // chunk) * chunk for side, chunk in zip(node.shape[1:], node.chunks[1:], strict=True)]
    wanted = 2 * node.chunks[0] * int(np.prod(padded)) * node.dtype.itemsize
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    access.set_chunk_cache(12_421, min(wanted, CACHE_BYTES), 0.75)
    return h5py.Dataset(h5py.h5d.open(node.file.id, node.name.encode("utf-8", "surrogateescape"), access))


def _ambiguous(shape: tuple[int, ...], ways: str) -> str:
    return f"its shape {_shape(shape)} is ambiguous, {ways}; say which with --layout"


def _shape(node: Any) -> str:
    return " x ".join(map(str, getattr(node, "shape", node)))


def _line(error: BaseException) -> str:
    return " ".join(str(error.args[0] if error.args else error).split()) or type(error).__name__
