"""TIFFs written by hand, of layouts that libraries read and do not write."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import imagecodecs
import numpy as np

SHORT, LONG, RATIONAL, LONG8 = 3, 4, 5, 16
FORMS = {SHORT: "H", LONG: "L", RATIONAL: "LL", LONG8: "Q", 2: "B", 7: "B"}
PACK = {
    1: bytes,
    5: imagecodecs.lzw_encode,
    8: imagecodecs.zlib_encode,
    32773: imagecodecs.packbits_encode,
    50000: imagecodecs.zstd_encode,
}
"""Packers of the parts' bytes by Compression."""

Tags = dict[int, tuple[int, Sequence[int]]]


def page(pixels: np.ndarray[Any, Any], photometric: int, **more: Any) -> tuple[Tags, list[bytes]]:
    """The tags and parts of H x W x S unsigned samples of `bits`, in strips of `rows` or tiles of `tile`."""
    height, width, samples = pixels.shape
    bits, planar, order = more.get("bits", 8 * pixels.itemsize), more.get("planar", False), more.get("order", "<")
    compression, tile = more.get("compression", 1), more.get("tile")
    rows, columns = tile or (min(more.get("rows", height), height), width)
    tags: Tags = {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [bits] * samples),
        259: (SHORT, [compression]),
        262: (SHORT, [photometric]),
        277: (SHORT, [samples]),
        284: (SHORT, [2 if planar else 1]),
    }
    tags |= {322: (LONG, [columns]), 323: (LONG, [rows])} if tile else {278: (LONG, [rows])}
    planes = [pixels[..., i : i + 1] for i in range(samples)] if planar else [pixels]
    parts = []
    for plane in planes:
        for top in range(0, height, rows):
            for left in range(0, width, columns):
                part = plane[top : top + rows, left : left + columns]
                if tile:
                    lacking = (rows - part.shape[0], columns - part.shape[1])
                    part = np.pad(part, ((0, lacking[0]), (0, lacking[1]), (0, 0)))
                content = PACK[compression](packed(part, bits, order))
                parts.append(reversed_bits(content) if more.get("reverse") else content)
    if more.get("reverse"):
        tags[266] = SHORT, [2]
    return {**tags, **more.get("tags", {})}, parts


def packed(samples: np.ndarray[Any, Any], bits: int, order: str) -> bytes:
    """Samples as bytes: rows of whole bytes, the first sample in the highest bits."""
    if bits in (8, 16, 32, 64):
        return samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    rows = samples.reshape(len(samples), -1).astype(np.uint64)
    each = rows[..., None] >> np.arange(bits - 1, -1, -1, dtype=np.uint64) & np.uint64(1)
    return np.packbits(each.astype(np.uint8).reshape(len(rows), -1), axis=1).tobytes()


def reversed_bits(content: bytes) -> bytes:
    bits = np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")
    return np.packbits(bits).tobytes()


def tiff(*pages: tuple[Tags, list[bytes]], order: str = "<", big: bool = False) -> bytes:
    """The bytes of a TIFF, or BigTIFF, of these pages."""
    word = "Q" if big else "L"
    room = struct.calcsize(f"<{word}")
    head = struct.pack(f"{order}HHH", 43, 8, 0) if big else struct.pack(f"{order}H", 42)
    out = bytearray((b"II" if order == "<" else b"MM") + head + bytes(room))
    link = len(out) - room
    for page_tags, parts in pages:
        offsets = []
        for part in parts:
            offsets.append(len(out))
            out += part + bytes(len(part) % 2)
        place = (324, 325) if 322 in page_tags else (273, 279)
        tags = {place[0]: (LONG, offsets), place[1]: (LONG, [len(part) for part in parts]), **page_tags}
        struct.pack_into(order + word, out, link, len(out))
        directory = len(out)
        entry_bytes = 4 + 2 * room
        link = directory + (8 if big else 2) + len(tags) * entry_bytes
        values, entries = b"", b""
        for tag, (kind, numbers) in sorted(tags.items()):
            form = FORMS[kind]
            raw = struct.pack(order + form * (len(numbers) // len(form)), *numbers)
            if len(raw) > room:
                where = struct.pack(order + word, link + room + len(values))
                values += raw + bytes(len(raw) % 2)
                raw = where
            entries += struct.pack(f"{order}HH{word}", tag, kind, len(numbers) // len(form)) + raw.ljust(room, b"\0")
        out += struct.pack(order + ("Q" if big else "H"), len(tags)) + entries + bytes(room) + values
    return bytes(out)
