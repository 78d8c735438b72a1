"""Label maps in TIFFs: their stored values, whatever the layout; beside overviews and masks too."""

from __future__ import annotations

import io

import numpy as np

from fcnseg.errors import LabelsError
from fcnseg.io.decoder_work import SMALL_FILE_BYTES, check_parts
from fcnseg.io.orientation import UPRIGHT
from fcnseg.io.raw_map import RawMap, check_memory, palette_colors
from fcnseg.io.tiff import (
    BLACK_IS_ZERO,
    CMYK,
    COMPLEX,
    PALETTE,
    RGB,
    WHITE_IS_ZERO,
    YCBCR,
    TiffPicture,
    picture_of,
)
from fcnseg.io.tiff_pixels import palette_of
from fcnseg.io.tiff_tiles import OLD_JPEG, WHOLE_PICTURES, Samples, check_compression, parts_of

OTHER_COLORS = {CMYK: "CMYK", YCBCR: "YCbCr"}


def read_from_tiff(data: bytes) -> RawMap:
    """Read the one picture of a TIFF. Raises LabelsError without naming the file, or ImageError."""
    file = io.BytesIO(data)
    if len(data) > SMALL_FILE_BYTES:
        check_parts(file)
    picture = picture_of(file)
    _check(picture)
    check_memory(picture.width * picture.height * picture.samples * -(-picture.bits // 8))
    values = _samples(file, picture)
    values = UPRIGHT[picture.orientation](values) if picture.orientation in UPRIGHT else values
    colors = 3 if picture.photometric == RGB else 1
    if picture.extra_samples and any(picture.extra_samples) and _is_transparent(values[..., colors:], picture.bits):
        raise LabelsError("is partly transparent, so that its labels are uncertain; save it without alpha")
    if colors == 3:
        return RawMap(values[..., :3])
    values = values[..., 0]
    if picture.photometric == PALETTE:
        return RawMap(values, palette_colors(palette_of(picture).tobytes()))
    if picture.photometric == WHITE_IS_ZERO:
        values = ((1 << picture.bits) - 1 - values).astype(values.dtype)
    return RawMap(values)


def _check(picture: TiffPicture) -> None:
    """Raise LabelsError for samples that are no labels, and ImageError for those that cannot be read."""
    check_compression(picture)
    if picture.compression in (*WHOLE_PICTURES, OLD_JPEG):
        raise LabelsError("is compressed as photographs are, which changes labels; keep label maps as PNG")
    if picture.photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE):
        name = OTHER_COLORS.get(picture.photometric, "other")
        raise LabelsError(f"has {name} colours; save it as RGB, or with labels as its grey levels")
    if picture.sample_format in COMPLEX:
        raise LabelsError("has complex values; label maps are whole numbers")
    if picture.photometric == RGB and picture.bits != 8:
        raise LabelsError(f"has colours of {picture.bits} bits a channel; save them with 8")
    if picture.photometric == WHITE_IS_ZERO and picture.bits > 8:
        raise LabelsError("has its white as 0, so that its labels are uncertain; save it with black as 0")


def _samples(file: io.BytesIO, picture: TiffPicture) -> Samples:
    """Return all samples, H x W x S."""
    whole: Samples | None = None
    for top, left, samples in parts_of(file, picture):
        if whole is None:
            whole = np.empty((picture.height, picture.width, picture.samples), samples.dtype)
        whole[top : top + samples.shape[0], left : left + samples.shape[1]] = samples
    assert whole is not None
    return whole


def _is_transparent(alpha: Samples, bits: int) -> bool:
    return bool((alpha != (1 << bits) - 1).any())
