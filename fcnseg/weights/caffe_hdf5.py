"""Caffe's HDF5 snapshots (`.caffemodel.h5`): `/data/LAYER/0` is a layer's weight, `/data/LAYER/1` its bias.

A layer's name may hold slashes (GoogLeNet's do); HDF5 then nests groups.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fcnseg.errors import WeightsError
from fcnseg.weights.tensors import Array, TensorFile, blob_name, printable, shape_text

MAX_COMPRESSION = 1100
"""Deflate packs at most 1032 to one: a data set that claims more is damaged."""


def read(path: Path) -> TensorFile:
    """Return every blob under `/data`. Raises WeightsError for a damaged file or one without that group."""
    import h5py  # a tenth of a second, for one of four formats

    from fcnseg.io.hdf5 import node_at, open_hdf5

    tensors: dict[str, Array] = {}

    def visit(name: str, item: object) -> None:
        layer, _, index = name.rpartition("/")
        if isinstance(item, h5py.Dataset) and layer and index.isdecimal():
            tensors[blob_name(layer, int(index))] = _numbers(f"/data/{printable(name)}", item)

    try:
        with open_hdf5(path) as file:
            data = node_at(file, "data")
            if not isinstance(data, h5py.Group):
                raise WeightsError(f"{path} is HDF5 without a /data group; Caffe's snapshots have one")
            data.visititems(visit)
    # damaged bytes make the HDF5 library fail in many ways
    except (
        OSError,
        RuntimeError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        ArithmeticError,
        MemoryError,
    ) as error:
        reason = printable(" ".join(str(error).split()), 200)
        raise WeightsError(f"{path} cannot be read as HDF5: {reason}; fetch it again") from error
    if not tensors:
        raise WeightsError(f"{path} holds no layers under /data; it is no Caffe snapshot")
    return TensorFile(path, "caffe-hdf5", tensors)


def _numbers(name: str, item: Any) -> Array:
    """Read a data set. Raises ValueError for text, for data in other files, and for data the file cannot hold."""
    if item.external or item.is_virtual:  # asked first: a virtual one opens the others when its shape is asked for
        raise ValueError(f"{name} keeps its numbers in another file")
    if item.shape is None or item.dtype.kind not in "fiu":
        raise ValueError(f"{name} holds no numbers")
    stored = item.id.get_storage_size()
    if not 0 < item.size * item.dtype.itemsize <= stored * (1 if item.chunks is None else MAX_COMPRESSION):
        raise ValueError(f"{name} of {shape_text(item.shape)} has {stored} bytes")
    return np.asarray(item[()])
