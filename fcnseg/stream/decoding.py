"""Image files to pixels: 8-bit RGB and upright, depth in its own unit, HHA as stored.

What happens to each kind of file, so that nothing is changed silently:

- the orientation in the EXIF data is applied: upright in, upright out, and the label map has the upright size;
- grey, palette and CMYK become RGB by Pillow's conversion; an alpha channel is dropped, colours stay as stored;
- 16-bit samples keep their high byte, as libpng and OpenCV do; colour profiles are not applied;
- files with several frames or pages, and samples without an 8-bit meaning (32-bit, floating point), are refused.

The format is read from the content, whatever the file is called.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fcnseg.errors import ImageError
from fcnseg.types import Pixels

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "PPM")
"""Pillow's decoders that are tried: pixels only, none that runs another program."""

EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".pnm")
)
"""The names that count as images in a folder (in any case)."""

MAX_PIXELS = 178_956_970
"""The most pixels an image may have by default, against decompression bombs: Pillow's own limit."""


def read_color(path: Path, max_pixels: int = MAX_PIXELS) -> Pixels:
    """uint8 H x W x 3, RGB, upright. Raises ImageError with the reason if the file is no such image."""
    return _read(path, max_pixels, _rgb)


def read_hha(path: Path, max_pixels: int = MAX_PIXELS) -> Pixels:
    """uint8 H x W x 3: horizontal disparity, height above ground, angle with gravity, as stored."""
    return _read(path, max_pixels, _three_channels)


def read_depth(path: Path, max_pixels: int = MAX_PIXELS) -> Pixels:
    """float32 H x W x 1: the stored depth in its own unit. Raises ImageError for anything but one channel."""
    return _read(path, max_pixels, _depth)


READERS: dict[str, Callable[[Path, int], Pixels]] = {"color": read_color, "hha": read_hha, "depth": read_depth}


def _read(path: Path, max_pixels: int, convert: Callable[[Image.Image], Pixels]) -> Pixels:
    """Open, check, convert. Pillow's decoders raise exceptions of every type on broken files: all mean one thing."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("not a regular file")
        if status.st_size == 0:
            raise ImageError("the file is empty (0 bytes)")
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise ImageError(
                    f"{image.width} x {image.height} pixels is more than the limit of {max_pixels}; "
                    "if the image is genuine, raise --max-pixels"
                )
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":
                raise ImageError(f"the file holds {frames} frames; split it into single images")
            return convert(_upright(image))
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"not an image of a known format{_disguise(path)}") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{error}; if the image is genuine, raise --max-pixels") from error
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise ImageError("not enough memory to decode it; use fewer --workers") from error
    except Exception as error:
        raise ImageError(f"cannot be decoded: {error or type(error).__name__}") from error


def _disguise(path: Path) -> str:
    """What a file that is no image looks like, if that helps."""
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    known = {
        b"<!doctype html": "HTML",
        b"<html": "HTML",
        b"<svg": "SVG",
        b"<?xml": "XML",
        b"%pdf": "PDF",
        b"pk\x03\x04": "a zip archive",
    }
    return next((f" (it is {name})" for magic, name in known.items() if start.startswith(magic)), "")


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(0x0112, 1)
    except Exception:  # damaged EXIF data say nothing about orientation; the pixels are still good
        return image
    return ImageOps.exif_transpose(image) if orientation in range(2, 9) else image


def upright_size(path: Path) -> tuple[int, int] | None:
    """(height, width) of an image once upright, by its header alone; None if it has none that can be read."""
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(0x0112, 1) in range(5, 9)
            return (image.width, image.height) if turned else (image.height, image.width)
    except Exception:  # whatever a broken file makes of a decoder: loading it will say
        return None


def _rgb(image: Image.Image) -> Pixels:
    if image.mode == "F":
        raise ImageError("floating-point samples have no 8-bit meaning; convert the image to 8 or 16 bits")
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
    """uint8 H x W x 3 RGB of a path, a Pillow image (taken upright) or an array of that very form."""
    if isinstance(image, str | os.PathLike):
        return read_color(Path(image))
    if isinstance(image, Image.Image):
        return _rgb(_upright(image))
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ImageError(f"an image is uint8 H x W x 3; got {pixels.dtype} {' x '.join(map(str, pixels.shape))}")
    return pixels


def allow_pixels(limit: int) -> None:
    """Let Pillow open images of up to `limit` pixels (for the whole process), without its own warnings."""
    Image.MAX_IMAGE_PIXELS = max(limit, MAX_PIXELS) // 2 + 1
    warnings.filterwarnings("ignore", module=r"PIL\.")
