"""The axes of image datasets in HDF5 files, or the encoded files in them.

| dataset | images |
|---|---|
| rank 4 | N x H x W x C or N x C x H x W; of a MATLAB file N x C x W x H |
| rank 3 | N grey (or depth) images H x W, of a MATLAB file W x H; one image if its last axis has the channels |
| rank 2 | one grey (or depth) image |
| rank 1 of variable-length uint8, strings or opaque values | N encoded files (JPEG, PNG ...) |
| rank 1 of uint8; rank 0 of strings, opaque or variable-length values | one encoded file |

Color and HHA are uint8 with three channels (color may have one, which is repeated); depth is any number, one channel.
"""

from __future__ import annotations

from dataclasses import dataclass

import h5py
import numpy as np

from fcnseg.errors import ImageError
from fcnseg.io.hdf5 import check_chunk_size, check_own_values
from fcnseg.io.hdf5_damage import check_value
from fcnseg.types import Pixels

CHANNELS = {"color": (3, 1), "hha": (3,), "depth": (1,)}
"""The numbers of channels that images of each modality may have, the usual one first."""

CACHE_BYTES = 256 << 20
"""The largest cache of chunks of several images between reads."""

CACHE_SLOTS = 12_421
"""Slots of the chunk cache's hash table: a prime, many more than there are chunks in it."""

MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF", b"P5", b"P6")
"""The first bytes of encoded images."""


class AmbiguousAxesError(ImageError):
    """The shape has more than one reading."""


@dataclass(frozen=True)
class ExpectedImages:
    """The images that a file is expected to hold: `layout` is auto, NHWC or NCHW; `matlab`: all axes are reversed."""

    modality: str
    layout: str
    matlab: bool

    @property
    def reversed(self) -> bool:
        """True if planes are W x H; a layout that is given holds whoever wrote the file."""
        return self.matlab and self.layout == "auto"


@dataclass(frozen=True)
class DatasetKind:
    """The content of a dataset: `axes` are letters (N, H, W, C) in its order, empty for encoded files."""

    axes: str
    many: bool


def kind_of(node: h5py.Dataset, expected: ExpectedImages, *, single: bool = False) -> DatasetKind:
    """Return the content of a dataset; `single`: it is one image of a group. Raises ImageError if it is no images."""
    try:
        check_own_values(node)
    except OSError as error:
        raise ImageError(str(error)) from error
    if node.shape is None:
        raise ImageError("it is empty")
    rank, dtype = len(node.shape), node.dtype
    if node.chunks and len(node.chunks) != rank:  # HDF5 would follow them wherever they lead
        raise ImageError(f"its rank is {rank}, that of its chunks {len(node.chunks)}: it is damaged")
    if _is_encoded(dtype):
        if rank > 1 or (single and node.size != 1):
            raise ImageError(f"encoded files have rank 1, this has shape {shape_text(node.shape)}")
        return DatasetKind("", rank == 1 and not single)
    if dtype.kind not in "uif":
        raise ImageError(f"its values are {dtype}, neither numbers nor encoded files")
    if rank == 1 and dtype == np.uint8:
        return DatasetKind("", many=False)
    if not 2 <= rank <= (3 if single else 4):
        raise ImageError(f"its rank is {rank} (shape {shape_text(node.shape)}), which images do not have")
    if expected.modality != "depth" and dtype != np.uint8:
        raise ImageError(f"its values are {dtype}, and {expected.modality} images are uint8")
    axes = _axes(node.shape, expected, single)
    return DatasetKind(axes, "N" in axes)


def _is_encoded(dtype: np.dtype) -> bool:
    opaque = dtype.kind == "V" and dtype.names is None
    return opaque or h5py.check_string_dtype(dtype) is not None or h5py.check_vlen_dtype(dtype) == np.uint8


