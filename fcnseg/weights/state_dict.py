"""PyTorch state dicts (`.pth`, `.pt`), read without running any code they may carry."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fcnseg.errors import WeightsError
from fcnseg.weights.tensors import Array, TensorFile, printable

NESTED = ("model_state_dict", "state_dict", "model")
"""Keys of checkpoints that hold the state dict: pytorch-fcn's, and two common ones."""


def read(path: Path) -> TensorFile:
    """Return the tensors of a state dict, bare or inside a checkpoint. Raises WeightsError for anything else.

    Only tensors, containers and numbers are unpickled (`weights_only`); new files are mapped into memory.
    """
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_numpy_scalars()):
            warnings.simplefilter("ignore")  # about pickle's protocol and sparse tensors: both end as errors here
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{path} holds more than plain tensors, or is damaged ({reason}); it is not read") from error
    except Exception as error:  # torch raises many types for damaged files
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{path} cannot be read as a PyTorch file: {reason}; fetch it again") from error
    return TensorFile(path, "pytorch", _arrays(path, _state(content)))


def _numpy_scalars() -> list[Any]:
    """Return the types to unpickle figures that are NumPy numbers (pytorch-fcn's `best_mean_iu`)."""
    scalar = np.float64(0).__reduce__()[0]
    dtypes = (np.dtypes.Float64DType, np.dtypes.Float32DType, np.dtypes.Int64DType)
    return [np.dtype, *dtypes, *((scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core"))]


def _state(content: Any) -> Any:
    for key in NESTED:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            return content[key]
    return content


def _arrays(path: Path, state: Any) -> dict[str, Array]:
    if not isinstance(state, dict) or not all(isinstance(k, str) for k in state):
        raise WeightsError(f"{path} holds no state dict; save `model.state_dict()`")
    tensors = {k: v for k, v in state.items() if isinstance(v, torch.Tensor)}
    if not tensors:
        raise WeightsError(f"{path} holds a dictionary without tensors; save `model.state_dict()`")
    return {name: _array(path, name, tensor) for name, tensor in tensors.items()}


def _array(path: Path, name: str, tensor: Any) -> Array:
    try:
        return _as_array(tensor)
    except ValueError as error:
        raise WeightsError(f"{path}: {printable(name)} cannot be used: {error}") from error


def _as_array(tensor: torch.Tensor) -> Array:
    """Return a torch tensor as NumPy: the same memory, or float32 where NumPy has no such type (bfloat16).

    Raises ValueError for anything but a plain array of real numbers, and for a tensor larger than its data.
    """
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.device.type != "cpu":
        raise ValueError("it is no plain array of real numbers; save it dense, as float32")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError("it is larger than its data; fetch the file again")
    try:
        array: Array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"it is {tensor.dtype}; save it as float32") from error
    return array
