"""The picture of a TIFF as pixels: 8-bit RGB, depth in its own unit, or HHA as stored; turned by the caller."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO

import numpy as np
from PIL import Image

from fcnseg.errors import ImageError
from fcnseg.io.tiff import (
    BLACK_IS_ZERO,
    CMYK,
    COLORS,
    FLOATING,
    NO_PICTURE,
    PALETTE,
    RGB,
    SIGNED,
    UNDEFINED,
    UNSIGNED,
    WHITE_IS_ZERO,
    YCBCR,
    TiffPicture,
)
from fcnseg.io.tiff_tiles import JPEG, Samples, parts_of
from fcnseg.types import Pixels

GREYS = (WHITE_IS_ZERO, BLACK_IS_ZERO)

MOST_BITS = 16
"""The most bits of a sample that has an 8-bit meaning."""

PALETTE_OF_BYTES = 256
"""Colour maps of smaller values are of 8 bits in place of TIFF's 16, as libtiff takes them too."""


def read_rgb(file: IO[bytes], picture: TiffPicture) -> Pixels:
    """Decode to uint8 H x W x 3, RGB, as stored. Raises ImageError for samples without such a meaning."""
    colors = _conversion(picture)
    pixels = np.empty((picture.height, picture.width, 3), np.uint8)
    for top, left, samples in parts_of(file, picture):
        height, width = samples.shape[:2]
        pixels[top : top + height, left : left + width] = colors(samples)
    return pixels


def read_depth(file: IO[bytes], picture: TiffPicture) -> Pixels:
    """Decode to float32 H x W x 1: the stored values. Raises ImageError for anything but one channel of numbers."""
    if picture.photometric not in GREYS or picture.samples != 1 or picture.sample_format > UNDEFINED:
        raise ImageError("a depth image has one channel of grey; this one has others")
    pixels = np.empty((picture.height, picture.width, 1), np.float32)
    for top, left, samples in parts_of(file, picture):
        height, width = samples.shape[:2]
        pixels[top : top + height, left : left + width] = samples
    return pixels


def read_hha(file: IO[bytes], picture: TiffPicture) -> Pixels:
    """Decode to uint8 H x W x 3 as stored. Raises ImageError for anything but three 8-bit channels."""
    if (picture.samples, picture.bits) != (3, 8) or picture.photometric not in (RGB, YCBCR):
        raise ImageError(
            f"an HHA image has three 8-bit channels; this one has {picture.samples} of {picture.bits} bits"
        )
    return read_rgb(file, picture)


def _conversion(picture: TiffPicture) -> Callable[[Samples], Pixels]:
    """Return the function from samples to RGB. Raises ImageError if there is none."""
    _check_meaning(picture)
    if picture.photometric == PALETTE:
        return _palette(picture)
    if picture.photometric in GREYS:
        inverted = picture.photometric == WHITE_IS_ZERO
        return lambda samples: _grey(_eight_bits(_colors(samples, picture), picture), inverted)
    if picture.photometric == CMYK:
        return lambda samples: _from_cmyk(_eight_bits(_colors(samples, picture), picture))
    if picture.photometric == YCBCR and (picture.compression != JPEG or picture.planar):
        return lambda samples: _from_ycbcr(_eight_bits(samples[..., :3], picture), picture)
    return lambda samples: _eight_bits(_colors(samples, picture), picture)


