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


def raw_blob(array: np.ndarray, kind: int, data: bytes | None = None) -> bytes:
    """A BlobProto as NVCaffe writes it: raw_data of type 0 (double), 1 (float) or 2 (float16)."""
    shape = field(7, field(1, b"".join(varint(d) for d in array.shape)))
    values = array.astype({0: "<f8", 1: "<f4", 2: "<f2"}.get(kind, "<i4")).tobytes()
    return shape + number_field(10, kind) + field(12, values if data is None else data)


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
    """A NetParameter with these layers' blobs: generation "layer" (field 100), the older "layers" (field 2), or "v0":
    layers of 2013 within those."""
    types = types or {}
    with path.open("wb") as file:
        file.write(field(1, b"net"))
        for name, arrays in blobs.items():
            kind = types.get(name, "Deconvolution" if "upscore" in name else "Convolution")
            parts = [blob(a, generation=generation, packed=packed, double=double) for a in arrays]
            if generation == "layer":
                payload = field(1, name.encode()) + field(2, kind.encode())
                file.write(field(100, payload + b"".join(field(7, p) for p in parts)))
            elif generation == "v0":
                layer = field(1, name.encode()) + field(2, b"conv") + b"".join(field(50, p) for p in parts)
                file.write(field(2, field(1, layer) + field(2, b"bottom") + field(3, b"top")))
            else:
                payload = field(4, name.encode()) + number_field(5, V1_TYPES.get(kind, 0))
                file.write(field(2, payload + b"".join(field(6, p) for p in parts)))
    return path
