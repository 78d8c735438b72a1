"""A look at HDF5's global heaps before the library reads them: in a damaged one it may go round for ever (as of HDF5
2.0), which neither an exception nor Ctrl-C would end.

Values of variable length lie in collections of objects, each with a header that says how long it is (HDF5 File Format
Specification 3.0, III.E). The library follows these lengths, and where free space is said to be of no bytes, as in a
block of zeros, it stays where it is.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator

import h5py
import numpy as np

HEADER = struct.Struct("<4sB3xQ")
"""A collection: magic, version, its bytes with this header."""

OBJECT = struct.Struct("<H6xQ")
"""An object: its number (0: free space), its bytes; what follows is filled up to a multiple of ALIGNMENT."""

ALIGNMENT = 8

SIZES = (8, 8)
"""How many bytes addresses and lengths take in the files that are looked at: all but exotic ones."""

VALUE = struct.Struct("<IQI")
"""A value: its length, the address of its collection, its object's number there."""


def check_heaps(node: h5py.Dataset, index: int | None) -> None:
    """Raise OSError if the value of variable length at that index (None: the only one) lies in a damaged collection.

    What cannot be looked at passes: data sets within object headers, and filters other than HDF5's own.
    """
    file = node.file.id
    if file.get_create_plist().get_sizes() != SIZES:
        return
    content = _stored(node, index or 0)
    if len(content) < VALUE.size:
        return
    _, address, _ = VALUE.unpack_from(content)
    handle, start = file.get_vfd_handle(), node.file.userblock_size + address
    if start + HEADER.size > os.fstat(handle).st_size:
        return  # the library says so
    magic, _, size = HEADER.unpack(os.pread(handle, HEADER.size, start))
    if magic == b"GCOL" and size <= os.fstat(handle).st_size - start:
        for step in _steps(os.pread(handle, size, start)):
            if not step:
                raise OSError("a heap of values of variable length is damaged")


def _steps(collection: bytes) -> Iterator[int]:
    """How far it is from each object of a collection to the next; 0 for one that leads nowhere."""
    at = HEADER.size
    while at + OBJECT.size <= len(collection):
        number, size = OBJECT.unpack_from(collection, at)
        step = OBJECT.size + -(-size // ALIGNMENT) * ALIGNMENT if number else size
        if at + step > len(collection):
            step = 0
        yield step
        if not step:
            return
        at += step


def _stored(node: h5py.Dataset, index: int) -> bytes:
    """A value as it is in the file, and what follows; nothing if that cannot be told."""
    handle = node.file.id.get_vfd_handle()
    if node.chunks is None:
        offset = node.id.get_offset()
        return b"" if offset is None else os.pread(handle, VALUE.size, offset + index * VALUE.size)
    chunk = node.id.get_chunk_info_by_coord((index,))
    if chunk.byte_offset is None:
        return b""
    content = os.pread(handle, chunk.size, chunk.byte_offset)
    created = node.id.get_create_plist()
    for number in reversed(range(created.get_nfilters())):
        code = created.get_filter(number)[0]
        if chunk.filter_mask >> number & 1:
            continue
        if code == h5py.h5z.FILTER_DEFLATE:
            try:
                content = zlib.decompress(content)
            except zlib.error:
                return b""
        elif code == h5py.h5z.FILTER_SHUFFLE:
            content = np.frombuffer(content, np.uint8).reshape(VALUE.size, -1).T.tobytes()
        else:
            return b""
    return content[index % node.chunks[0] * VALUE.size :]
