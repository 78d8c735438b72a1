"""Image files to pixels: 8-bit RGB and upright, depth in its own unit, HHA as stored.

What happens to each kind of file, so that nothing is changed silently:

- the orientation in the EXIF data is applied: upright in, upright out, and the label map has the upright size;
- grey, palette and CMYK become RGB by Pillow's conversion; an alpha channel is dropped, colours stay as stored;
- 16-bit samples keep their high byte, as libpng and OpenCV do; colour profiles are not applied;
- files with several frames or pages, and samples without an 8-bit meaning (32-bit, floating point), are refused.

The format is read from the content, whatever the file is called.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from fcnseg.errors import ImageError
from fcnseg.io import png
from fcnseg.io.decoder_work import (
    MOST_FRAMES,
    SMALL_FILE_BYTES,
    check_decoder,
    check_parts,
    check_scans,
    frame_count,
    has_one_scan,
)
from fcnseg.io.orientation import SIDEWAYS, UPRIGHT, orientation_of
from fcnseg.io.own_outputs import refuse_own_output
from fcnseg.types import Pixels

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "PPM", "JPEG2000", "AVIF")
"""Pillow's decoders that are tried: pixels only, none that runs another program."""

MAX_PIXELS = 178_956_970
"""The most pixels an image may have by default, against decompression bombs: Pillow's own limit."""

OnSize = Callable[[int, int], None]
"""Called with the upright height and width, px, when they are known and before memory is taken; may raise."""


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


def _stop_at_size(height: int, width: int) -> None:
    raise _SizeKnown(height, width)


class Reader(Protocol):
    """Decodes an image file, or the bytes of one."""

    def __call__(
        self, source: Path | bytes, max_pixels: int = MAX_PIXELS, on_size: OnSize = lambda height, width: None, /
    ) -> Pixels:
        """Return the pixels. Raises ImageError with the reason if it is no such image."""


def read_color(
    source: Path | bytes, max_pixels: int = MAX_PIXELS, on_size: OnSize = lambda height, width: None
) -> Pixels:
    """Decode to uint8 H x W x 3, RGB, upright. Raises ImageError with the reason if the file is no such image."""
    return _read(source, max_pixels, on_size, _rgb)


def read_hha(
    source: Path | bytes, max_pixels: int = MAX_PIXELS, on_size: OnSize = lambda height, width: None
) -> Pixels:
    """Decode to uint8 H x W x 3: horizontal disparity, height above ground, angle with gravity, as stored."""
    return _read(source, max_pixels, on_size, _three_channels)


def read_depth(
    source: Path | bytes, max_pixels: int = MAX_PIXELS, on_size: OnSize = lambda height, width: None
) -> Pixels:
    """Decode to float32 H x W x 1: the stored depth in its own unit. Raises ImageError for anything but one channel."""
    return _read(source, max_pixels, on_size, _depth)


READERS: dict[str, Reader] = {"color": read_color, "hha": read_hha, "depth": read_depth}

SPARE_BYTES = 1 << 20
"""The least size that a file may have besides its pixels."""

METADATA_BYTES = 64 << 20
"""The most that a member of an archive may have besides its pixels."""

MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"RIFF", b"P")
"""The first bytes of encoded images."""

BAND_PIXELS = 1 << 24
"""Images of more pixels are converted in bands of so many and turned as they are read: without copies of the whole."""

BYTES_PER_PIXEL = {"color": 3, "hha": 3, "depth": 4}
"""The memory of decoded pixels by modality."""


def _read(source: Path | bytes, max_pixels: int, on_size: OnSize, convert: Callable[[Image.Image], Pixels]) -> Pixels:
    """Open, check, announce the size, convert."""
    with _image_errors(source):
        image = _opened(source, max_pixels)
    with image:
        orientation = orientation_of(image)
        on_size(*(image.size if orientation in SIDEWAYS else image.size[::-1]))
        with _image_errors(source):
            if convert is _rgb:
                refuse_own_output(image)
            if isinstance(image, PngImageFile) and image.fp is not None and not png.is_whole(image.fp):
                raise ImageError("the file is damaged: the checksum of its pixels is wrong")
            if isinstance(image, JpegImageFile) and image.fp is not None:
                image.fp.seek(0)
                content = image.fp.read(image.width * image.height * 4 + SPARE_BYTES)
                if not has_one_scan(image, content):
                    check_scans(image, content + image.fp.read(8 * max_pixels), max_pixels)
                if convert is _rgb and (pixels := _plain_jpeg(image, content)) is not None:
                    return _turned(pixels, orientation)
            return _turned(convert(image), orientation)


def _opened(source: Path | bytes, max_pixels: int) -> Image.Image:
    """Open an image and check its header. Raises ImageError if it must not be decoded."""
    if isinstance(source, Path):
        status = source.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("not a regular file")
        size = status.st_size
    else:
        size = len(source)
    if size == 0:
        raise ImageError("the file is empty (0 bytes)")
    if size > SMALL_FILE_BYTES:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            check_parts(file)
    image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    if isinstance(image, TiffImageFile):
        image.filename = ""  # Pillow maps files with a name into memory, and then garbles those that it turns
    try:
        check_pixels(image.height, image.width, max_pixels)
        check_decoder(image)
        frames = frame_count(image, size) if image.format != "MPO" else 1
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


