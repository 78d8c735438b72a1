"""Caffe's binary weight files (`.caffemodel`): a NetParameter message in protocol-buffer wire format.

Both generations are read: field 100 `layer` (LayerParameter) and the older field 2 `layers` (V1LayerParameter). The
file is mapped into memory and its numbers are used in place, so there is no size limit and no copy.

Source: `caffe.proto` of BVLC Caffe; the wire format is that of protocol buffers.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from fcnseg.errors import WeightsError
from fcnseg.weights.tensors import Array, TensorFile, blob_name, forget_pages, printable, shape_text

NET_V1_LAYER, NET_LAYER = 2, 100
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class _Generation:
    """The field numbers of a layer's name and blobs."""

    name: int
    blobs: int


GENERATIONS = {NET_LAYER: _Generation(name=1, blobs=7), NET_V1_LAYER: _Generation(name=4, blobs=6)}


class _MalformedError(Exception):
    """The bytes are no valid message."""


def read(path: Path) -> TensorFile:
    """Return the blobs of every layer as float32 or float64 views; writing to them does not change the file.

    Raises WeightsError for a truncated or foreign file.
    """
    try:
        with path.open("rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {error}; check the path") from error
    tensors: dict[str, Array] = {}
    data = memoryview(mapping)
    try:
        for number, wire, value in _fields(data):
            if wire == BYTES and number in GENERATIONS:
                _read_layer(value, GENERATIONS[number], tensors)
    except _MalformedError as error:
        raise WeightsError(f"{path} is not a whole Caffe model: {error}; fetch it again") from error
    if not tensors:
        raise WeightsError(f"{path} holds no layers with weights; it is no Caffe model")
    return TensorFile(path, "caffe", tensors, forget=lambda: forget_pages(mapping))


def _read_layer(message: memoryview, generation: _Generation, tensors: dict[str, Array]) -> None:
    name, blobs = "", []
    for number, wire, value in _fields(message):
        if wire == BYTES and number == generation.name:
            name = _text(value)
        elif wire == BYTES and number == generation.blobs:
            blobs.append(value)
    if blobs and not name:
        raise _MalformedError("a layer with weights has no name")
    for index, blob in enumerate(blobs):
        key = blob_name(name, index)
        if key in tensors:
            raise _MalformedError(f"two layers are named {printable(name)}")
        tensors[key] = _read_blob(blob, key)


def _read_blob(message: memoryview, key: str) -> Array:
    """Parse a BlobProto: data 5 or double_data 8; shape 7, or num 1, channels 2, height 3, width 4."""
    shape: tuple[int, ...] | None = None
    legacy = {1: 0, 2: 0, 3: 0, 4: 0}
    chunks: dict[int, list[memoryview | bytearray]] = {5: [], 8: []}
    for number, wire, value in _fields(message):
        if number == 7 and wire == BYTES:
            shape = _blob_shape(value)
        elif number in legacy and wire == VARINT:
            legacy[number] = int.from_bytes(value, "little")
        elif (number == 5 and wire in (BYTES, FIXED32)) or (number == 8 and wire in (BYTES, FIXED64)):
            last = chunks[number][-1] if chunks[number] else None
            if wire != BYTES and isinstance(last, bytearray):
                last += value  # not packed: one field a number
            else:
                chunks[number].append(value if wire == BYTES else bytearray(value))
    if shape is None:
        shape = tuple(legacy.values())
    dtype = "<f8" if chunks[8] else "<f4"
    numbers = chunks[8] or chunks[5] or [bytearray()]
    data = numbers[0] if len(numbers) == 1 else bytearray().join(numbers)
    if prod(shape) * np.dtype(dtype).itemsize != len(data):
        raise _MalformedError(
            f"{printable(key)} should be {shape_text(shape)} but holds {len(data)} bytes of {dtype[1:]}"
        )
    if not len(data):
        raise _MalformedError(f"{printable(key)} is empty")
    return np.frombuffer(data, dtype).reshape(shape)


def _blob_shape(message: memoryview) -> tuple[int, ...]:
    dims: list[int] = []
    for number, wire, value in _fields(message):
        if number == 1 and wire == VARINT:
            dims.append(int.from_bytes(value, "little"))
        elif number == 1 and wire == BYTES:
            at = 0
            while at < len(value):
                dim, at = _varint(value, at)
                dims.append(dim)
    if len(dims) > 32:
        raise _MalformedError(f"a blob of {len(dims)} axes")
    return tuple(dims)


def _fields(data: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Yield the number, wire type and value of each field; a varint's value as its little-endian bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, at = _varint(data, at)
            yield number, wire, memoryview(value.to_bytes(10, "little"))
            continue
        if wire == BYTES:
            size, at = _varint(data, at)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise _MalformedError(f"wire type {wire} at byte {at}")
        if number == 0 or size > len(data) - at:
            raise _MalformedError(f"field {number} says {size} bytes where {len(data) - at} are left")
        yield number, wire, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise _MalformedError("the file ends inside a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _MalformedError("a number of more than 10 bytes")


def _text(value: memoryview) -> str:
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError as error:
        raise _MalformedError("a layer's name is not text") from error
