"""Files that are no weights are named by their kind, whatever their name, in one line that says what to do."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

from fcnseg.errors import WeightsError
from fcnseg.weights.reading import read_weights
from tests.caffe_files import blob, field, number_field

A = np.arange(6, dtype=np.float32).reshape(1, 3, 1, 2)


def onnx_model() -> bytes:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2], [1, 2])
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [], [weight])
    model: bytes = helper.make_model(graph, producer_name="pytorch", producer_version="2").SerializeToString()
    return model


def solver_state() -> bytes:
    return number_field(1, 4000) + field(2, b"snap_iter_4000.caffemodel") + field(3, blob(A)) + number_field(4, 0)


def archive(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name in names:
            file.writestr(name, b"x")
    return out.getvalue()


def npz() -> bytes:
    out = io.BytesIO()
    np.savez(out, a=A)
    return out.getvalue()


def npy() -> bytes:
    out = io.BytesIO()
    np.save(out, A)
    return out.getvalue()


def tar(*names: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        for name in names:
            file.addfile(tarfile.TarInfo(name))
    return out.getvalue()


def hdf5(fill: Callable[[h5py.File], object]) -> bytes:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        fill(file)
    return out.getvalue()


def keras(file: h5py.File) -> None:
    file.attrs["keras_version"] = "2.4.0"
    file["model_weights/conv1/kernel:0"] = A


def script() -> bytes:
    out = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), out)
    return out.getvalue()


KINDS: dict[str, tuple[bytes | Callable[[], bytes], str]] = {
    "solverstate": (solver_state, "state of Caffe's solver"),
    "solverstate.h5": (lambda: hdf5(lambda f: f.create_dataset("iter", data=3)), "state of Caffe's solver"),
    "onnx": (onnx_model, "ONNX"),
    "npy": (npy, "NumPy array"),
    "npz": (npz, r"\(\.npz\)"),
    "keras.h5": (lambda: hdf5(keras), "Keras"),
    "keras": (lambda: archive("config.json", "model.weights.h5"), "Keras"),
    "other.h5": (lambda: hdf5(lambda f: f.create_dataset("x", data=A)), "without a /data group"),
    "binaryproto": (blob(A, generation="layers"), "binaryproto"),
    "binaryproto of NVCaffe": (blob(A), "binaryproto"),
    "prototxt": (b'name: "net"\nlayer { name: "data" }\n', "prototxt"),
    "prototxt, V1": (b'layers {\n  name: "data"\n}\n', "prototxt"),
    "prototxt of an input": (b"input_dim: 1\n", "prototxt"),
    "commented prototxt": ("# Netz für Straßen\n\n# v2\nlayer { }\n".encode(), "prototxt"),
    "solver": (b'train_net: "train.prototxt"\nbase_lr: 1e-10\n', "settings of a Caffe solver"),
    "zip": (lambda: archive("fcn8s-heavy-pascal.caffemodel"), r"zip archive of fcn8s-heavy-pascal\.caffemodel; unpack"),
    "cut zip": (lambda: npz()[:60], "cut short"),
    "tar": (lambda: tar("fcn8s.pth"), "tar archive; unpack"),
    "PyTorch's tar": (lambda: tar("sys_info", "pickle", "storages"), "PyTorch's first format"),
    "gzip": (b"\x1f\x8b" + bytes(90), "gzip archive; unpack"),
    "script": (script, r"TorchScript.*torch\.jit\.load"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "annex": (b"/annex/objects/SHA256E-s1--ab\n", "git annex get"),
    "page": ("<!DOCTYPE html><title>Nicht gefunden – Fehler 404</title>".encode(), "web page"),
    "page with a mark": (b"\xef\xbb\xbf<html></html>", "web page"),
    "json": (json.dumps({"error": "not found"}).encode(), "JSON"),
    "text": (b"404: Not Found", "text, which begins '404: Not Found'"),
    "UTF-16": ("layer { }".encode("utf-16"), "prototxt"),
    "zeros": (bytes(4000), "nothing but zeros"),
    "empty": (b"", "is empty"),
    "matlab": (b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + bytes(200), "MATLAB"),
    "engine": (b"ftrt" + bytes(200), "TensorRT engine"),
    "frozen graph": (number_field(1, 1) + field(2, b"\x0a\x03abc"), "another program"),
    "pickle": (pickle.dumps({"a": 1}, 2), "torch.save did not write"),
    "pickle of protocol 0": (pickle.dumps({"a": 1}, 0), "pickle of protocol 0"),
}


@pytest.mark.parametrize("name", ["weights.caffemodel", "weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_named(kind: str, name: str, tmp_path: Path) -> None:
    content, words = KINDS[kind]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content())
    with pytest.raises(WeightsError, match=words) as caught:
        read_weights(tmp_path / name)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / name} ")
    assert "\n" not in message
