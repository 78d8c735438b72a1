"""Write torch's tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from fcnseg.weights.safetensors_file import write


def save_file(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write a file, as float32."""
    with Path(path).open("wb") as file:
        write(file, {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}, metadata)
