"""Images that Pillow has opened as pixels: 8-bit RGB, depth in its own unit, or HHA as stored; not turned."""

from __future__ import annotations

import numpy as np
from PIL import Image
from PIL.PpmImagePlugin import PpmImageFile

from fcnseg.errors import ImageError
from fcnseg.types import Pixels

BAND_PIXELS = 1 << 22
"""Images of more pixels are converted in bands of so many: without copies of the whole."""


def read_rgb(image: Image.Image) -> Pixels:
    """Return uint8 H x W x 3, RGB. Raises ImageError for samples without such a meaning."""
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


def read_hha(image: Image.Image) -> Pixels:
    """Return uint8 H x W x 3 as stored. Raises ImageError for anything but three 8-bit channels."""
    if image.mode != "RGB":
        raise ImageError(f"an HHA image has three 8-bit channels; this one's mode is {image.mode}")
    return np.array(image)


def read_depth(image: Image.Image) -> Pixels:
    """Return float32 H x W x 1: the stored values. Raises ImageError for anything but one channel."""
    if not (image.mode in ("L", "F") or image.mode.startswith("I")):
        raise ImageError(f"a depth image has one channel; this one's mode is {image.mode}")
    most = _most_level(image) if isinstance(image, PpmImageFile) else 0  # known until it is decoded
    values = np.asarray(image).astype(np.float32)
    if most:
        values = np.rint(values * (most / (255 if image.mode == "L" else 65535)))
    return values[..., None]


def _most_level(image: PpmImageFile) -> int:
    """Return the level of white that Pillow spreads over 0..255 or 0..65535; 0 if it leaves levels as they are."""
    codec, *_, arguments = image.tile[0]
    most = arguments[-1] if isinstance(arguments, tuple) else arguments
    return most if codec in ("ppm", "ppm_plain") and isinstance(most, int) and image.mode != "1" else 0
