"""PyTorch files (`.pth`, `.pt`), read without running any code they may carry."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fcnseg.errors import WeightsError
from fcnseg.weights.checkpoint import WHOLE_FILE, facts, find_state
from fcnseg.weights.pickle_outline import OutlineError, clean_state, foreign_objects, outline
from fcnseg.weights.tensors import Array, TensorFile, printable, quoted


def read(path: Path, key: str | None = None) -> TensorFile:
    """Return the tensors of a state dict, bare or inside a checkpoint, where `key` chooses one of several.

    Only tensors, containers and numbers are unpickled (`weights_only`); new files are mapped into memory. Raises
    WeightsError for anything else.
    """
    content = load_content(path)
    state, name = find_state(path, content, key)
    notes = () if name == WHOLE_FILE else (f"the state dict is {quoted(name)} in {path.name}",)
    arrays = {name: _array(path, name, tensor) for name, tensor in state.items()}
    return TensorFile(path, "pytorch", arrays, facts(content), notes=notes)


def load_content(path: Path) -> Any:
    """Return the content of a PyTorch file: tensors, containers, numbers, text. Raises WeightsError for all else."""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(torch.serialization.safe_globals(_numpy_scalars()))
        warnings.simplefilter("ignore")  # about pickle's protocol and sparse tensors: both end as errors here
        # under that name torch takes any file for safetensors
        source = stack.enter_context(path.open("rb")) if path.suffix == ".safetensors" else path
        mapped = source is path and zipfile.is_zipfile(path)
        try:
            # names and scalars that Python 2 wrote are bytes, which latin1 keeps
            return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped, encoding="latin1")
        except pickle.UnpicklingError as error:
            raise _refused(path) from error
        except Exception as error:  # torch raises many types for damaged files
            raise _unreadable(path, error) from error


def _refused(path: Path) -> WeightsError:
    """Return the error for a file that torch will not unpickle: the class in the way, and how to make a clean file."""
    try:
        content = outline(path)
    except OutlineError as error:
        return WeightsError(f"{path} cannot be read as a PyTorch file: {error}")
    place, kind = next(foreign_objects(content), ((), ""))
    if not kind:
        return WeightsError(f"{path} cannot be read as a PyTorch file: its pickle is damaged; fetch it again")
    where = f" (in {quoted('.'.join(place))})" if place else ""
    state = clean_state(content, f"torch.load({str(path)!r}, map_location='cpu', weights_only=False)")
    return WeightsError(
        f"{path} holds an object of {printable(kind)}{where}, whose loading could run code; if you trust the file, "
        f"make a clean one in Python, where that class is installed: torch.save({state}, 'clean.pth')"
    )


def _unreadable(path: Path, error: Exception) -> WeightsError:
    reason = printable((str(error) or type(error).__name__).splitlines()[0].rstrip("."), 200) + "; fetch it again"
    try:
        outline(path)
    except OutlineError as problem:
        reason = str(problem)
    return WeightsError(f"{path} cannot be read as a PyTorch file: {reason}")


def _numpy_scalars() -> list[Any]:
    """Return the types to unpickle figures that are NumPy numbers (pytorch-fcn's `best_mean_iu`)."""
    scalar = np.float64(0).__reduce__()[0]
    dtypes = (np.dtypes.Float64DType, np.dtypes.Float32DType, np.dtypes.Int64DType)
    return [np.dtype, *dtypes, *((scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core"))]


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
