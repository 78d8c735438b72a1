"""Image files to pixels: 8-bit RGB and upright, depth in its own unit, HHA as stored.

What happens to each kind of file, so that nothing is changed silently:

- the orientation in the EXIF data is applied: upright in, upright out, and the label map has the upright size;
- grey, palette and CMYK become RGB by Pillow's conversion; an alpha channel is dropped, colours stay as stored;
- 16-bit samples keep their high byte, as libpng and OpenCV do; colour profiles are not applied;
- files with several frames or pages, and samples without an 8-bit meaning (32-bit, floating point), are refused;
- damage is refused where the format lets it be seen, and harmless faults are remarked on.

The format is read from the content, whatever the file is called.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from fcnseg.errors import ImageError
from fcnseg.io import bmp, pillow_pixels, tiff, tiff_pixels, tiff_tiles
from fcnseg.io.decoder_work import (
    MOST_FRAMES,
    SMALL_FILE_BYTES,
    check_decoder,
    check_parts,
    check_scans,
    decoder_bytes,
    frame_count,
    has_one_scan,
)
from fcnseg.io.file_kinds import AVIF, HEIC, JPEG_2000, START_BYTES, described, further_formats
from fcnseg.io.image_errors import image_errors
from fcnseg.io.jpeg import read_jpeg
from fcnseg.io.jpeg2000 import check_components
from fcnseg.io.libtiff import reports_of_damage
from fcnseg.io.orientation import SIDEWAYS, UPRIGHT, orientation_of
from fcnseg.io.own_outputs import refuse_own_output
from fcnseg.io.png import SIGNATURE
from fcnseg.io.png_chunks import is_whole, without_damaged_chunks
from fcnseg.types import Pixels
from fcnseg.workers.limits import free_memory_bytes

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "PPM", "JPEG2000")
"""Pillow's decoders that are tried: pixels only, none that runs another program. See also `further_formats`."""

MAX_PIXELS = 178_956_970
"""The most pixels an image may have by default, against decompression bombs: Pillow's own limit."""


class OnSize(Protocol):
    """Called once, when the size is known and before memory is taken; may raise."""

    def __call__(self, height: int, width: int, decoder_bytes: int = 0, /) -> None:
        """Take the upright height and width, px, and the bytes that decoding needs besides the pixels."""


def ignore_size(height: int, width: int, decoder_bytes: int = 0) -> None:
    """Do nothing with a size."""


def announced_size(read: Callable[[OnSize], object]) -> tuple[int, int]:
    """Return the upright height and width, px, that `read` announces, which it is then stopped from going on."""
    try:
        read(_stop_at_size)
    except _SizeKnown as known:
        return known.height, known.width
    raise ImageError("its size is unknown")


class _SizeKnown(Exception):  # noqa: N818 - no error: that is all there was to know
    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width


def _stop_at_size(height: int, width: int, decoder_bytes: int = 0) -> None:  # noqa: ARG001
    raise _SizeKnown(height, width)


class Reader(Protocol):
    """Decodes an image file, or the bytes of one."""

    def __call__(self, source: Path | bytes, max_pixels: int = MAX_PIXELS, on_size: OnSize = ignore_size, /) -> Pixels:
        """Return the pixels. Raises ImageError with the reason if it is no such image."""


def read_color(source: Path | bytes, max_pixels: int = MAX_PIXELS, on_size: OnSize = ignore_size) -> Pixels:
    """Decode to uint8 H x W x 3, RGB, upright. Raises ImageError with the reason if the file is no such image."""
    return _read(source, max_pixels, on_size, "color")


def read_hha(source: Path | bytes, max_pixels: int = MAX_PIXELS, on_size: OnSize = ignore_size) -> Pixels:
    """Decode to uint8 H x W x 3: horizontal disparity, height above ground, angle with gravity, as stored."""
    return _read(source, max_pixels, on_size, "hha")


