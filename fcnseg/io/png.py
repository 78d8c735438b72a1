"""Label maps as PNG files, encoded in strips so that huge ones take no second copy.

Each row is stored as its difference from the row above (PNG's "up" filter, which makes most of a label map zeros) and
deflated by zlib's run-length strategy, its fastest; see `benchmarks/png_encoding.py`. ISA-L takes a third of that time,
but rarely gives other bytes for the same map, and a resumed run must end as an undisturbed one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping

import numpy as np

from fcnseg.types import Labels, Pixels

STRIP_BYTES = 1 << 20
"""How much is filtered and deflated at once, about."""

RUN_LENGTHS = (1, zlib.DEFLATED, 15, 8, zlib.Z_RLE)


def encode(labels: Labels, palette: bytes, text: Mapping[str, str]) -> Iterator[bytes]:
    """The bytes of a PNG of a label map H x W: indexed with the `palette` (RGB triples) for uint8, grey for uint16.

    `text` becomes text chunks. The same input always gives the same bytes.
    """
    height, width = labels.shape
    indexed = labels.dtype == np.uint8
    yield b"\x89PNG\r\n\x1a\n"
    yield _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8 if indexed else 16, 3 if indexed else 0, 0, 0, 0))
    if indexed:
        yield _chunk(b"PLTE", palette)
    for keyword, value in text.items():
        yield _text(keyword, value)
    deflater = zlib.compressobj(*RUN_LENGTHS)
    for strip in _filtered(labels):
        if data := deflater.compress(strip.data):
            yield _chunk(b"IDAT", data)
    yield _chunk(b"IDAT", deflater.flush())
    yield _chunk(b"IEND", b"")


def _filtered(labels: Labels) -> Iterator[Pixels]:
    """Strips of rows, uint8, each row's bytes less those of the one above and after the number of that filter."""
    rows = max(1, STRIP_BYTES // (labels.shape[1] * labels.itemsize))
    above: Pixels | int = 0
    for top in range(0, len(labels), rows):
        strip = labels[top : top + rows]
        if strip.dtype != np.uint8:
            strip = strip.astype(">u2", order="C").view(np.uint8)
        filtered = np.empty((len(strip), strip.shape[1] + 1), np.uint8)
        filtered[:, 0] = 2
        np.subtract(strip[:1], above, out=filtered[:1, 1:])
        np.subtract(strip[1:], strip[:-1], out=filtered[1:, 1:])
        above = strip[-1:]
        yield filtered


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _text(keyword: str, value: str) -> bytes:
    """A text chunk; an international one where Latin-1 does not do."""
    try:
        return _chunk(b"tEXt", keyword.encode("latin-1") + b"\0" + value.encode("latin-1"))
    except UnicodeEncodeError:
        return _chunk(b"iTXt", keyword.encode("latin-1") + b"\0\0\0\0\0" + value.encode("utf-8", "backslashreplace"))
