"""Our own weight files: safetensors, with the recipe, the source and its SHA-256 in the metadata.

The writer streams: the library's own would hold a second copy of all tensors. Source of the layout: the safetensors
format (8 bytes little-endian header length, JSON header, raw bytes).
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open

from fcnseg.errors import WeightsError
from fcnseg.weights.tensors import Array, TensorFile, float32_chunks, forget_pages, printable

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BOOL": "?"} | {
    f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)
}
"""NumPy's types by the format's names; it has none for bfloat16, the upper half of a float32."""


def read(path: Path) -> TensorFile:
    """Return every tensor of a safetensors file, as views of the mapped file; writing to them does not change it.

    bfloat16 becomes float32. Raises WeightsError for a damaged file.
    """
    try:
        with safe_open(path, framework="numpy") as file:  # which checks the header
            names, metadata = list(file.keys()), dict(file.metadata() or {})
        with path.open("rb") as stream:
            mapping = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        begin = 8 + int.from_bytes(mapping[:8], "little")
        header = json.loads(mapping[8:begin])
        tensors = {name: _array(mapping, begin, **header[name]) for name in names}
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = printable(" ".join(str(error).split()), 200)
        raise WeightsError(f"{path} cannot be read as safetensors: {reason}; fetch it again") from error
    if not tensors:
        raise WeightsError(f"{path} holds no tensors; fetch it again")
    return TensorFile(path, "safetensors", tensors, metadata, lambda: forget_pages(mapping))


def _array(mapping: mmap.mmap, begin: int, dtype: str, shape: list[int], data_offsets: list[int]) -> Array:
    if dtype not in DTYPES and dtype != "BF16":
        raise ValueError(f"a tensor is {dtype}; save it as float32")
    stored = np.dtype(DTYPES.get(dtype, "<u2"))
    numbers = np.frombuffer(mapping, stored, prod(shape), begin + data_offsets[0]).reshape(shape)
    return (numbers.astype("<u4") << 16).view("<f4") if dtype == "BF16" else numbers


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
