"""Label maps and pictures as PNG files: encoded in strips, so that huge ones take no second copy; label maps are read
without Pillow.

Each row is stored as its difference from the row above (PNG's "up" filter, which makes most of a label map zeros) and
deflated by zlib's run-length strategy, its fastest; see `benchmarks/png_encoding.py`. ISA-L takes a third of that time,
but rarely gives other bytes for the same map, and a resumed run must end as an undisturbed one.

The label maps of most data sets have no filters: these are read in a third of the time that Pillow takes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from zlib_ng import zlib_ng

from fcnseg.types import Labels, Pixels

SIGNATURE = b"\x89PNG\r\n\x1a\n"

GREY, RGB, INDEXED, RGBA = 0, 2, 3, 6
"""Colour types."""

OTHER_PICTURES = b"tRNS", b"acTL"
"""Chunks of transparent and of animated pictures."""

STRIP_BYTES = 1 << 20
"""About how much is filtered and deflated at once."""

DEFLATE_RATIO = 1100
"""Deflate packs at most 1032 bytes to one."""

SURPLUS_BYTES = 64 << 20
"""Bytes that a small file may unpack to, whatever it claims."""

RUN_LENGTHS = (1, zlib.DEFLATED, 15, 8, zlib.Z_RLE)


def encode(labels: Labels, palette: bytes, text: Mapping[str, str]) -> Iterator[bytes]:
    """Encode a label map H x W: indexed with the `palette` (RGB triples) for uint8, grey for uint16.

    `text` becomes text chunks. The same input always gives the same bytes.
    """
    indexed = labels.dtype == np.uint8
    kind = INDEXED if indexed else GREY
    yield from encode_strips(labels.shape, kind, strips(labels), text, palette if indexed else b"", 8 * labels.itemsize)


def encode_strips(
    size: tuple[int, ...],
    kind: int,
    pixels: Iterable[Pixels],
    text: Mapping[str, str],
    palette: bytes = b"",
    bits: int = 8,
) -> Iterator[bytes]:
    """Encode a picture of that height and width, given from top to bottom in strips h x W or h x W x C.

    `kind` is its colour type, `bits` those of a sample (8 or 16). The same input always gives the same bytes.
    """
    height, width = size
    yield SIGNATURE
    yield _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    if palette:
        yield _chunk(b"PLTE", palette)
    for keyword, value in text.items():
        yield _text(keyword, value)
    deflater = zlib.compressobj(*RUN_LENGTHS)
    for strip in _filtered(pixels):
        if data := deflater.compress(strip.data):
            yield _chunk(b"IDAT", data)
    yield _chunk(b"IDAT", deflater.flush())
    yield _chunk(b"IEND", b"")


def strips(pixels: Pixels | Labels, pixel_bytes: int = 0) -> Iterator[Pixels]:
    """Yield strips of rows of about STRIP_BYTES; `pixel_bytes` are those of a pixel if it is to be converted."""
    rows = max(1, STRIP_BYTES // (pixels.shape[1] * (pixel_bytes or pixels.itemsize)))
    for top in range(0, len(pixels), rows):
        yield pixels[top : top + rows]


def _filtered(pixels: Iterable[Pixels]) -> Iterator[Pixels]:
    """Yield strips of rows, uint8: the number of the filter, then the row's bytes less those of the row above."""
    above: Pixels | int = 0
    for samples in pixels:
        wide = samples if samples.dtype == np.uint8 else samples.astype(">u2", order="C").view(np.uint8)
        strip = wide.reshape(len(wide), -1)
        filtered = np.empty((len(strip), strip.shape[1] + 1), np.uint8)
        filtered[:, 0] = 2
        np.subtract(strip[:1], above, out=filtered[:1, 1:])
        np.subtract(strip[1:], strip[:-1], out=filtered[1:, 1:])
        above = strip[-1:]
        yield filtered


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _text(keyword: str, value: str) -> bytes:
    """Return a text chunk; an international one where Latin-1 does not do."""
    try:
        return _chunk(b"tEXt", keyword.encode("latin-1") + b"\0" + value.encode("latin-1"))
    except UnicodeEncodeError:
        return _chunk(b"iTXt", keyword.encode("latin-1") + b"\0\0\0\0\0" + value.encode("utf-8", "backslashreplace"))


def read_unfiltered(data: bytes) -> tuple[NDArray[np.uint8], bytes] | None:
    """Read the values H x W of a PNG of 8 bits, grey or indexed, and its palette (R, G, B, R, G, B ...; empty if grey).

    Returns None for all others, and for damaged ones: these are left to Pillow, which also says what is wrong.
    """
    try:
        width, height, depth, kind, *methods = struct.unpack_from(">IIBBBBB", data, 16)
        if data[:8] != SIGNATURE or depth != 8 or kind not in (GREY, INDEXED) or any(methods):
            return None
        palette, packed = b"", []
        start, name = 8, b""
        while name != b"IEND":
            size, name = struct.unpack_from(">I4s", data, start)
            content = data[start + 8 : start + 8 + size]
            if struct.unpack_from(">I", data, start + 8 + size) != (zlib.crc32(content, zlib.crc32(name)),):
                return None
            if name in OTHER_PICTURES:
                return None
            if name == b"PLTE":
                palette = content
            elif name == b"IDAT":
                packed.append(content)
            start += size + 12
        size = height * (width + 1)
        if size > DEFLATE_RATIO * sum(map(len, packed)):  # damaged, or a claim that would take all memory
            return None
        rows = np.frombuffer(_inflated(b"".join(packed), size), np.uint8)
    except (struct.error, zlib_ng.error):  # type: ignore[misc]  # its stub calls the class an instance
        return None
    if rows.size != size or (kind == INDEXED and not palette) or (rows := rows.reshape(height, width + 1))[:, 0].any():
        return None
    return np.ascontiguousarray(rows[:, 1:]), palette if kind == INDEXED else b""


def _inflated(packed: bytes, size: int) -> bytes:
    """Unpack up to one byte more than there should be, or a few megabytes."""
    if DEFLATE_RATIO * len(packed) < SURPLUS_BYTES:
        content: bytes = zlib_ng.decompress(packed, bufsize=size + 1)  # a tenth of the time of the other
        return content
    return bytes(zlib_ng.decompressobj().decompress(packed, size + 1))
