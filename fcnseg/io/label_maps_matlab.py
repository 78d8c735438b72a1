"""Label maps in `.mat` files, of every version of MATLAB."""

from __future__ import annotations

from typing import Any

import h5py
from numpy.typing import NDArray
from scipy.io import loadmat

from fcnseg.errors import LabelsError
from fcnseg.io.conventions import VARIABLES
from fcnseg.io.hdf5 import names_in, node_at, open_hdf5, read_values
from fcnseg.io.raw_map import RawMap

SBD = "GTcls"
"""The variable with SBD's label map, in its field `Segmentation`."""


def read_from_mat(file: str) -> RawMap:
    """Read the one label map of a file, or that of a known data set among others. Raises LabelsError, or whatever SciPy
    and h5py do, without naming the file."""
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
