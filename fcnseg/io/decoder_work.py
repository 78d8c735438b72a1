"""The work that a file makes decoders do, beyond what its pixels ask for: looked at before it is decoded.

A few hundred kilobytes can hold hundreds of scans of one JPEG, each of which visits all its pixels, or a great many
parts that are listed one by one.
"""

import re
import struct
from typing import IO

import numpy as np
from PIL import Image
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PpmImagePlugin import PpmImageFile

from fcnseg.errors import ImageError
from fcnseg.io.pillow_pixels import BAND_PIXELS
from fcnseg.io.png import SIGNATURE
from fcnseg.io.png_chunks import chunks

SMALL_FILE_BYTES = 1 << 20
"""The parts of smaller files are not counted: they cannot be too many."""

MOST_SCANS = 32
"""The most scans of a JPEG of as many pixels as are allowed; smaller ones may have accordingly more. Encoders write a
dozen, of CMYK 18."""

LEAST_PIXELS = 1 << 16
"""An image of fewer pixels is as much work for each scan."""

MOST_PARTS = 1 << 18
"""The most chunks of a PNG, blocks of a GIF, or strips of a TIFF."""

MOST_FRAMES = 100
"""How many frames are counted."""

MOST_SLOW_PIXELS = 1 << 24
"""The most pixels of a PPM that is decoded by Python: text, and levels that are no bytes."""

SPARE_TILE_PIXELS = 1 << 22
"""The most pixels of a tile in a TIFF that is smaller."""

DECODER_BYTES = {"WEBP": 16, "JPEG2000": 12, "AVIF": 8, "HEIF": 8, "CMYK": 10, "progressive": 6, "JPEG": 0, "MPO": 0}
OTHER_DECODER_BYTES = 4
"""The bytes that decoding takes for each pixel besides the pixels, by format, or kind of JPEG: as measured for images
of 6 and 24 megapixels, rounded up."""

BAND_BYTES = 10
"""The bytes that conversion takes for each pixel of a band."""

STRIP_OFFSETS, TILE_OFFSETS = 273, 324
"""Tags of TIFF."""

MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
RESTARTS, END_OF_IMAGE, START_OF_SCAN, TEMPORARY = range(0xD0, 0xD8), 0xD9, 0xDA, 0x01
"""Markers of JPEG (ITU-T T.81, table B.1)."""


def check_parts(file: IO[bytes]) -> None:
    """Raise ImageError for a PNG, GIF or TIFF of so many parts that listing them would take long."""
    start = file.read(16)
    if start.startswith(SIGNATURE):
        parts = sum(1 for _, (_, _) in zip(range(MOST_PARTS + 1), chunks(file), strict=False))
    elif start.startswith(b"GIF8"):
        parts = _gif_blocks(file)
    elif start.startswith((b"II", b"MM")):
        parts = _tiff_strips(file, start)
    else:
        return
    if parts > MOST_PARTS:
        raise ImageError(f"the file is of more than {MOST_PARTS} parts, which no image needs; save it anew")


def _gif_blocks(file: IO[bytes]) -> int:
    """Return the number of blocks up to the second image (GIF89a specification, 12 to 26)."""
    file.seek(10)
    flags = file.read(3)[:1]
    file.seek(13 + _palette_bytes(flags))
    blocks = images = 0
    while blocks <= MOST_PARTS and images < 2 and (kind := file.read(1)):
        if kind == b"!":
            file.read(1)
        elif kind == b",":
            images += 1
            file.seek(_palette_bytes(file.read(9)[8:9]) + 1, 1)
        else:
            break
        while blocks <= MOST_PARTS and (length := file.read(1)) not in (b"", b"\0"):
            blocks += 1
            file.seek(length[0], 1)
        blocks += 1
    return blocks


