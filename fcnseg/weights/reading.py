"""Read a weight file of any format, recognised by its content and not by its name."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from fcnseg.errors import WeightsError, installs
from fcnseg.weights import caffe, caffe_hdf5, safetensors_file
from fcnseg.weights.tensors import TensorFile


def _read_state_dict(path: Path) -> TensorFile:
    """Read the only format that needs torch."""
    if not find_spec("torch"):
        raise WeightsError(f"{path} is a PyTorch file, which needs torch; {installs('torch')}")
    from fcnseg.weights import state_dict

    return state_dict.read(path)


READERS: dict[str, Callable[[Path], TensorFile]] = {
    "caffe": caffe.read,
    "caffe-hdf5": caffe_hdf5.read,
    "pytorch": _read_state_dict,
    "safetensors": safetensors_file.read,
}

FOREIGN = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x1f\x8b": "a gzip archive; unpack it first",
}
"""First bytes of binary files that hold no weights."""

FOREIGN_TEXT = {
    b"<": "a web page or XML",
    b"name:": "a Caffe network definition (prototxt); the weights are in the .caffemodel",
    b"layer": "a Caffe network definition (prototxt); the weights are in the .caffemodel",
    b"#": "text, perhaps a Caffe network definition (prototxt); the weights are in the .caffemodel",
    b"input": "a Caffe network definition (prototxt); the weights are in the .caffemodel",
    b"version https://git-lfs": "a Git LFS pointer; fetch the file itself",
}
"""First bytes, after white space, of text files that are mistaken for weights."""

TEXT = frozenset(b"\t\n\r" + bytes(range(32, 127)))


def read_weights(path: Path) -> TensorFile:
    """Return the tensors of a Caffe, PyTorch or safetensors file. Raises WeightsError for a missing or foreign one."""
    return READERS[detect(path)](path)


def detect(path: Path) -> str:
    """Return the format of a file, by its first bytes. Raises WeightsError if that holds no weights."""
    if path.is_dir():
        raise WeightsError(f"{path} is a folder; name the weight file in it")
    if not path.is_file():
        raise WeightsError(f"there is no weight file {path}; check the path")
    try:
        with path.open("rb") as file:
            start = file.read(256)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}; check its permissions") from error
    if not start:
        raise WeightsError(f"{path} is empty; fetch it again")
    _refuse_foreign(path, start)
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


def _refuse_foreign(path: Path, start: bytes) -> None:
    """Raise WeightsError for a file that is recognised as something else.

    A Caffe model begins with a line feed (field 1), its name's length and its name, which may look like any text, but
    bytes follow that no text has: only a file that begins without such bytes is text.
    """
    foreign = [kind for magic, kind in FOREIGN.items() if start.startswith(magic)]
    if TEXT.issuperset(start):
        foreign += [kind for magic, kind in FOREIGN_TEXT.items() if start.lstrip().startswith(magic)]
    if foreign:
        raise WeightsError(f"{path} holds no weights: it is {foreign[0]}")
