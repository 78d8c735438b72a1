"""HDF5 files read with h5py: the one place that knows its exceptions, and that names need not be UTF-8.

A file can name others: by external links, and as the place of a dataset's values (external storage, virtual datasets).
The library would follow them to any file of this machine, and wait for ever for a named pipe. So nothing is opened by a
path, only step by step (`node_at`), and a dataset's values are looked for before its shape is asked for, for which a
virtual one opens its sources.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import h5py

from fcnseg.io.hdf5_damage import check_chunks

MOST_LINKS = 16
"""The most soft links that a name may lead through: HDF5's own limit."""

ELSEWHERE = "a link to another file, which is not followed; copy what is meant into this one"

LARGEST_CHUNK_BYTES = 1 << 30
"""The largest chunk that is unpacked: a few kilobytes can claim four gigabytes."""

DAMAGED = (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError)
"""The exceptions that h5py raises on damaged files."""


def open_hdf5(path: str | Path) -> h5py.File:
    """Open a file for reading, also where nothing can be locked. Raises one of DAMAGED (see `reason`)."""
    if not Path(path).is_file():
        Path(path).stat()
        raise OSError("it is no file")  # a named pipe, for which h5py would wait
    return h5py.File(path, "r", locking="best-effort")


def reason(error: BaseException) -> str:
    """Return what one of DAMAGED means, in one line."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    message = " ".join(str(error.args[0] if error.args else error).split())
    return "it is no HDF5 file" if "file signature not found" in message else message or type(error).__name__


def advice(path: str | Path) -> str:
    """Return what to do about a file that cannot be opened."""
    try:
        old = _starts_with(path, b"MATLAB 5.0")
    except OSError:
        return "check its permissions"
    return "it is in MATLAB's older format; save it with -v7.3" if old else "check that it is a whole HDF5 file"


def is_matlab(file: h5py.File) -> bool:
    """Tell whether MATLAB, or what writes its format, stored the file, and so reversed the order of all axes."""
    hard = (name for name in file if file.id.links.get_info(os.fsencode(name)).type == h5py.h5l.TYPE_HARD)
    return _starts_with(file.filename, b"MATLAB 7.3") or any("MATLAB_class" in file[name].attrs for name in hard)


def _starts_with(path: str | Path, magic: bytes) -> bool:
    """Tell whether a file starts with these bytes."""
    with Path(path).open("rb") as file:
        return file.read(len(magic)) == magic


def node_at(group: h5py.Group, name: str | bytes) -> Any:
    """Return the dataset or group of that name; None if there is none. Raises OSError if it, or what it holds, lies in
    another file."""
    node = _resolved(group, os.fsencode(name), MOST_LINKS)
    if isinstance(node, h5py.Dataset):
        check_own_values(node)
    return node


def _resolved(group: h5py.Group, path: bytes, links: int) -> Any:
    node: Any = group["/"] if path.startswith(b"/") else group
    for name in path.split(b"/"):
        if name in (b"", b"."):
            continue
        if not isinstance(node, h5py.Group):
            return None
        if not node.id.links.exists(name):
            return None
        kind = node.id.links.get_info(name).type
        if kind == h5py.h5l.TYPE_SOFT:
            node = _resolved(node, node.id.links.get_val(name), links - 1) if links else None
        elif kind == h5py.h5l.TYPE_HARD:
            node = node[name]
        else:
            raise OSError(ELSEWHERE)
    return node


def check_own_values(node: h5py.Dataset) -> None:
    """Raise OSError for a dataset whose values lie in other files, before anything opens these."""
    if node.is_virtual or node.external:
        how = "it is a virtual dataset" if node.is_virtual else "external storage"
        raise OSError(f"its values are in other files ({how}), which are not read; copy them into this one")


def name_of(node: h5py.Dataset | h5py.Group) -> str:
    """Return the full name of a dataset or group; bytes that are no UTF-8 become surrogates, as in paths."""
    return os.fsdecode(node.name)


def names_in(group: h5py.Group) -> list[str]:
    """Return the names in a group."""
    return [os.fsdecode(name) for name in group]


def read_values(node: h5py.Dataset, index: int | None = None) -> Any:
    """Read the values at an index of the first axis, or all. Raises one of DAMAGED."""
    check_own_values(node)
    check_chunk_size(node)
    check_chunks(node, index)
    return node[() if index is None else index]


def check_chunk_size(node: h5py.Dataset) -> None:
    """Raise OSError for chunks that would unpack to more memory than is reasonable."""
    size = math.prod(node.chunks or ()) * node.dtype.itemsize
    if size > LARGEST_CHUNK_BYTES:
        raise OSError(f"its chunks are of {size} bytes each, more than {LARGEST_CHUNK_BYTES}; store it in smaller ones")