def read_depth(source: Path | bytes, max_pixels: int = MAX_PIXELS, on_size: OnSize = ignore_size) -> Pixels:
    """Decode to float32 H x W x 1: the stored depth in its own unit. Raises ImageError for anything but one channel."""
    return _read(source, max_pixels, on_size, "depth")


READERS: dict[str, Reader] = {"color": read_color, "hha": read_hha, "depth": read_depth}

SPARE_BYTES = 1 << 20
"""The least size that a file may have besides its pixels."""

METADATA_BYTES = 64 << 20
"""The most that a member of an archive may have besides its pixels."""

RIFF = b"RIFF"
"""The first bytes of a WebP; the number of those that follow comes next."""

MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"RIFF", b"P")
"""The first bytes of encoded images."""

SURELY_FREE_BYTES = 256 << 20
"""Images that take fewer are decoded without a look at the memory."""

LARGE_PIXELS = 1 << 24
"""Images of more pixels are turned as they are read: without a copy of the whole."""

BYTES_PER_PIXEL = {"color": 3, "hha": 3, "depth": 4}
"""The memory of decoded pixels by modality."""


FROM_PILLOW: dict[str, Callable[[Image.Image], Pixels]] = {
    "color": pillow_pixels.read_rgb,
    "hha": pillow_pixels.read_hha,
    "depth": pillow_pixels.read_depth,
}
FROM_TIFF: dict[str, Callable[[IO[bytes], tiff.TiffPicture], Pixels]] = {
    "color": tiff_pixels.read_rgb,
    "hha": tiff_pixels.read_hha,
    "depth": tiff_pixels.read_depth,
}


def _read(source: Path | bytes, max_pixels: int, on_size: OnSize, modality: str) -> Pixels:
    """Open, check, announce the size, convert."""
    with ExitStack() as stack:
        with image_errors():
            file = stack.enter_context(_opened_file(source))
            start = file.read(4)
            file.seek(0)
        if start in tiff.STARTS:
            return _read_tiff(file, max_pixels, on_size, modality)
        if start.startswith(bmp.START):
            with image_errors(file):
                bitmap = bmp.masked_bitmap(file)
            if bitmap:
                return _read_bitmap(file, bitmap, max_pixels, on_size, modality)
        with image_errors(file):
            image = stack.enter_context(_opened(file, max_pixels))
        orientation = orientation_of(image)
        on_size(*(image.size if orientation in SIDEWAYS else image.size[::-1]), decoder_bytes(image))
        with image_errors(file):
            if modality == "color":
                refuse_own_output(image)
            if isinstance(image, PngImageFile) and image.fp is not None and not is_whole(image.fp):
                raise ImageError("the file is damaged: the checksum of its pixels is wrong")
            if isinstance(image, JpegImageFile) and (pixels := _from_jpeg(image, max_pixels, modality)) is not None:
                return _turned(pixels, orientation)
            return _turned(FROM_PILLOW[modality](image), orientation)


def _from_jpeg(image: JpegImageFile, max_pixels: int, modality: str) -> Pixels | None:
    """Decode a sound JPEG; None for one that is left to Pillow. Raises ImageError for a damaged one."""
    assert image.fp is not None
    image.fp.seek(0)
    content = image.fp.read(8 * max_pixels + SPARE_BYTES)
    if not has_one_scan(image, content):
        check_scans(image, content, max_pixels)
    pixels = read_jpeg(content, "CMYK" if image.mode == "CMYK" else "RGB")
    if pixels is None:
        return None
    if image.mode == "CMYK":  # as Adobe's programs store it, inverted
        return FROM_PILLOW[modality](Image.fromarray(255 - pixels, "CMYK"))
    return pixels if modality == "color" else FROM_PILLOW[modality](Image.fromarray(pixels).convert(image.mode))


