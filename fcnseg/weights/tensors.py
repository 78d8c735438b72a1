"""What a weight file holds, whatever its format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[Any]

CHUNK = 1 << 20
"""Numbers converted at a time."""


@dataclass(frozen=True)
class TensorFile:
    """The tensors of a file by name (`LAYER.weight`, `LAYER.bias`), as views of the file where the format allows.

    `forget` gives back the memory of what was read of a mapped file so far; it is read again when next touched. Call
    it only while nobody has written into the arrays.
    """

    path: Path
    format: str
    tensors: Mapping[str, Array]
    metadata: Mapping[str, str] = field(default_factory=dict)
    forget: Callable[[], None] = lambda: None


def float32_chunks(array: Array) -> Iterator[NDArray[np.float32]]:
    """The array's numbers in C order as little-endian float32, 1-D, at most CHUNK at a time; beyond its range: inf."""
    flat = array.reshape(-1)
    for start in range(0, flat.size, CHUNK):
        with np.errstate(over="ignore"):
            yield flat[start : start + CHUNK].astype("<f4")


def shape_text(shape: tuple[int, ...]) -> str:
    """A shape for people: "21 x 512 x 1 x 1"."""
    return " x ".join(map(str, shape)) or "a single number"


def printable(text: str, limit: int = 80) -> str:
    """A name from a file, fit for one line of a message: control characters escaped, shortened."""
    clean = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: limit + 1])
    return clean if len(clean) <= limit else clean[: limit - 3] + "..."


def blob_name(layer: str, index: int) -> str:
    """Caffe's blob 0 of a layer is its weight, blob 1 its bias."""
    return f"{layer}.{('weight', 'bias')[index]}" if index < 2 else f"{layer}.blob{index}"


def as_array(tensor: Tensor) -> Array:
    """A torch tensor as NumPy: the same memory, or float32 where NumPy has no such type (bfloat16).

    Raises ValueError for what is no plain array of real numbers, or is larger than its data.
    """
    import torch

    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.device.type != "cpu":
        raise ValueError("it is no plain array of real numbers; save it dense, as float32")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError("it is larger than its data; fetch the file again")
    try:
        array: Array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"it is {tensor.dtype}; save it as float32") from error
    return array