def _palette_bytes(flags: bytes) -> int:
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def _tiff_strips(file: IO[bytes], start: bytes) -> int:
    """Return the number of strips or tiles of the first image; 0 where that cannot be told."""
    order = "<" if start.startswith(b"II") else ">"
    try:
        big = struct.unpack_from(f"{order}H", start, 2) == (43,)
        (offset,) = struct.unpack_from(f"{order}Q" if big else f"{order}L", start, 8 if big else 4)
        file.seek(offset)
        (entries,) = struct.unpack(f"{order}Q" if big else f"{order}H", file.read(8 if big else 2))
        if entries > MOST_PARTS:
            return int(entries)
        entry = struct.Struct(f"{order}HHQ8x" if big else f"{order}HHL4x")
        counts: dict[int, int] = {tag: count for tag, _, count in entry.iter_unpack(file.read(entries * entry.size))}
    except (struct.error, OSError, ValueError, OverflowError):
        return 0
    return max(counts.get(STRIP_OFFSETS, 0), counts.get(TILE_OFFSETS, 0))


def frame_count(image: Image.Image, size: int) -> int:
    """Return the number of frames or pages in a file of so many bytes, or one that is too many."""
    if not getattr(image, "is_animated", False):
        return 1
    if isinstance(image, GifImageFile) and size > SMALL_FILE_BYTES:
        return MOST_FRAMES
    return int(getattr(image, "n_frames", 1))


def check_decoder(image: Image.Image) -> None:
    """Raise ImageError for an opened PPM that takes far more memory or time than others of its size."""
    pixels = image.width * image.height
    if isinstance(image, PpmImageFile) and pixels > MOST_SLOW_PIXELS and image.tile[0][0] in ("ppm", "ppm_plain"):
        raise ImageError(f"a PPM of text, or of other levels than 0 to 255, of {pixels} pixels; save it as PNG")


def decoder_bytes(image: Image.Image) -> int:
    """Return about the bytes that decoding an opened image takes besides its pixels."""
    pixels, kind = image.width * image.height, image.format or ""
    if isinstance(image, JpegImageFile):
        kind = "CMYK" if image.mode == "CMYK" else "progressive" if image.info.get("progressive") else "JPEG"
    each = DECODER_BYTES.get(kind, OTHER_DECODER_BYTES)
    return each * pixels + (BAND_BYTES * min(pixels, BAND_PIXELS) if each else 0)


def has_one_scan(image: JpegImageFile, content: bytes) -> bool:
    """Tell whether the first scan of a JPEG is the only one: that of one that is not progressive, if it has all
    components. `content` is the start of the file."""
    if image.info.get("progressive"):
        return False
    position = 2
    while (marker := MARKER.match(content, position)) and marker[1][0] != START_OF_SCAN:
        position = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2], "big")
    return marker is not None and content[marker.end() + 2 : marker.end() + 3] == bytes([image.layers])


def check_scans(image: JpegImageFile, content: bytes, max_pixels: int) -> None:
    """Raise ImageError for a JPEG of so many scans that decoding would take far longer than that of other images."""
    most = MOST_SCANS * max(max_pixels, LEAST_PIXELS) // max(image.width * image.height, LEAST_PIXELS)
    if _most_scans(content) > most and (scans := _scans(content)) > most:
        raise ImageError(f"{scans} scans of {image.width} x {image.height} pixels take too long; save it anew")


def _most_scans(content: bytes) -> int:
    """Return how often the marker of a scan occurs, in whatever, at a quarter of the time of `bytes.count`."""
    values = np.frombuffer(content, np.uint8)
    return int(np.count_nonzero((values[:-1] == 0xFF) & (values[1:] == START_OF_SCAN)))


def _scans(content: bytes) -> int:
    """Count the scans up to the end of the image."""
    scans, position = 0, 2
    while marker := MARKER.search(content, position):
        kind, position = marker[1][0], marker.end()
        if kind == END_OF_IMAGE:
            break
        if kind in RESTARTS or kind == TEMPORARY:
            continue
        scans += kind == START_OF_SCAN
        position += int.from_bytes(content[position : position + 2], "big")
    return scans
