"""Caffe's HDF5 snapshots (`.caffemodel.h5`): `/data/LAYER/0` is a layer's weight, `/data/LAYER/1` its bias.

A layer's name may hold slashes (GoogLeNet's do); HDF5 then nests groups. Two names may lead to one blob, by hard or
soft links, as layers that share their weights have it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fcnseg.errors import WeightsError
from fcnseg.weights.tensors import Array, TensorFile, blob_name, printable, shape_text

MAX_COMPRESSION = 1100
"""Deflate packs at most 1032 to one: a data set that claims more is damaged."""

MOST_NODES, DEEPEST = 10_000, 32
"""Groups and data sets, counted as often as links lead to them, and groups within groups: circles have no end."""


def read(path: Path) -> TensorFile:
    """Return every blob under `/data`. Raises WeightsError for a damaged file or one without that group."""
    import h5py  # a tenth of a second, for one of four formats

    from fcnseg.io.hdf5 import node_at, open_hdf5

    try:
        with open_hdf5(path) as file:
            data = node_at(file, "data")
            if not isinstance(data, h5py.Group):
                raise WeightsError(f"{path} {_kind(file)}")
            tensors = _Snapshot(path, data).tensors
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


def _kind(file: Any) -> str:
    """Return what an HDF5 file without `/data` is, and what to do."""
    names = set(file)
    if {"iter", "learned_net"} & names:
        return "is the state of Caffe's solver, not weights; the weights are in the .caffemodel.h5 beside it"
    if {"model_weights", "layers", "_layer_checkpoint_dependencies"} & names or {
        "keras_version",
        "layer_names",
    } & set(file.attrs):
        return "is a model of Keras, which is not read; name its layers as Caffe does and save them as safetensors"
    return "is HDF5 without a /data group; Caffe's snapshots have one"


class _Snapshot:
    """Reads every data set below a group, also those to which several names or links lead."""

    def __init__(self, path: Path, data: Any) -> None:
        self.path = path
        self.tensors: dict[str, Array] = {}
        self._arrays: dict[int, Array] = {}
        self._nodes = 0
        self._read_group(data, "")

    def _read_group(self, group: Any, prefix: str) -> None:
        import h5py

        from fcnseg.io.hdf5 import names_in

        for name in names_in(group):
            path = f"{prefix}{name}"
            self._nodes += 1
            if self._nodes > MOST_NODES or path.count("/") > DEEPEST:
                raise WeightsError(f"{self.path}: links in it lead in a circle; save the snapshot again without them")
            node = self._node(group, name, path)
            if isinstance(node, h5py.Group):
                self._read_group(node, f"{path}/")
                continue
            address = h5py.h5o.get_info(node.id).addr
            if address not in self._arrays:
                self._arrays[address] = _numbers(f"/data/{printable(path)}", node)
            self.tensors[_tensor_name(path)] = self._arrays[address]

    def _node(self, group: Any, name: str, path: str) -> Any:
        """Return a group or data set of this file. Raises WeightsError for what is no part of it."""
        import h5py

        from fcnseg.io.hdf5 import node_at

        place = f"{self.path}: /data/{printable(path)}"
        try:
            node = node_at(group, name)
        except OSError as error:
            raise WeightsError(f"{place}: {printable(' '.join(str(error).split()), 200)}") from error
        if not isinstance(node, h5py.Group | h5py.Dataset):
            raise WeightsError(f"{place} is a link that leads nowhere; save the snapshot again")
        return node


def _tensor_name(path: str) -> str:
    layer, _, index = path.rpartition("/")
    return blob_name(layer, int(index)) if layer and index.isdecimal() else path


def _numbers(name: str, item: Any) -> Array:
    """Read a data set. Raises ValueError for text, and for data that the file cannot hold."""
    if item.shape is None or item.dtype.kind not in "fiu":
        raise ValueError(f"{name} holds no numbers")
    stored = item.id.get_storage_size()
    if not 0 < item.size * item.dtype.itemsize <= stored * (1 if item.chunks is None else MAX_COMPRESSION):
        raise ValueError(f"{name} of {shape_text(item.shape)} has {stored} bytes")
    return np.asarray(item[()])
