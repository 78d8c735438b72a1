"""Label maps in `.mat` files, of every version of MATLAB."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import h5py
from numpy.typing import NDArray

from fcnseg.errors import LabelsError, require
from fcnseg.io.conventions import VARIABLES
from fcnseg.io.hdf5 import names_in, node_at, open_hdf5, read_values
from fcnseg.io.images import MAX_PIXELS
from fcnseg.io.matlab_elements import MATRIX, check_variable
from fcnseg.io.raw_map import RawMap, check_memory

HEADER_BYTES = 128
"""The header of a file of version 5 ("MAT-File Format", MathWorks): a text, and at its end the order of bytes."""

VERSION_5 = 0x0100

COMPRESSED = 15
"""The type of an element that is packed with zlib."""

MOST_BYTES = 8 * MAX_PIXELS
"""The most that all variables of a file may unpack to: MATLAB's numbers have 8 bytes."""

SBD = "GTcls"
"""The variable with SBD's label map, in its field `Segmentation`."""


def read_from_mat(file: str) -> RawMap:
    """Read the one label map of a file, or that of a known data set among others. Raises LabelsError, or whatever SciPy
    and h5py do, without naming the file."""
    require("scipy")
    from scipy.io import loadmat

    check_mat(file)
    try:
        variables = loadmat(file)
    except NotImplementedError:  # version 7.3 is HDF5
        return _read_from_hdf5(file)
    name = _variable([n for n, value in variables.items() if not n.startswith("__") and _is_map(n, value)])
    value = variables[name]
    if name == SBD:
        if "Segmentation" not in (value.dtype.names or ()):
            raise LabelsError("has a GTcls without Segmentation; SBD's has one")
        value = value["Segmentation"][0, 0]
    return RawMap(value, variable=name)


def check_mat(file: str | Path) -> None:
    """Raise LabelsError, without naming the file, if one of version 5 is damaged, or unpacks to more than an image
    takes or there is memory for. Other versions do not pack their variables, or are HDF5."""
    with Path(file).open("rb") as opened:
        head = opened.read(HEADER_BYTES)
        order, left = {b"IM": "<", b"MI": ">"}.get(head[126:], ""), MOST_BYTES
        if not order or struct.unpack(f"{order}H", head[124:126]) != (VERSION_5,):
            return
        while tag := opened.read(8):
            kind, size = struct.unpack(f"{order}2L", tag) if len(tag) == 8 else (0, 0)
            if kind not in (COMPRESSED, MATRIX) or size > MOST_BYTES:
                raise LabelsError("is damaged: it holds something else than variables")
            content = opened.read(size)
            if kind == COMPRESSED:
                content = zlib.decompressobj().decompress(content, left + 1)
                kind, size = struct.unpack_from(f"{order}2L", content) if len(content) >= 8 else (0, 0)
                content = content[8:]
            left -= len(content)
            if left < 0:
                raise LabelsError(f"unpacks to more than {MOST_BYTES} bytes, which no label map takes")
            if kind != MATRIX or len(content) < size:
                raise LabelsError("is damaged: a variable is cut short")
            check_variable(memoryview(content)[:size], order)
    check_memory(MOST_BYTES - left)


def _is_map(name: str, value: NDArray[Any]) -> bool:
    return name == SBD or (value.ndim == 2 and value.dtype.kind in "biuf" and min(value.shape) > 0)


def _read_from_hdf5(file: str) -> RawMap:
    with open_hdf5(file) as h5:
        nodes = {name: node_at(h5, name) for name in names_in(h5)}
        planes = (n for n, node in nodes.items() if n == SBD or (isinstance(node, h5py.Dataset) and node.ndim == 2))
        name = _variable(list(planes))
        node = nodes[name]
        if name == SBD:
            node = node_at(node, "Segmentation") if isinstance(node, h5py.Group) else None
            if not isinstance(node, h5py.Dataset):
                raise LabelsError("has a GTcls without Segmentation; SBD's has one")
        return RawMap(read_values(node).T, variable=name)


def _variable(names: list[str]) -> str:
    known = [name for name in VARIABLES if name in names] or names
    if len(known) != 1:
        held = ", ".join(names) or "none"
        raise LabelsError(f"has several or no label maps ({held}); expected one, or {', '.join(VARIABLES)}")
    return known[0]