def _check_meaning(picture: TiffPicture) -> None:
    if picture.photometric not in COLORS:
        kind = NO_PICTURE.get(picture.photometric, f"colours of an unknown kind ({picture.photometric})")
        raise ImageError(f"it holds {kind}, not RGB; convert it to RGB")
    if picture.sample_format == FLOATING:
        raise ImageError("floating-point samples have no 8-bit meaning; convert the image to 8 or 16 bits")
    if picture.sample_format == SIGNED:
        raise ImageError(f"signed {picture.bits}-bit samples have no 8-bit meaning; convert the image to 8 or 16 bits")
    if picture.sample_format not in (UNSIGNED, UNDEFINED):
        raise ImageError("complex samples have no 8-bit meaning; convert the image to 8 or 16 bits")
    if picture.bits > MOST_BITS:
        raise ImageError(f"{picture.bits}-bit samples have no 8-bit meaning; convert the image to 8 or 16 bits")
    colors = COLORS[picture.photometric]
    if picture.samples < colors:
        raise ImageError(f"the TIFF is damaged: its colours have {picture.samples} samples of {colors}")
    if picture.photometric in GREYS and picture.samples > 2:
        raise ImageError(f"{picture.samples} grey samples a pixel are no colours; save it as RGB")
    if picture.photometric == YCBCR and picture.planar and picture.subsampling != (1, 1):
        raise ImageError("its planes have different sizes; save it as RGB")


def _eight_bits(samples: Samples, picture: TiffPicture) -> Pixels:
    """Return unsigned samples as 8 bits: fewer spread over 0..255, more without their low ones."""
    if picture.bits == 8:
        return samples.astype(np.uint8, copy=False)
    if picture.bits > 8:
        return (samples >> (picture.bits - 8)).astype(np.uint8)
    most = (1 << picture.bits) - 1
    spread = (np.arange(most + 1) * 255 + most // 2) // most
    levels: Pixels = spread.astype(np.uint8)[samples]
    return levels


def _colors(samples: Samples, picture: TiffPicture) -> Samples:
    """Return the samples of colour; those that alpha has darkened as they were before."""
    colors = samples[..., : COLORS[picture.photometric]]
    if picture.alpha is None:
        return colors
    alpha = samples[..., picture.alpha, None]
    most = (1 << picture.bits) - 1
    before = np.minimum(colors.astype(np.uint32) * most // np.maximum(alpha, 1), most)
    return np.where(alpha == 0, colors, before.astype(samples.dtype))


def _grey(levels: Pixels, inverted: bool) -> Pixels:
    return np.broadcast_to(255 - levels[..., :1] if inverted else levels[..., :1], (*levels.shape[:2], 3))


def palette_of(picture: TiffPicture) -> Pixels:
    """Return the colours of the colour map, which has all red levels first, as uint8 K x 3."""
    count = 1 << picture.bits
    if picture.bits > MOST_BITS or len(picture.color_map) < 3 * count:
        raise ImageError(f"the TIFF is damaged: its colour map has {len(picture.color_map)} values of {3 * count}")
    levels = np.array(picture.color_map[: 3 * count], np.uint16).reshape(3, count).T
    colors: Pixels = (levels if levels.max() < PALETTE_OF_BYTES else levels >> 8).astype(np.uint8)
    return colors


def _palette(picture: TiffPicture) -> Callable[[Samples], Pixels]:
    colors = palette_of(picture)

    def colored(samples: Samples) -> Pixels:
        pixels: Pixels = colors[samples[..., 0]]
        return pixels

    return colored


def _from_cmyk(inks: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(np.ascontiguousarray(inks), "CMYK").convert("RGB"))


def _from_ycbcr(samples: Pixels, picture: TiffPicture) -> Pixels:
    """Return RGB of Y, Cb, Cr by the tags' coefficients and range (TIFF 6.0, section 21)."""
    red, green, blue = picture.luma
    ranges = picture.black_white if len(picture.black_white) == 6 else (0, 255, 128, 255, 128, 255)
    y, cb, cr = (
        (samples[..., i].astype(np.float32) - ranges[2 * i]) * full / ((ranges[2 * i + 1] - ranges[2 * i]) or 1)
        for i, full in enumerate((255, 127, 127))
    )
    r = y + cr * (2 - 2 * red)
    b = y + cb * (2 - 2 * blue)
    g = (y - blue * b - red * r) / green
    pixels: Pixels = np.clip(np.rint(np.stack((r, g, b), axis=-1)), 0, 255).astype(np.uint8)
    return pixels
