"""Read a weight file of any format, recognised by its content and not by its name."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from fcnseg.errors import SettingsError, WeightsError, installs
from fcnseg.weights import caffe, caffe_hdf5, safetensors_file
from fcnseg.weights.foreign import START_BYTES, refusal, zip_names, zip_refusal
from fcnseg.weights.tensors import TensorFile


def _read_state_dict(path: Path, key: str | None) -> TensorFile:
    """Read the only format that needs torch."""
    if not find_spec("torch"):
        raise WeightsError(f"{path} is a PyTorch file, which needs torch; {installs('torch')}")
    from fcnseg.weights import state_dict

    return state_dict.read(path, key)


READERS: dict[str, Callable[[Path], TensorFile]] = {
    "caffe": caffe.read,
    "caffe-hdf5": caffe_hdf5.read,
    "safetensors": safetensors_file.read,
}


def read_weights(path: Path, key: str | None = None) -> TensorFile:
    """Return the tensors of a Caffe, PyTorch or safetensors file.

    `key` names one of several state dicts in a PyTorch checkpoint. Raises WeightsError for a missing or foreign file,
    SettingsError for a key that it does not have.
    """
    form = detect(path)
    if form == "pytorch":
        return _read_state_dict(path, key)
    if key is not None:
        raise SettingsError(f"{path} is no PyTorch checkpoint, which --key is for; leave it out")
    return READERS[form](path)


def detect(path: Path) -> str:
    """Return the format of a file, by its content. Raises WeightsError if that holds no weights."""
    if path.is_dir():
        raise WeightsError(f"{path} is a folder; name the weight file in it")
    if not path.is_file():
        raise WeightsError(f"there is no weight file {path}; check the path")
    try:
        return _format(path)
    except zipfile.BadZipFile as error:
        reason = "begins as a zip archive, as PyTorch's files do, but is cut short or damaged"
        raise WeightsError(f"{path} {reason}; fetch it again") from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}; check its permissions") from error


def _format(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(START_BYTES)
    if not start:
        raise WeightsError(f"{path} is empty; fetch it again")
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return "caffe-hdf5"
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        return "safetensors"
    pickled = start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    names = None if pickled else zip_names(path)
    kind = zip_refusal(names) if names is not None else None if pickled else refusal(path, start)
    if kind is not None:
        raise WeightsError(f"{path} holds no weights that are read: it is {kind}")
    return "pytorch" if pickled or names is not None else "caffe"
