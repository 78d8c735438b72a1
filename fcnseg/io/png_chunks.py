"""The chunks of a PNG and their checksums: Pillow compares none of pixels, and gives up the file for any other."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import IO

from fcnseg.errors import ImageError
from fcnseg.io.png import SIGNATURE
from fcnseg.io.remarks import remark

PIXELS = b"IDAT"

ANCILLARY = 0x20
"""The bit of a type's first letter that says that pixels do not depend on the chunk (PNG specification, 5.4)."""

PIECE_BYTES = 1 << 20
"""How much is read at once to compare checksums."""


def chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Yield the type and length of each chunk of a PNG, the file at its data; afterwards it is where it was."""
    start, position = file.tell(), len(SIGNATURE)
    while len(head := file.read(8) if file.seek(position) else b"") == 8:
        length, kind = struct.unpack(">I4s", head)
        yield kind, length
        position += length + 12
    file.seek(start)


def is_whole(file: IO[bytes]) -> bool:
    """Compare the checksums of a PNG's pixels, the file at any place; what is cut off is not."""
    return all(_is_sound(file, kind, length) for kind, length in chunks(file) if kind == PIXELS)


def without_damaged_chunks(file: IO[bytes]) -> IO[bytes]:
    """Return a PNG without the ancillary chunks whose checksums are wrong, each remarked on: the file itself if there
    are none. Raises ImageError for another chunk, pixels apart: see `is_whole`."""
    damaged: list[tuple[int, int]] = []
    for kind, length in chunks(file):
        place = file.tell() - 8
        if kind == PIXELS or _is_sound(file, kind, length):
            continue
        name = kind.decode("latin-1")
        if not kind[0] & ANCILLARY:
            raise ImageError(f"the file is damaged: the checksum of its {name} is wrong")
        remark(f"its {name} is damaged, and left out; the pixels do not depend on it")
        damaged.append((place, place + length + 12))
    if not damaged:
        return file
    content = file.read()
    ends = [0, *(end for _, end in damaged)]
    starts = [*(start for start, _ in damaged), len(content)]
    return io.BytesIO(b"".join(content[end:start] for end, start in zip(ends, starts, strict=True)))


def _is_sound(file: IO[bytes], kind: bytes, length: int) -> bool:
    """Compare the checksum of a chunk, the file at its data."""
    checksum = zlib.crc32(kind)
    while piece := file.read(min(length, PIECE_BYTES)):
        checksum = zlib.crc32(piece, checksum)
        length -= len(piece)
    return bool(length) or file.read(4) in (checksum.to_bytes(4, "big"), b"")
