"""Writers of every form in which weights are read, for tests and `benchmarks.fuzz_weights`."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import h5py
import numpy as np
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file

from tests.caffe_files import field, raw_blob, write_caffemodel
from tests.weights.conftest import Arrays, as_caffe, as_torch, legacy

Write = Callable[[Path, Arrays], object]

FIRST_RELEASE = {
    "score_fr": "score-fr",
    "upscore2": "score2",
    "score_pool4": "score-pool4",
    "upscore_pool4": "score4",
    "score_pool3": "score-pool3",
    "upscore8": "upsample",
}


class Python2Pickler(pickle._Pickler):
    """Writes text as Python 2 did: as bytes."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_str(self, text: str) -> None:
        data = text.encode("latin1")
        self.write(b"U" + bytes([len(data)]) + data)
        self.memoize(text)

    dispatch[str] = save_str


def save_as_python_2(content: Any, path: Path) -> None:
    def dump(thing: Any, file: Any, protocol: int) -> None:
        Python2Pickler(file, protocol).dump(thing)

    module = SimpleNamespace(Pickler=Python2Pickler, dump=dump, __name__="pickle")
    torch.save(content, path, pickle_module=module, _use_new_zipfile_serialization=False)


def coarse(arrays: Arrays) -> Arrays:
    """Numbers that float16 and bfloat16 hold exactly."""
    return {name: np.clip(np.round(array * 512), -127, 127).astype(np.float32) / 64 for name, array in arrays.items()}


def prefixed(tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _nvcaffe(path: Path, arrays: Arrays, *, kind: int) -> None:
    layers = [
        field(100, field(1, name.encode()) + b"".join(field(7, raw_blob(a, kind)) for a in blobs))
        for name, blobs in as_caffe(arrays).items()
    ]
    path.write_bytes(field(1, b"net") + b"".join(layers))


def _first_release(path: Path, arrays: Arrays) -> None:
    blobs = as_caffe(legacy(arrays))
    biases = {layer: [np.zeros(3, np.float32)] for layer in blobs if layer.startswith("upscore")}
    renamed = {FIRST_RELEASE.get(layer, layer): values + biases.get(layer, []) for layer, values in blobs.items()}
    write_caffemodel(path, renamed, generation="layers")


def _hdf5(path: Path, arrays: Arrays, **options: Any) -> None:
    with h5py.File(path, "w") as file:
        for layer, blobs in as_caffe(arrays).items():
            for index, array in enumerate(blobs):
                file.create_dataset(f"data/{layer}/{index}", data=array, **options)


def _linked_hdf5(path: Path, arrays: Arrays) -> None:
    """Every second layer by a hard link, the others by soft ones."""
    with h5py.File(path, "w") as file:
        for number, (layer, blobs) in enumerate(as_caffe(arrays).items()):
            for index, array in enumerate(blobs):
                place = f"elsewhere/{layer}/{index}"
                file[place] = array
                file[f"data/{layer}/{index}"] = file[place] if number % 2 else h5py.SoftLink(f"/{place}")


def _checkpoint(path: Path, arrays: Arrays, *, save: Callable[..., object] = torch.save, **options: Any) -> None:
    momentum = {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    state = {"epoch": 3, "arch": "FCN8s", "optim_state_dict": momentum, "model_state_dict": as_torch(arrays)}
    save(state | {"best_mean_iu": np.float64(0.5)}, path, **options)


def _averaged(path: Path, arrays: Arrays) -> None:
    torch.save({"n_averaged": torch.tensor(3)} | prefixed(as_torch(arrays), "module."), path)


def _of_type(path: Path, arrays: Arrays, *, dtype: torch.dtype) -> None:
    save_torch_file({name: tensor.to(dtype) for name, tensor in as_torch(arrays).items()}, path)


FORMS: dict[str, Write] = {
    "caffe": lambda p, a: write_caffemodel(p, as_caffe(a)),
    "caffe-double": lambda p, a: write_caffemodel(p, as_caffe(a), double=True),
    "caffe-v1": lambda p, a: write_caffemodel(p, as_caffe(legacy(a)), generation="layers"),
    "caffe-v0": lambda p, a: write_caffemodel(p, as_caffe(legacy(a)), generation="v0"),
    "caffe-2015": _first_release,
    "nvcaffe-double": partial(_nvcaffe, kind=0),
    "nvcaffe-float": partial(_nvcaffe, kind=1),
    "nvcaffe-half": partial(_nvcaffe, kind=2),
    "hdf5": _hdf5,
    "hdf5-compressed": partial(_hdf5, compression="gzip", shuffle=True),
    "hdf5-links": _linked_hdf5,
    "torch": lambda p, a: torch.save(as_torch(a), p),
    "torch-legacy": lambda p, a: torch.save(as_torch(a), p, _use_new_zipfile_serialization=False),
    "torch-python-2": partial(_checkpoint, save=save_as_python_2),
    "torch-checkpoint": _checkpoint,
    "torch-averaged": _averaged,
    "torch-wrapped": lambda p, a: torch.save({"state_dict": {"net": prefixed(as_torch(a), "module._orig_mod.")}}, p),
    "safetensors": lambda p, a: save_file(a, p),
    "safetensors-wrapped": lambda p, a: save_file(prefixed(a, "module."), p, {"format": "pt"}),
    "safetensors-half": partial(_of_type, dtype=torch.float16),
    "safetensors-bfloat16": partial(_of_type, dtype=torch.bfloat16),
}