def _read_tiff(file: IO[bytes], max_pixels: int, on_size: OnSize, modality: str) -> Pixels:
    with image_errors(file):
        picture = tiff.picture_of(file)
        check_pixels(picture.height, picture.width, max_pixels)
        old = picture.compression == tiff_tiles.OLD_JPEG
        extra_bytes = 0 if old else tiff_tiles.decoder_bytes(picture, max_pixels)
    sides = picture.height, picture.width
    on_size(*(sides[::-1] if picture.orientation in SIDEWAYS else sides), extra_bytes)
    with image_errors(file):
        if not old:
            return _turned(FROM_TIFF[modality](file, picture), picture.orientation)
        with reports_of_damage(), Image.open(file, formats=("TIFF",)) as image:
            image.seek(picture.index)
            return FROM_PILLOW[modality](image)  # Pillow turns TIFFs itself


def _read_bitmap(file: IO[bytes], bitmap: bmp.MaskedBitmap, max_pixels: int, on_size: OnSize, modality: str) -> Pixels:
    with image_errors(file):
        check_pixels(bitmap.height, bitmap.width, max_pixels)
    on_size(bitmap.height, bitmap.width)
    with image_errors(file):
        pixels = bmp.read_rgb(file, bitmap)
        return FROM_PILLOW[modality](Image.fromarray(pixels)) if modality != "color" else pixels


def _opened_file(source: Path | bytes) -> IO[bytes]:
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


def _opened(file: IO[bytes], max_pixels: int) -> Image.Image:
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
        if isinstance(image, TiffImageFile):
            raise ImageError("the TIFF is damaged: its first bytes are wrong")
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


def check_pixels(height: int, width: int, max_pixels: int) -> None:
    """Raise ImageError for more pixels than are allowed."""
    if width * height > max_pixels:
        raise ImageError(
            f"{width} x {height} pixels is more than the limit of {max_pixels}; "
            "if the image is genuine, raise --max-pixels"
        )


def check_memory(nbytes: int) -> None:
    """Raise ImageError if decoding takes many bytes, and more than are free."""
    if nbytes > SURELY_FREE_BYTES and nbytes > (free := free_memory_bytes()):
        raise ImageError(
            f"decoding it takes {nbytes / 1e9:.1f} GB of memory, but {free / 1e9:.1f} GB are free; save it as JPEG or "
            "TIFF, which take less, or use fewer --workers"
        )


def check_bytes(size: int, max_pixels: int) -> None:
    """Raise ImageError for an encoded file larger than any image of allowed size (8 bytes a pixel), before it is read
    or unpacked."""
    limit = 8 * max_pixels + SPARE_BYTES
    if size > limit:
        raise ImageError(f"{size} bytes is more than an image of {max_pixels} pixels takes ({limit}); see --max-pixels")


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


def _turned(pixels: Pixels, orientation: int) -> Pixels:
    """Turn pixels upright; the result is contiguous unless it is large."""
    if orientation not in UPRIGHT:
        return pixels
    turned = UPRIGHT[orientation](pixels)
    return np.ascontiguousarray(turned) if turned.shape[0] * turned.shape[1] <= LARGE_PIXELS else turned


def pixels_of(image: Any) -> Pixels:
    """Return uint8 H x W x 3 RGB of a path, a Pillow image (taken upright) or an array of that very form."""
    if isinstance(image, str | os.PathLike):
        return read_color(Path(image))
    if isinstance(image, Image.Image):
        return _turned(pillow_pixels.read_rgb(image), orientation_of(image))
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ImageError(f"an image is uint8 H x W x 3; got {pixels.dtype} {' x '.join(map(str, pixels.shape))}")
    return pixels


def allow_pixels(limit: int) -> None:
    """Let Pillow open images of up to `limit` pixels (for the whole process), without its own warnings."""
    Image.MAX_IMAGE_PIXELS = max(limit, MAX_PIXELS) // 2 + 1
    warnings.filterwarnings("ignore", module=r"PIL\.")
