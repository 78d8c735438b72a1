"""What a weight file holds, whatever its format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[Any]


@dataclass(frozen=True)
class TensorFile:
    """The tensors of a file by name (`LAYER.weight`, `LAYER.bias`), as views of the file where the format allows."""

    path: Path
    format: str
    tensors: Mapping[str, Array]
    metadata: Mapping[str, str] = field(default_factory=dict)


def blob_name(layer: str, index: int) -> str:
    """Caffe's blob 0 of a layer is its weight, blob 1 its bias."""
    return f"{layer}.{('weight', 'bias')[index]}" if index < 2 else f"{layer}.blob{index}"


def as_array(tensor: Tensor) -> Array:
    """A torch tensor as NumPy: the same memory, or float32 where NumPy has no such type (bfloat16)."""
    import torch

    array: Array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()
    return array
