"""One blob of a Caffe model, a BlobProto message: the numbers of a layer's weight or bias.

Three generations: `num`, `channels`, `height`, `width` (1 to 4) and `data` (5); `shape` (7) and `double_data` (8);
NVCaffe's `raw_data_type` (10) and `raw_data` (12), which DIGITS writes too.

Sources: `caffe.proto` of BVLC Caffe; that of NVCaffe 0.16 for the fields 10 and 12.
"""

from __future__ import annotations

from math import prod

import numpy as np

from fcnseg.weights.protobuf_wire import BYTES, FIXED32, FIXED64, VARINT, MalformedError, fields, integer, integers
from fcnseg.weights.tensors import Array, printable, shape_text

DATA, DOUBLE_DATA, SHAPE, RAW_DATA_TYPE, RAW_DATA = 5, 8, 7, 10, 12
LEGACY_AXES = (1, 2, 3, 4)
RAW_TYPES = {0: "<f8", 1: "<f4", 2: "<f2"}
"""NumPy's types by NVCaffe's numbers; it has integers too (3 and 4), which no weights are."""

MOST_AXES = 32

Chunks = list[memoryview | bytearray]


def read_blob(message: memoryview, name: str) -> Array:
    """Return a blob's numbers as a view where they lie in one piece: float32, float64, or NVCaffe's float16.

    `name` is for the errors. Raises MalformedError.
    """
    axes = dict.fromkeys(LEGACY_AXES, 0)
    shape: tuple[int, ...] | None = None
    chunks: dict[int, Chunks] = {DATA: [], DOUBLE_DATA: []}
    raw, raw_type = memoryview(b""), 0
    for number, wire, value in fields(message):
        if number == SHAPE and wire == BYTES:
            shape = tuple(integers(1, value))
        elif number in axes and wire == VARINT:
            axes[number] = integer(value)
        elif number == RAW_DATA_TYPE and wire == VARINT:
            raw_type = integer(value)
        elif number == RAW_DATA and wire == BYTES:
            raw = value
        elif number in chunks and wire in (BYTES, FIXED32 if number == DATA else FIXED64):
            _append(chunks[number], value, packed=wire == BYTES)
    if shape is None:
        shape = tuple(axes.values())
    if len(shape) > MOST_AXES:
        raise MalformedError(f"a blob of {len(shape)} axes")
    number = DOUBLE_DATA if chunks[DOUBLE_DATA] else DATA
    plain = _joined(chunks[number])
    dtype = "<f8" if number == DOUBLE_DATA else "<f4"
    if not len(raw):
        return _array(plain, dtype, shape, name)
    array = _array(raw, _raw_dtype(raw_type, name), shape, name)
    if len(plain) and not np.array_equal(array.astype("<f4"), _array(plain, dtype, shape, name).astype("<f4")):
        raise MalformedError(f"{printable(name)} has numbers twice, as data and as raw_data, and they differ")
    return array


def _append(chunks: Chunks, value: memoryview, *, packed: bool) -> None:
    """Add packed numbers, or a single one; single ones in a row are joined."""
    if packed:
        chunks.append(value)
    elif chunks and isinstance(chunks[-1], bytearray):
        chunks[-1] += value
    else:
        chunks.append(bytearray(value))


def _joined(chunks: Chunks) -> memoryview | bytearray:
    return bytearray().join(chunks) if len(chunks) != 1 else chunks[0]


def _raw_dtype(raw_type: int, name: str) -> str:
    dtype = RAW_TYPES.get(raw_type)
    if dtype is None:
        known = "0 (double), 1 (float) and 2 (float16)"
        raise MalformedError(f"{printable(name)} has the raw_data_type {raw_type}, and only {known} are numbers")
    return dtype


def _array(data: memoryview | bytearray, dtype: str, shape: tuple[int, ...], name: str) -> Array:
    if prod(shape) * np.dtype(dtype).itemsize != len(data):
        wide = f"{np.dtype(dtype).itemsize} bytes each"
        raise MalformedError(
            f"{printable(name)} should be {shape_text(shape)} numbers of {wide} but holds {len(data)} bytes"
        )
    if not len(data):
        raise MalformedError(f"{printable(name)} is empty")
    return np.frombuffer(data, dtype).reshape(shape)
