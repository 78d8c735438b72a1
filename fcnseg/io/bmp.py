"""Bitmaps whose colours are given by bit masks, of which Pillow reads a few; it reads all others.

From Microsoft's documentation of BITMAPINFOHEADER, BITMAPV4HEADER and BITMAPV5HEADER: the masks of red, green and blue
stand behind the first 40 bytes of every header, in it or not.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fcnseg.errors import ImageError
from fcnseg.types import Pixels

START = b"BM"

HEAD = struct.Struct("<10xLLllHHL20x3L")
"""Of a bitmap: the offset of its pixels, the length of its information, width, height (negative: from the top), planes,
bits of a pixel, compression, and the masks."""

LEAST_INFORMATION_BYTES = 40

BIT_FIELDS = (3, 6)
"""Values of compression for masks, without and with one of alpha."""


@dataclass(frozen=True)
class MaskedBitmap:
    """The layout of a bitmap with masks. `upwards`: the lowest row comes first."""

    height: int
    width: int
    bits: int
    upwards: bool
    offset: int
    masks: tuple[int, int, int]


def masked_bitmap(file: IO[bytes]) -> MaskedBitmap | None:
    """Return the layout of a bitmap with masks; None for other files. Raises ImageError if the masks mean nothing."""
    head = file.read(HEAD.size)
    file.seek(0)
    if len(head) < HEAD.size or not head.startswith(START):
        return None
    offset, length, width, height, _, bits, compression, *masks = HEAD.unpack(head)
    if length < LEAST_INFORMATION_BYTES or compression not in BIT_FIELDS or bits not in (16, 32):
        return None
    if width < 1 or height == 0:
        raise ImageError(f"the bitmap is damaged: it has {width} x {height} pixels")
    for mask in masks:
        if mask >> bits or (mask and (mask // (mask & -mask) + 1).bit_count() != 1):
            raise ImageError(f"the bitmap is damaged: a mask of its colours is {mask:#x}")
    return MaskedBitmap(abs(height), width, bits, height > 0, offset, (masks[0], masks[1], masks[2]))


def read_rgb(file: IO[bytes], bitmap: MaskedBitmap) -> Pixels:
    """Decode to uint8 H x W x 3, RGB. Raises ImageError if the file is cut short."""
    row_bytes = -(-bitmap.width * bitmap.bits // 32) * 4
    end = file.seek(0, io.SEEK_END)
    if bitmap.offset + row_bytes * bitmap.height > end:
        needed = bitmap.offset + row_bytes * bitmap.height
        raise ImageError(f"the file is cut short: its pixels end at byte {needed}, but the file at {end}")
    file.seek(bitmap.offset)
    pixels = np.empty((bitmap.height, bitmap.width, 3), np.uint8)
    for row in pixels[::-1] if bitmap.upwards else pixels:
        values = np.frombuffer(file.read(row_bytes), f"<u{bitmap.bits // 8}")[: bitmap.width]
        for channel, mask in enumerate(bitmap.masks):
            row[:, channel] = _level(values, mask)
    return pixels


def _level(values: NDArray[Any], mask: int) -> NDArray[Any]:
    """Return the masked bits as 0..255: fewer spread, rounded down as Pillow does, more without their low ones."""
    if not mask:
        return np.zeros_like(values)
    lowest = mask & -mask
    most = mask // lowest
    level = (values & values.dtype.type(mask)) // values.dtype.type(lowest)
    spread: NDArray[Any] = level.astype(np.uint32) * 255 // most if most < 256 else level >> (most.bit_length() - 8)
    return spread
