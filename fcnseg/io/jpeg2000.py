"""The samples of a JPEG 2000, of which Pillow gets some wrong: white of more than 8 bits in colour becomes black, and
values of other depths than 8 and 16 bits are scaled."""

from __future__ import annotations

import struct
from typing import IO

from fcnseg.errors import ImageError

SIZE_START = b"\xff\x4f\xff\x51"
"""The start of a codestream and of its size segment (ITU-T T.800, A.4.1 and A.5.1)."""

SEARCHED_BYTES = 1 << 20
"""How far into a file its codestream starts."""

COMPONENTS = struct.Struct(">4x36xH")
"""What comes before the list of components, and their number."""

SIGNED, DEPTH = 0x80, 0x7F
"""Bits of a component's first byte: signed, and its depth less one."""


def check_components(file: IO[bytes]) -> None:
    """Raise ImageError for a JPEG 2000 whose samples would become wrong. The file is at its start afterwards."""
    file.seek(0)
    start = file.read(SEARCHED_BYTES)
    file.seek(0)
    at = start.find(SIZE_START)
    if at < 0 or at + COMPONENTS.size > len(start):
        raise ImageError("the JPEG 2000 is damaged or cut short: it has no header")
    (count,) = COMPONENTS.unpack_from(start, at)
    components = start[at + COMPONENTS.size :][: 3 * count]
    depths = {(depth & DEPTH) + 1 for depth in components[::3]}
    if any(depth & SIGNED for depth in components[::3]):
        raise ImageError("signed samples have no 8-bit meaning; convert the image to 8 bits")
    if depths != {8} and not (depths == {16} and count == 1):
        shown = ", ".join(map(str, sorted(depths)))
        raise ImageError(
            f"a JPEG 2000 of {count} channels of {shown} bits is not read; convert it to 8 bits, or to TIFF"
        )
