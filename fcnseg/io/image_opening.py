"""Image files opened and looked at before anything is decoded: by content, whatever they are called."""

from __future__ import annotations

import io
import stat
import struct
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError

from fcnseg.errors import ImageError
from fcnseg.io.decoder_work import MOST_FRAMES, SMALL_FILE_BYTES, check_decoder, check_parts, frame_count
from fcnseg.io.file_kinds import AVIF, HEIC, JPEG_2000, START_BYTES, described, further_formats
from fcnseg.io.image_errors import image_errors
from fcnseg.io.image_limits import METADATA_BYTES, check_pixels
from fcnseg.io.jpeg2000 import check_components
from fcnseg.io.png import SIGNATURE
from fcnseg.io.png_chunks import without_damaged_chunks

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "PPM", "JPEG2000")
"""Pillow's decoders that are tried: pixels only, none that runs another program. TIFFs are
read by tiff.py; see also `further_formats`."""

RIFF = b"RIFF"
"""The first bytes of a WebP; the number of those that follow comes next."""

MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"RIFF", b"P")
"""The first bytes of encoded images."""


def opened_file(source: Path | bytes) -> IO[bytes]:
    """Open a file that may be an image. Raises ImageError if it cannot be one."""
    if isinstance(source, Path) and not stat.S_ISREG(source.stat().st_mode):
        raise ImageError("not a regular file")
    file = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    try:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        if size == 0:
            raise ImageError("the file is empty (0 bytes)")
        if size > SMALL_FILE_BYTES:
            check_parts(file)
            file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def opened_image(file: IO[bytes], max_pixels: int) -> Image.Image:
    """Open an image and check its header. Raises ImageError if it must not be decoded."""
    start = file.read(START_BYTES)
    further = further_formats(start)
    if start.startswith(SIGNATURE):
        file.seek(0)
        file = without_damaged_chunks(file)
    elif start.startswith(RIFF) and (whole := int.from_bytes(start[4:8], "little") + 8) > (
        size := file.seek(0, io.SEEK_END)
    ):
        raise ImageError(f"the file is cut short: it has {size} of {whole} bytes")
    elif described(start) == JPEG_2000:
        check_components(file)
    file.seek(0)
    image = Image.open(file, formats=(*FORMATS, *further))
    try:
        check_pixels(image.height, image.width, max_pixels)
        check_decoder(image)
        frames = frame_count(image, file.seek(0, io.SEEK_END)) if image.format != "MPO" else 1
        if frames > 1:
            many = f"{frames} frames" if frames < MOST_FRAMES else "very many frames"
            raise ImageError(f"the file holds {many}; split it into single images")
    except BaseException:
        image.close()
        raise
    return image


def check_start(start: bytes, size: int) -> None:
    """Raise ImageError for a file of so many bytes that starts as no image does, or as one that needs far fewer (16 a
    pixel): it is not unpacked then. A size that is not in the start passes."""
    with image_errors(io.BytesIO(start)):
        try:
            with Image.open(io.BytesIO(start), formats=FORMATS) as image:
                width, height = image.size
        except UnidentifiedImageError:
            if not start.startswith(MAGIC) and described(start) not in (AVIF, HEIC, JPEG_2000):
                raise
            return
        except (OSError, SyntaxError, ValueError, struct.error):
            return
    if size > 16 * width * height + METADATA_BYTES:
        raise ImageError(f"{size} bytes is more than an image of {width} x {height} pixels takes; it is damaged")
