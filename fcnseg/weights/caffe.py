"""Caffe's binary weight files (`.caffemodel`): a NetParameter message in protocol-buffer wire format.

All generations are read: field 100 `layer` (LayerParameter), the older field 2 `layers` (V1LayerParameter), and the
layers of 2013 within those (V0LayerParameter). The file is mapped into memory and its numbers are used in place, so
there is no size limit and no copy.

Source: `caffe.proto` of BVLC Caffe.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass, field
from pathlib import Path

from fcnseg.errors import WeightsError
from fcnseg.weights.caffe_blobs import read_blob
from fcnseg.weights.protobuf_wire import BYTES, FIXED32, MalformedError, fields, text
from fcnseg.weights.tensors import Array, TensorFile, blob_name, forget_pages, printable

NET_V1_LAYER, NET_LAYER = 2, 100
V0_LAYER = 1
"""The field of a V1LayerParameter that holds a layer of the generation before it."""

POWER_PARAM, POWER_SHIFT = 122, 3


@dataclass(frozen=True)
class _Generation:
    """The field numbers of a layer's name and blobs."""

    name: int
    blobs: int


LAYER, V1, V0 = _Generation(name=1, blobs=7), _Generation(name=4, blobs=6), _Generation(name=1, blobs=50)


@dataclass
class _Net:
    """The blobs and notes that were read so far, and the count of layers."""

    tensors: dict[str, Array] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    layers: int = 0


class _UnusableError(Exception):
    """The message is whole, but its layers cannot be told apart."""


def read(path: Path) -> TensorFile:
    """Return the blobs of every layer as views, float32 unless the file holds others; writing to them does not change
    the file.

    Raises WeightsError for a truncated or foreign file.
    """
    try:
        with path.open("rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {error}; check the path") from error
    net = _Net()
    try:
        for number, wire, value in fields(memoryview(mapping)):
            if wire == BYTES and number in (NET_LAYER, NET_V1_LAYER):
                _read_layer(value, LAYER if number == NET_LAYER else V1, net)
    except MalformedError as error:
        raise WeightsError(f"{path} is not a whole Caffe model: {error}; fetch it again") from error
    except _UnusableError as error:
        raise WeightsError(f"{path}: {error}; give each layer a name of its own, and save it again") from error
    if not net.tensors:
        raise WeightsError(f"{path} holds no layers with weights; it is no Caffe model")
    return TensorFile(path, "caffe", net.tensors, forget=lambda: forget_pages(mapping), notes=tuple(net.notes))


def _read_layer(message: memoryview, generation: _Generation, net: _Net) -> None:
    name, blobs = "", []
    net.layers += 1
    for number, wire, value in fields(message):
        if wire != BYTES:
            continue
        if number == generation.name:
            name = text(value)
        elif number == generation.blobs:
            blobs.append(value)
        elif number == V0_LAYER and generation is V1:
            net.layers -= 1
            _read_layer(value, V0, net)
        elif number == POWER_PARAM and generation is LAYER:
            _note_shift(value, name, net)
    if blobs and not name:
        raise _UnusableError(f"layer {net.layers}, which has weights, has no name")
    for index, blob in enumerate(blobs):
        key = blob_name(name, index)
        if key in net.tensors:
            raise _UnusableError(f"two layers with weights are named {printable(name)!r}")
        net.tensors[key] = read_blob(blob, key)


def _note_shift(message: memoryview, name: str, net: _Net) -> None:
    """Note a Power layer that shifts its input, as DIGITS' networks subtract their mean."""
    for number, wire, value in fields(message):
        if number == POWER_SHIFT and wire == FIXED32 and (shift := struct.unpack("<f", value)[0]):
            net.notes.append(
                f"its layer {printable(name)!r} adds {shift:g} to its input: if that is the image, the mean of the "
                f"recipe must be {-shift:g} in every channel"
            )
