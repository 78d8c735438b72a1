"""HDF5 files read with h5py: the one place that knows its exceptions, and that names need not be UTF-8."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py

from fcnseg.io.hdf5_damage import check_chunks

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
    marked = ("MATLAB_class" in node.attrs for node in file.values() if node is not None)  # None: a link to nowhere
    return _starts_with(file.filename, b"MATLAB 7.3") or any(marked)


def _starts_with(path: str | Path, magic: bytes) -> bool:
    """Tell whether a file starts with these bytes."""
    with Path(path).open("rb") as file:
        return file.read(len(magic)) == magic


def node_at(group: h5py.Group, name: str) -> Any:
    """Return the dataset or group of that name; None if there is none."""
    try:
        return group[os.fsencode(name)]
    except (KeyError, UnicodeDecodeError):  # the latter: h5py fails to quote a name that is not there
        return None


def name_of(node: h5py.Dataset | h5py.Group) -> str:
    """Return the full name of a dataset or group; bytes that are no UTF-8 become surrogates, as in paths."""
    return os.fsdecode(node.name)


def names_in(group: h5py.Group) -> list[str]:
    """Return the names in a group."""
    return [os.fsdecode(name) for name in group]


def read_values(node: h5py.Dataset, index: int | None = None) -> Any:
    """Read the values at an index of the first axis, or all. Raises one of DAMAGED."""
    check_chunks(node, index)
    return node[() if index is None else index]
