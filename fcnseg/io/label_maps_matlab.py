"""Label maps in `.mat` files, of every version of MATLAB."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import h5py
from numpy.typing import NDArray
from scipy.io import loadmat

from fcnseg.errors import LabelsError
from fcnseg.io.conventions import VARIABLES
from fcnseg.io.hdf5 import names_in, node_at, open_hdf5, read_values
from fcnseg.io.images import MAX_PIXELS
from fcnseg.io.raw_map import RawMap, check_memory

HEADER_BYTES = 128
"""The header of a file of version 5 ("MAT-File Format", MathWorks): a text, and at its end the order of bytes."""

COMPRESSED = 15
"""The type of an element that is packed with zlib."""

PIECE_BYTES = 1 << 20
"""How much is unpacked at once."""

MOST_BYTES = 8 * MAX_PIXELS
"""The most that all variables of a file may unpack to: MATLAB's numbers have 8 bytes."""

SBD = "GTcls"
"""The variable with SBD's label map, in its field `Segmentation`."""


def read_from_mat(file: str) -> RawMap:
    """Read the one label map of a file, or that of a known data set among others. Raises LabelsError, or whatever SciPy
    and h5py do, without naming the file."""
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
    """Raise LabelsError if the variables of a file of version 5 unpack to more than an image takes, or than there is
    memory for. Other versions do not pack them, or are HDF5."""
    with Path(file).open("rb") as opened:
        head = opened.read(HEADER_BYTES)
        if not head.startswith(b"MATLAB 5") or head[126:] not in (b"IM", b"MI"):
            return
        element, total = struct.Struct("<2L" if head[126:] == b"IM" else ">2L"), 0
        while len(tag := opened.read(element.size)) == element.size:
            kind, left = element.unpack(tag)
            if kind != COMPRESSED:
                opened.seek(left, 1)
                continue
            unpacker = zlib.decompressobj()
            while left > 0 and (piece := opened.read(min(left, PIECE_BYTES))):
                left -= len(piece)
                while piece and not unpacker.eof:
                    total += len(unpacker.decompress(piece, PIECE_BYTES))
                    piece = unpacker.unconsumed_tail
                    if total > MOST_BYTES:
                        raise LabelsError(f"unpacks to more than {MOST_BYTES} bytes, which no label map takes")
    check_memory(total)


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