def _axes(shape: tuple[int, ...], expected: ExpectedImages, single: bool) -> str:
    """Return the letters of the axes of numbers."""
    channels = CHANNELS[expected.modality]
    plane = "WH" if expected.reversed else "HW"
    if len(shape) == 2:
        if 1 not in channels:
            raise ImageError(f"its shape {shape_text(shape)} has no channels, {expected.modality} images have three")
        return plane
    first, last = "C" + plane, plane + "C"
    if len(shape) == 3 and not single and 1 in channels:
        return _stack_or_image(shape, expected, plane)
    many = "N" * (len(shape) - 3)
    if expected.layout != "auto":
        axes = last if expected.layout == "NHWC" else first
        if shape[-3:][axes.index("C")] not in channels:
            raise ImageError(f"its shape {shape_text(shape)} is not {expected.layout}")
        return many + axes
    for count in channels:
        fitting = [axes for axes in (first, last) if shape[-3:][axes.index("C")] == count]
        if len(fitting) == 2 and not expected.reversed:
            raise _ambiguous(shape, "NHWC or NCHW")
        if fitting:
            return many + fitting[0]
    raise ImageError(f"no axis of its shape {shape_text(shape)} has {' or '.join(map(str, channels))} channels")


def _stack_or_image(shape: tuple[int, ...], expected: ExpectedImages, plane: str) -> str:
    """Return the letters of three axes without a group around: many images of one channel, or one image."""
    if not expected.reversed and shape[-1] in CHANNELS[expected.modality]:
        return plane + "C"
    if shape[0] != 3 or expected.modality == "depth" or expected.layout == "NHWC":
        return "N" + plane
    if expected.reversed or expected.layout == "NCHW":
        return "C" + plane
    raise _ambiguous(shape, "one image (NCHW) or three grey ones (NHWC)")


def _ambiguous(shape: tuple[int, ...], ways: str) -> AmbiguousAxesError:
    return AmbiguousAxesError(f"its shape {shape_text(shape)} is ambiguous, {ways}; say which with --layout")


def looks_encoded(node: h5py.Dataset) -> bool:
    """Tell whether the first value of a dataset of encoded files begins as images do: strings may be anything."""
    if not node.size:
        return False
    start = node[:4].tobytes() if node.dtype == np.uint8 else encoded(node, 0 if node.shape else None)
    return start.startswith(MAGIC)


def encoded(node: h5py.Dataset, index: int | None) -> bytes:
    """Read one encoded file."""
    check_own_values(node)
    check_chunk_size(node)
    if node.dtype.hasobject:
        check_value(node, index)
    content = node[() if index is None else index]
    if isinstance(content, np.ndarray) and content.dtype == object:
        content = content.item()
    return content if isinstance(content, bytes) else np.asarray(content).tobytes()


def ordered(pixels: Pixels, axes: str, modality: str) -> Pixels:
    """Return pixels as H x W x C, contiguous: three channels of uint8, or one of float32 for depth."""
    if "C" not in axes:
        pixels, axes = pixels[..., None], axes + "C"
    pixels = pixels.transpose([axes.index(letter) for letter in "HWC"])
    if modality == "depth":
        return np.ascontiguousarray(pixels, np.float32)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def cache_bytes(node: h5py.Dataset) -> int:
    """Return the size of a cache for the chunks of the images at hand, where a chunk holds several: without it each
    would be unpacked once for each of its images. 0 where none is needed."""
    if not node.chunks or node.chunks[0] == 1:
        return 0
    padded = [-(-side // chunk) * chunk for side, chunk in zip(node.shape[1:], node.chunks[1:], strict=True)]
    return min(CACHE_BYTES, 2 * int(node.chunks[0] * np.prod(padded, dtype=object) * node.dtype.itemsize))


def open_with_cache(file: h5py.File, name: str, nbytes: int) -> h5py.Dataset:
    """Open a dataset with a cache of that size, which must not be open elsewhere."""
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    access.set_chunk_cache(CACHE_SLOTS, nbytes, 0.75)
    return h5py.Dataset(h5py.h5d.open(file.id, name.encode("utf-8", "surrogateescape"), access))


def shape_text(shape: tuple[int, ...]) -> str:
    """Return a shape as it is written in messages."""
    return " x ".join(map(str, shape))
