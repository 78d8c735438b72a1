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

import os
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from fcnseg.errors import ImageError
from fcnseg.io import bmp, pillow_pixels, tiff, tiff_pixels, tiff_tiles
from fcnseg.io.decoder_work import check_scans, decoder_bytes, has_one_scan
from fcnseg.io.image_errors import image_errors
from fcnseg.io.image_limits import SPARE_BYTES, check_pixels
from fcnseg.io.image_opening import opened_file, opened_image
from fcnseg.io.jpeg import jpeg_size, read_jpeg
from fcnseg.io.libtiff import reports_of_damage
from fcnseg.io.orientation import SIDEWAYS, UPRIGHT, orientation_of
from fcnseg.io.own_outputs import refuse_own_output
from fcnseg.io.png_chunks import is_whole
from fcnseg.types import Pixels

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
            file = stack.enter_context(opened_file(source))
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
            image = stack.enter_context(opened_image(file, max_pixels))
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
        return _from_old_jpeg(file, picture, modality)


def _from_old_jpeg(file: IO[bytes], picture: tiff.TiffPicture, modality: str) -> Pixels:
    """Decode a page of the old form of JPEG in TIFF (TIFF 6.0, section 22): a JPEG, or what libtiff makes one of."""
    offset, length = picture.jpeg_stream
    file.seek(offset)
    content = file.read(length)
    size = jpeg_size(content) if length and modality == "color" else (0, 0)
    if size == (picture.height, picture.width) and (pixels := read_jpeg(content, "RGB")) is not None:
        return _turned(pixels, picture.orientation)
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
