"""The orientation of images by their EXIF data."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from fcnseg.io.png_chunks import chunks
from fcnseg.types import Pixels

TAG = 0x0112
"""The EXIF tag of the orientation."""

LONGEST_EXIF_BYTES = 1 << 20

SIDEWAYS = range(5, 9)
"""Orientations whose stored width is the upright height."""

UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    2: np.fliplr,
    3: lambda pixels: pixels[::-1, ::-1],
    4: np.flipud,
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}
"""The turn that makes pixels of each orientation upright (EXIF 2.3, table 6)."""


def orientation_of(image: Image.Image) -> int:
    """Return the orientation, 1 to 8 as in EXIF data; 1 for TIFFs, which Pillow turns itself. PNGs are not decoded, as
    their own `getexif` would."""
    if isinstance(image, TiffImageFile):
        return 1
    try:
        if isinstance(image, PngImageFile) and image.fp is not None:
            for kind, length in chunks(image.fp):
                if kind == b"eXIf":  # may come behind the pixels
                    image.info["exif"] = b"Exif\0\0" + image.fp.read(min(length, LONGEST_EXIF_BYTES))
        return int(Image.Image.getexif(image).get(TAG, 1))
    except Exception:  # damaged EXIF data say nothing about orientation; the pixels are still good
        return 1
