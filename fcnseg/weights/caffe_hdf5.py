"""Caffe's HDF5 snapshots (`.caffemodel.h5`): `/data/LAYER/0` is a layer's weight, `/data/LAYER/1` its bias.

A layer's name may hold slashes (GoogLeNet's do); HDF5 then nests groups.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fcnseg.errors import WeightsError
from fcnseg.weights.tensors import Array, TensorFile, blob_name


def read(path: Path) -> TensorFile:
    """Every blob under `/data`. Raises WeightsError for a damaged file or one without that group."""
    import h5py

    tensors: dict[str, Array] = {}

    def visit(name: str, item: object) -> None:
        layer, _, index = name.rpartition("/")
        if isinstance(item, h5py.Dataset) and layer and index.isdecimal():
            tensors[blob_name(layer, int(index))] = np.asarray(item[()])

    try:
        with h5py.File(path, "r") as file:
            if not isinstance(file.get("data"), h5py.Group):
                raise WeightsError(f"{path} is HDF5 without a /data group; Caffe's snapshots have one")
            file["data"].visititems(visit)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise WeightsError(f"{path} cannot be read as HDF5: {error}; fetch it again") from error
    if not tensors:
        raise WeightsError(f"{path} holds no layers under /data; it is no Caffe snapshot")
    return TensorFile(path, "caffe-hdf5", tensors)
