"""JPEGs decoded, and held to what libjpeg finds wrong with them.

libjpeg goes on over damage, warns, and fills what is lacking with grey or noise. A few of its warnings are of no
consequence; as only the first one can be had, their causes are taken out and the rest is decoded again. What is left of
warnings means that pixels are not those that were saved.
"""

from __future__ import annotations

import re

import simplejpeg

from fcnseg.errors import ImageError
from fcnseg.io.decoder_work import END_OF_IMAGE, MARKER, START_OF_SCAN
from fcnseg.io.remarks import remark
from fcnseg.types import Pixels

START, END = b"\xff\xd8", b"\xff\xd9"

SEQUENTIAL = (0xC0, 0xC1)
"""Markers of frames whose scans hold all coefficients (ITU-T T.81, table B.1)."""

JFIF, PROFILE, ADOBE = 0xE0, 0xE2, 0xEE
"""Markers of application segments that libjpeg looks into."""

WARNINGS = (
    "Corrupt JPEG data",
    "Premature end of JPEG file",
    "Inconsistent progression",
    "Warning: unknown JFIF",
    "Unknown Adobe color transform",
    "Invalid SOS parameters for sequential",
)
"""The first words of libjpeg's warnings (jerror.h); other texts are errors, or limits of TurboJPEG."""

EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker 0xd9")

MOST_EXTRANEOUS_BYTES = 1024
"""The most that may lie behind the pixels: more is pixels that were not reached, as those before them are damaged."""

ZEROED = bytes(64)
"""A hole in the pixels: no encoder writes so many."""


def read_jpeg(content: bytes, colors: str) -> Pixels | None:
    """Decode to uint8 H x W x C of `colors` ("RGB", "GRAY", "CMYK" as stored), to exactly Pillow's pixels, in three
    quarters (480 x 360) to a fifth (12 megapixels) of its time (benchmarks/decoding.py). Returns None for a JPEG that
    TurboJPEG does not decode. Raises ImageError for a damaged one."""
    pixels, warning = _decoded(content, colors)
    if not warning:
        return pixels
    plain = _with_plain_header(content)
    pixels, warning = _decoded(plain, colors)
    if warning.startswith("Premature end of JPEG file"):  # the first of two, if it is not all that lacks
        plain += END
        pixels, warning = _decoded(plain, colors)
    if not warning:
        return pixels
    extraneous = EXTRANEOUS.search(warning)
    if extraneous is None or not _is_behind_pixels(plain, int(extraneous[1])):
        reason = warning.removeprefix("Corrupt JPEG data: ").lower()
        raise ImageError(f"its pixels are damaged ({reason}); fetch or copy it again")
    remark("there are extraneous bytes behind its pixels, which are whole")
    whole: Pixels = simplejpeg.decode_jpeg(plain, colors, strict=False)
    return whole


def jpeg_size(content: bytes) -> tuple[int, int]:
    """Return the height and width, px, of a JPEG by its header; 0 and 0 if TurboJPEG does not read it."""
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(content, strict=False)
    except ValueError:
        return 0, 0
    return height, width


def _decoded(content: bytes, colors: str) -> tuple[Pixels | None, str]:
    """Return the pixels and "", None and the first warning, or None and "" for what TurboJPEG does not decode."""
    try:
        return simplejpeg.decode_jpeg(content, colors, strict=True), ""
    except ValueError as error:
        text = str(error)
        return None, text if text.startswith(WARNINGS) else ""


def _with_plain_header(content: bytes) -> bytes:
    """Return a JPEG without what libjpeg warns of before the pixels: bytes between segments, damaged profiles, unknown
    versions of JFIF and codes of Adobe, and meaningless parameters of its first scan."""
    kept, position, sequential = [START], content.find(START) + 2, False
    while marker := MARKER.search(content, position):
        kind, start = marker[1][0], marker.end()
        end = start + int.from_bytes(content[start : start + 2], "big")
        body = bytearray(content[start:end])
        sequential = sequential or kind in SEQUENTIAL
        if kind == JFIF and body[2:7] == b"JFIF\0":
            body[7:9] = b"\1\1"
        elif kind == ADOBE and body[2:7] == b"Adobe" and len(body) == 14 and body[13] > 2:
            body[13] = 1
        elif kind == START_OF_SCAN and sequential:
            body[-3:] = b"\0\x3f\0"
        if kind != PROFILE:
            kept.append(bytes((0xFF, kind)) + body)
        position = end
        if kind == START_OF_SCAN:
            break
    return b"".join((*kept, content[position:]))


def _is_behind_pixels(content: bytes, count: int) -> bool:
    """Tell whether so many bytes before the end of a JPEG may be no pixels."""
    start = position = content.find(b"\xff\xda")
    while (marker := MARKER.search(content, position)) and marker[1][0] != END_OF_IMAGE:
        position = marker.end()
    end = marker.start() - count if marker else len(content)
    return count <= MOST_EXTRANEOUS_BYTES and content.find(ZEROED, start, end) < 0
