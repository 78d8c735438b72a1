"""Our own weight files: safetensors, with the recipe, the source and its SHA-256 in the metadata.

The writer streams: the library's own would hold a second copy of all tensors. Source of the layout: the safetensors
format (8 bytes little-endian header length, JSON header, raw bytes).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from safetensors import SafetensorError, safe_open

from fcnseg.errors import WeightsError
from fcnseg.weights.tensors import Array, TensorFile, as_array, float32_chunks, printable


def read(path: Path) -> TensorFile:
    """Return every tensor of a safetensors file. Raises WeightsError for a damaged one."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: as_array(file.get_tensor(key)) for key in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
    # torch, which maps the file, and the library have their own errors for damage
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = printable(" ".join(str(error).split()), 200)
        raise WeightsError(f"{path} cannot be read as safetensors: {reason}; fetch it again") from error
    if not tensors:
        raise WeightsError(f"{path} holds no tensors; fetch it again")
    return TensorFile(path, "safetensors", tensors, metadata)


def write(
    file: BinaryIO,
    tensors: Mapping[str, Array],
    metadata: Mapping[str, str],
    forget: Callable[[], None] = lambda: None,
) -> None:
    """Write `tensors`, of any real type, as float32 one after the other, converting a few MiB at a time.

    `forget` is called after each tensor: see `TensorFile`.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, array in tensors.items():
        begin, end = end, end + 4 * array.size
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % 64)  # aligned for vector instructions
    file.write(len(text).to_bytes(8, "little") + text)
    for array in tensors.values():
        for chunk in float32_chunks(array):
            file.write(chunk.data)
        forget()
