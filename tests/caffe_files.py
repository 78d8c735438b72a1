"""Writes Caffe's binary weight files from their published protocol-buffer schema, for tests."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np


def varint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def number_field(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def blob(array: np.ndarray, *, generation: str = "layer", packed: bool = True, double: bool = False) -> bytes:
    """A BlobProto: new files carry a BlobShape, old ones num, channels, height and width."""
    if generation == "layer":
        shape = field(7, field(1, b"".join(varint(d) for d in array.shape)))
    else:
        four = (1,) * (4 - array.ndim) + array.shape
        shape = b"".join(number_field(i + 1, d) for i, d in enumerate(four))
    values = array.astype("<f8" if double else "<f4")
    number = 8 if double else 5
    if packed:
        return shape + field(number, values.tobytes())
    tag, form = varint(number << 3 | (1 if double else 5)), "<d" if double else "<f"
    return shape + b"".join(tag + struct.pack(form, v) for v in values.ravel())


V1_TYPES = {"Convolution": 4, "InnerProduct": 14, "Deconvolution": 39, "ReLU": 18, "Pooling": 17, "Data": 5}


def write_caffemodel(
    path: Path,
    blobs: Mapping[str, Sequence[np.ndarray]],
    types: Mapping[str, str] | None = None,
    *,
    generation: str = "layer",
    packed: bool = True,
    double: bool = False,
) -> Path:
    """A NetParameter with these layers' blobs: generation "layer" (field 100) or the older "layers" (field 2)."""
    types = types or {}
    with path.open("wb") as file:
        file.write(field(1, b"net"))
        for name, arrays in blobs.items():
            kind = types.get(name, "Deconvolution" if "upscore" in name else "Convolution")
            parts = [blob(a, generation=generation, packed=packed, double=double) for a in arrays]
            if generation == "layer":
                payload = field(1, name.encode()) + field(2, kind.encode())
                file.write(field(100, payload + b"".join(field(7, p) for p in parts)))
            else:
                payload = field(4, name.encode()) + number_field(5, V1_TYPES.get(kind, 0))
                file.write(field(2, payload + b"".join(field(6, p) for p in parts)))
    return path
