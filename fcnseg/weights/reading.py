"""Any weight file, recognised by what it holds and not by what it is called."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

from fcnseg.errors import WeightsError
from fcnseg.weights import caffe, caffe_hdf5, safetensors_file, state_dict
from fcnseg.weights.tensors import TensorFile

READERS: dict[str, Callable[[Path], TensorFile]] = {
    "caffe": caffe.read,
    "caffe-hdf5": caffe_hdf5.read,
    "pytorch": state_dict.read,
    "safetensors": safetensors_file.read,
}

FOREIGN = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"<": "a web page or XML",
    b"name:": "a Caffe network definition (prototxt); the weights are in the .caffemodel",
    b"layer": "a Caffe network definition (prototxt); the weights are in the .caffemodel",
    b"#": "text, perhaps a Caffe network definition (prototxt); the weights are in the .caffemodel",
    b"input": "a Caffe network definition (prototxt); the weights are in the .caffemodel",
    b"version https://git-lfs": "a Git LFS pointer; fetch the file itself",
    b"\x1f\x8b": "a gzip archive; unpack it first",
}


def read_weights(path: Path) -> TensorFile:
    """The tensors of a Caffe, PyTorch or safetensors file. Raises WeightsError for a missing or foreign one."""
    return READERS[detect(path)](path)


def detect(path: Path) -> str:
    """The format of a file, by its first bytes. Raises WeightsError if it is none that can hold weights."""
    if path.is_dir():
        raise WeightsError(f"{path} is a folder; name the weight file in it")
    if not path.is_file():
        raise WeightsError(f"there is no weight file {path}; check the path")
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}; check its permissions") from error
    if not start:
        raise WeightsError(f"{path} is empty; fetch it again")
    for magic, what in FOREIGN.items():
        if start.lstrip().startswith(magic):
            raise WeightsError(f"{path} holds no weights: it is {what}")
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return "caffe-hdf5"
    if (
        zipfile.is_zipfile(path)
        or start.startswith(b"PK\x03\x04")
        or (start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"))
    ):
        return "pytorch"
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        return "safetensors"
    return "caffe"


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal. Raises WeightsError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}; check its permissions") from error
