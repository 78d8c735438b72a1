"""Our own weight files: safetensors, with the recipe, the source and its SHA-256 in the metadata.

The writer streams: the library's own would hold a second copy of all tensors. Source of the layout: the safetensors
format (8 bytes little-endian header length, JSON header, raw bytes).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fcnseg.errors import WeightsError
from fcnseg.weights.tensors import Array, TensorFile, as_array


def read(path: Path) -> TensorFile:
    """Every tensor of a safetensors file. Raises WeightsError for a damaged one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: as_array(file.get_tensor(key)) for key in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {error}; fetch it again") from error
    return TensorFile(path, "safetensors", tensors, metadata)


def write(file: BinaryIO, tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write float32 `tensors` one after the other, none of them copied."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, array in tensors.items():
        begin, end = end, end + 4 * array.size
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for array in tensors.values():
        file.write(np.ascontiguousarray(array, "<f4").data)