def check_bytes(size: int, max_pixels: int) -> None:
    """Raise ImageError for an encoded file larger than any image of allowed size (8 bytes a pixel), before it is read
    or unpacked."""
    limit = 8 * max_pixels + SPARE_BYTES
    if size > limit:
        raise ImageError(f"{size} bytes is more than an image of {max_pixels} pixels takes ({limit}); see --max-pixels")


def check_start(start: bytes, size: int) -> None:
    """Raise ImageError for a file of so many bytes that starts as no image does, or as one that needs far fewer (16 a
    pixel): it is not unpacked then. A size that is not in the start passes."""
    with _image_errors(start):
        try:
            with Image.open(io.BytesIO(start), formats=FORMATS) as image:
                width, height = image.size
        except UnidentifiedImageError:
            if not start.startswith(MAGIC):
                raise
            return
        except (OSError, SyntaxError, ValueError, struct.error):
            return
    if size > 16 * width * height + METADATA_BYTES:
        raise ImageError(f"{size} bytes is more than an image of {width} x {height} pixels takes; it is damaged")


@contextmanager
def _image_errors(source: Path | bytes) -> Iterator[None]:
    """Turn whatever Pillow's decoders raise on broken files, which is of every type, into an ImageError."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"not an image of a known format{_disguise(source)}") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{error}; if the image is genuine, raise --max-pixels") from error
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise ImageError("not enough memory to decode it; use fewer --workers") from error
    except Exception as error:
        raise ImageError(f"cannot be decoded: {error or type(error).__name__}") from error


def _disguise(source: Path | bytes) -> str:
    """Return what a file that is no image looks like, if it is known."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            source = file.read(512)
    start = source[:512].lstrip().lower()
    names = {
        b"<!doctype html": "HTML",
        b"<html": "HTML",
        b"<svg": "SVG",
        b"<?xml": "XML",
        b"%pdf": "PDF",
        b"pk\x03\x04": "a zip archive",
    }
    return next((f" (it is {name})" for magic, name in names.items() if start.startswith(magic)), "")


def _turned(pixels: Pixels, orientation: int) -> Pixels:
    """Turn pixels upright; the result is contiguous unless it is large."""
    if orientation not in UPRIGHT:
        return pixels
    turned = UPRIGHT[orientation](pixels)
    return np.ascontiguousarray(turned) if turned.shape[0] * turned.shape[1] <= BAND_PIXELS else turned


def _plain_jpeg(image: JpegImageFile, content: bytes) -> Pixels | None:
    """Decode a sound RGB or grey JPEG to exactly Pillow's pixels, in three quarters (480 x 360) to a fifth (12
    megapixels) of its time (benchmarks/decoding.py); None for all others, which Pillow decodes or refuses."""
    import simplejpeg  # where no JPEG is decoded, it need not be there

    if image.format != "JPEG" or image.mode not in ("RGB", "L"):
        return None
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(content, "RGB", strict=True)
    except ValueError:
        return None
    return pixels


def _rgb(image: Image.Image) -> Pixels:
    if image.mode == "F":
        raise ImageError("floating-point samples have no 8-bit meaning; convert the image to 8 or 16 bits")
    rows = max(1, BAND_PIXELS // image.width)
    if rows >= image.height:
        return _rgb_band(image)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        pixels[top:bottom] = _rgb_band(image.crop((0, top, image.width, bottom)))
    return pixels


def _rgb_band(image: Image.Image) -> Pixels:
    if image.mode.startswith("I"):
        return np.repeat(_high_byte(np.asarray(image))[..., None], 3, axis=2)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _high_byte(samples: Pixels) -> Pixels:
    if samples.size and (samples.min() < 0 or samples.max() > 65535):
        raise ImageError("32-bit samples have no 8-bit meaning; convert the image to 8 or 16 bits")
    return (samples >> 8).astype(np.uint8)


def _three_channels(image: Image.Image) -> Pixels:
    if image.mode != "RGB":
        raise ImageError(f"an HHA image has three 8-bit channels; this one's mode is {image.mode}")
    return np.array(image)


def _depth(image: Image.Image) -> Pixels:
    if not (image.mode in ("L", "F") or image.mode.startswith("I")):
        raise ImageError(f"a depth image has one channel; this one's mode is {image.mode}")
    return np.asarray(image).astype(np.float32)[..., None]


def pixels_of(image: Any) -> Pixels:
    """Return uint8 H x W x 3 RGB of a path, a Pillow image (taken upright) or an array of that very form."""
    if isinstance(image, str | os.PathLike):
        return read_color(Path(image))
    if isinstance(image, Image.Image):
        return _turned(_rgb(image), orientation_of(image))
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ImageError(f"an image is uint8 H x W x 3; got {pixels.dtype} {' x '.join(map(str, pixels.shape))}")
    return pixels


def allow_pixels(limit: int) -> None:
    """Let Pillow open images of up to `limit` pixels (for the whole process), without its own warnings."""
    Image.MAX_IMAGE_PIXELS = max(limit, MAX_PIXELS) // 2 + 1
    warnings.filterwarnings("ignore", module=r"PIL\.")
