"""Damage to HDF5 files that the library does not check (as of 2.0), looked for before it reads: it would loop for
ever, which neither an exception nor Ctrl-C ends, fill gigabytes, or crash.

Values of variable length lie in collections of objects, each with a header that says how long it is (HDF5 File Format
Specification 3.0, III.E). The library follows these lengths, and where free space is said to be of no bytes, as in a
block of zeros, it stays where it is.
"""

from __future__ import annotations

import os
import struct
import zlib
from itertools import product

import h5py
import numpy as np

TYPE = struct.Struct("<2xBB")
"""A type, encoded (IV.A.2.d): its class in the lower half of a byte, for values of variable length their kind (0
sequence, 1 text) in the lower half of the next."""

VARIABLE_LENGTH = 9
"""The class of values of variable length."""

VALUE = struct.Struct("<IQI")
"""A value: its length, the address of its collection, its object's number there."""

HEADER = struct.Struct("<4sB3xQ")
"""A collection: magic, version, its bytes with this header."""

OBJECT = struct.Struct("<H6xQ")
"""An object: its number (0: free space), its bytes; what follows is filled up to a multiple of ALIGNMENT."""

ALIGNMENT = 8

CHECKSUM_BYTES = 4
"""Of a chunk, behind it (Fletcher-32)."""

ANSWERS_KEPT = 64

_short_by_dataset: dict[tuple[object, ...], set[tuple[int, ...]]] = {}

SIZES = (8, 8)
"""The bytes of addresses and lengths in the files that are looked at: all but exotic ones."""


def check_chunks(node: h5py.Dataset, index: int | None) -> None:
    """Raise OSError if a chunk of the image at that index (None: the only one) is too short for its checksum, or of
    another rank: HDF5 would follow the numbers wherever they lead."""
    if node.chunks and len(node.chunks) != len(node.shape):
        raise OSError(f"its rank is {len(node.shape)}, that of its chunks {len(node.chunks)}: it is damaged")
    created = node.id.get_create_plist()
    filters = (created.get_filter(number)[0] for number in range(created.get_nfilters()))
    if h5py.h5z.FILTER_FLETCHER32 not in filters:
        return
    short = _short_chunks(node)  # a damaged tree of chunks may lead to another than is found by its corner
    starts = [range(0, size, side) for size, side in zip(node.shape, node.chunks, strict=True)]
    for corner in product(*(starts if index is None else [[index], *starts[1:]])):
        chunk = node.id.get_chunk_info_by_coord(corner)
        if corner in short or (chunk.byte_offset is not None and chunk.size < CHECKSUM_BYTES):
            raise OSError(f"its chunk at {chunk.byte_offset} is damaged")


def _short_chunks(node: h5py.Dataset) -> set[tuple[int, ...]]:
    """Return the corners of chunks that are too short for a checksum, kept as long as the file does not change."""
    status = os.fstat(node.file.id.get_vfd_handle())
    key = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, node.name
    if key not in _short_by_dataset:
        if len(_short_by_dataset) >= ANSWERS_KEPT:
            _short_by_dataset.clear()
        short: set[tuple[int, ...]] = set()
        node.id.chunk_iter(lambda chunk: short.add(chunk.chunk_offset) if chunk.size < CHECKSUM_BYTES else None)
        _short_by_dataset[key] = short
    return _short_by_dataset[key]


def check_value(node: h5py.Dataset, index: int | None) -> None:
    """Raise OSError if the value at that index (None: the only one), bytes of variable length, is not whole.

    What cannot be looked at passes: data sets within object headers, and filters other than HDF5's own.
    """
    file = node.file.id
    if file.get_create_plist().get_sizes() != SIZES:
        return
    kind, text = TYPE.unpack_from(node.id.get_type().encode())
    if kind & 15 != VARIABLE_LENGTH or text & 15 > 1:
        raise OSError("its type is damaged")
    content = _stored(node, index or 0)
    if content is None:
        return
    if len(content) < VALUE.size:
        raise OSError("its chunk is damaged")
    length, address, number = VALUE.unpack_from(content)
    if length and _collection(file.get_vfd_handle(), node.file.userblock_size + address).get(number, -1) < length:
        raise OSError("its value is damaged")


def _collection(handle: int, start: int) -> dict[int, int]:
    """Return the size of each object of the collection there, by number. Raises OSError if it is damaged."""
    left = os.fstat(handle).st_size - start
    magic, _, size = HEADER.unpack(os.pread(handle, HEADER.size, start)) if left >= HEADER.size else (b"", 0, 0)
    if magic != b"GCOL" or size > left:
        raise OSError("its value is damaged: there is no heap where it says")
    content, at, sizes = os.pread(handle, size, start), HEADER.size, {}
    while at + OBJECT.size <= size:
        number, length = OBJECT.unpack_from(content, at)
        step = OBJECT.size + -(-length // ALIGNMENT) * ALIGNMENT if number else length
        if not 0 < step <= size - at:
            raise OSError("its value is damaged: so is the heap it lies in")
        sizes[number] = length
        at += step
    return sizes


def _stored(node: h5py.Dataset, index: int) -> bytes | None:
    """Return a value as it is in the file, and what follows, as far as it is there; None if that cannot be told."""
    handle = node.file.id.get_vfd_handle()
    if node.chunks is None:
        offset = node.id.get_offset()
        return None if offset is None else os.pread(handle, VALUE.size, offset + index * VALUE.size)
    chunk = node.id.get_chunk_info_by_coord((index,))
    if chunk.byte_offset is None:
        return None
    content = os.pread(handle, chunk.size, chunk.byte_offset)
    created = node.id.get_create_plist()
    for number in reversed(range(created.get_nfilters())):
        code = created.get_filter(number)[0]
        if chunk.filter_mask >> number & 1:
            continue
        if code == h5py.h5z.FILTER_DEFLATE:
            try:
                content = zlib.decompressobj().decompress(content, node.chunks[0] * VALUE.size + CHECKSUM_BYTES)
            except zlib.error:
                return None
        elif code == h5py.h5z.FILTER_SHUFFLE:
            content = np.frombuffer(content, np.uint8).reshape(VALUE.size, -1).T.tobytes()
        else:
            return None
    return content[index % node.chunks[0] * VALUE.size :]
