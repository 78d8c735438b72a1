"""Label maps in HDF5 files: datasets of one or many, found by name and read."""

from __future__ import annotations

import math
import os
from typing import Any

import h5py
import numpy as np

from fcnseg.errors import LabelsError
from fcnseg.io.hdf5 import check_own_values, name_of, names_in, node_at, open_hdf5, read_values
from fcnseg.io.raw_map import MapLocation, RawMap, check_memory, map_errors
from fcnseg.io.suffixes import MATLAB, has_suffix

CLASSES = ".classes"
"""The end of the names of datasets of classes, beside which lie the probabilities of these, the best few."""


def locate_in_hdf5(file: str, name: str = "") -> dict[str, MapLocation]:
    """Return the location of each map of an HDF5 file, or of one of its groups or datasets, by name.

    A dataset H x W is one map; whole numbers N x H x W are N, floats K x H x W one map's probabilities, and
    N x K x H x W those of N. Beside the probabilities of the most probable classes lie these, as NAME.classes.
    Raises LabelsError if it cannot be read or holds none.
    """
    locations: dict[str, MapLocation] = {}
    with map_errors(MapLocation(file)), open_hdf5(file) as h5:
        root = node_at(h5, name) if name else h5
        if root is None:
            raise LabelsError(f"has no {name}; it holds {', '.join(names_in(h5)) or 'nothing'}")

        def visit(path: str | bytes, node: Any) -> None:
            if isinstance(node, h5py.Dataset) and not name_of(node).startswith("/#"):  # MATLAB's own
                locations.update(_maps_of(node, file, os.fsdecode(path)))

        if isinstance(root, h5py.Dataset):
            visit("", root)
        else:
            root.visititems(visit)
        if not locations:
            raise LabelsError("holds no label maps: datasets H x W, N x H x W or K x H x W")
    return locations


def _maps_of(node: h5py.Dataset, file: str, path: str) -> dict[str, MapLocation]:
    """Return the location of each map in a dataset, by its path from where the search began."""
    dataset, floats = name_of(node), node.dtype.kind == "f"
    try:
        check_own_values(node)
    except OSError as error:
        raise LabelsError(f"::{dataset} cannot be read: {error}") from error
    probabilities = dataset.removesuffix(CLASSES)
    of_probabilities = probabilities != dataset and node_at(node.file, probabilities) is not None
    if node.dtype.kind not in "biuf" or node.ndim not in (2, 3, 4) or of_probabilities:
        return {}
    colors = node.dtype == np.uint8 and node.shape[-1] == 3
    axes = node.ndim - (1 if floats or colors else 0)
    if axes == 2:
        return {path or dataset.rpartition("/")[2]: MapLocation(file, dataset)}
    if axes == 3:
        return {f"{path}/{i:06}".lstrip("/"): MapLocation(file, dataset, i) for i in range(len(node))}
    return {}


def has_dataset(file: str, name: str) -> bool:
    """Tell whether an HDF5 file has a group or dataset of that name. Raises LabelsError if it cannot be read."""
    with map_errors(MapLocation(file)), open_hdf5(file) as h5:
        return node_at(h5, name) is not None


def read_from_hdf5(location: MapLocation) -> RawMap:
    """Read one map. Raises LabelsError, or one of `hdf5.DAMAGED`, without naming the file."""
    with open_hdf5(location.file) as h5:
        node = node_at(h5, location.dataset)
        if not isinstance(node, h5py.Dataset):
            raise LabelsError("is no dataset")
        planes = node.shape if location.number is None else node.shape[1:]
        check_memory(math.prod(planes) * node.dtype.itemsize)
        classes = node_at(h5, f"{location.dataset}{CLASSES}")
        if classes is not None:
            return RawMap(read_values(classes, 0), confidence=read_values(node, 0))
        values = read_values(node, location.number)
        if has_suffix(location.file, MATLAB):  # column by column
            values = values.swapaxes(-1, -2)
        return RawMap(values)
