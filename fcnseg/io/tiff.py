"""The picture of a TIFF: which page it is and how its samples are laid out, by tags alone, never by values.

Tags are those of TIFF 6.0 and its supplements; tifffile reads them, of BigTIFF in both byte orders too.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any

import numpy as np

from fcnseg.errors import ImageError
from fcnseg.io.decoder_work import MOST_FRAMES, SPARE_TILE_PIXELS
from fcnseg.io.libtiff import FAX
from fcnseg.io.orientation import UPRIGHT

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""The first bytes of TIFF and BigTIFF, little and big-endian."""

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, MASK, CMYK, YCBCR = range(7)
"""Values of PhotometricInterpretation that have a picture."""

NO_PICTURE = {
    MASK: "a transparency mask",
    8: "CIE L*a*b* colours",
    9: "ICC L*a*b* colours",
    10: "ITU L*a*b* colours",
    32803: "the raw samples of a camera's sensor",
    32844: "LogL luminance",
    32845: "LogLuv colours",
    34892: "the raw samples of a camera's sensor",
}
"""Other values, which are refused."""

COLORS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3}
"""The number of samples that colours have; others of a pixel are alpha, or unspecified."""

UNSIGNED, SIGNED, FLOATING, UNDEFINED = 1, 2, 3, 4
"""Values of SampleFormat."""

COMPLEX = (5, 6)
"""Those of complex numbers, whole and floating."""

REDUCED, PAGE_MASK = 1, 4
"""Bits of NewSubfileType: a smaller version of another page, a mask of another page."""

ASSOCIATED_ALPHA = 1
"""The value of ExtraSamples for alpha that colours are multiplied by."""

CAMERA_RAW = {50706: "DNG", 46279: "a raw file"}
"""Tags of raw files, whose pages are previews."""

SUB_PAGES = 330

MOST_SAMPLES = 64
"""The most samples that a pixel may have."""

IMAGEJ_IMAGES = re.compile(r"ImageJ=.*\bimages=(\d+)", re.DOTALL)
"""The number of pictures behind each other that ImageJ lets one page stand for."""


@dataclass(frozen=True)
class TiffPicture:
    """The layout of one page: strips are tiles as wide as the picture here.

    `order` is "<" or ">", `extra_samples` the kinds of samples besides the colours. `offsets` and `byte_counts` are of
    the tiles, row by row, one plane after the other if `planar`. `index` is the page's number, from 0.
    """

    index: int
    height: int
    width: int
    order: str
    bits: int
    sample_format: int
    samples: int
    photometric: int
    extra_samples: tuple[int, ...]
    planar: bool
    compression: int
    predictor: int
    fill_order: int
    tiled: bool
    tile_height: int
    tile_width: int
    offsets: tuple[int, ...]
    byte_counts: tuple[int, ...]
    orientation: int
    color_map: tuple[int, ...]
    jpeg_tables: bytes
    fax_options: int
    subsampling: tuple[int, int]
    luma: tuple[float, ...]
    black_white: tuple[float, ...]
    jpeg_stream: tuple[int, int]
    """The offset and length of the JPEG that a page of the old form is, or 0 and 0."""

    @property
    def planes(self) -> int:
        """The number of planes that are stored one after the other."""
        return self.samples if self.planar else 1

    @property
    def samples_together(self) -> int:
        """The number of samples of a pixel in each tile."""
        return 1 if self.planar else self.samples

    @property
    def tiles_across(self) -> int:
        """The number of tiles in a row of them."""
        return -(-self.width // self.tile_width)

    @property
    def tiles_down(self) -> int:
        """The number of rows of tiles."""
        return -(-self.height // self.tile_height)

    @property
    def is_subsampled(self) -> bool:
        """True if several pixels share a colour, in the layout of TIFF itself (JPEG has its own)."""
        return self.photometric == YCBCR and self.subsampling != (1, 1) and not self.planar

    @property
    def alpha(self) -> int | None:
        """The place of alpha that the colours are multiplied by among the samples, or None."""
        colors = self.samples - len(self.extra_samples)
        places = [colors + i for i, kind in enumerate(self.extra_samples) if kind == ASSOCIATED_ALPHA]
        return places[0] if places else None


def picture_of(file: IO[bytes]) -> TiffPicture:
    """Return the layout of the one picture of a TIFF. Raises ImageError if it has none, several, or one of a layout
    that has no meaning here; and whatever tifffile raises on broken files."""
    with _opened(file) as tiff:
        pages = list(islice(tiff.pages, MOST_FRAMES))
        if not pages:
            raise ImageError("the TIFF is damaged or cut short: no page of it can be read")
        pictures = [
            page for page in pages if not _tag(page, 254, 0) & (REDUCED | PAGE_MASK) and _tag(page, 255, 1) != 2
        ]
        if len(pages) == 1 and not pictures:
            pictures = pages
        if len(pictures) != 1:
            count = len(pictures) or len(pages)
            many = f"{count} frames" if count < MOST_FRAMES else "very many frames"
            raise ImageError(f"the file holds {many}; split it into single images")
        page = pictures[0]
        _check_page(page)
        return _picture(page, tiff.byteorder)


@contextmanager
def _opened(file: IO[bytes]) -> Iterator[Any]:
    import tifffile  # takes a sixth of a second

    logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)  # it reports faults of files that are refused, or read
    with tifffile.TiffFile(file) as tiff:
        yield tiff


def _check_page(page: Any) -> None:
    """Raise ImageError for a page that stands for another picture, or several."""
    if _number(page, 32997, 1) > 1:
        raise ImageError("it holds a volume, not a picture; split it into single images")
    for code, kind in CAMERA_RAW.items():
        if code in page.tags:
            raise ImageError(f"it is {kind} of a camera, of which only the preview could be read; convert it first")
    if _number(page, 262, 0) == CMYK and _number(page, 332, 1) != 1:
        raise ImageError("its inks are not cyan, magenta, yellow and black; convert it to RGB")
    if _tag(page, 254, 0) & REDUCED and SUB_PAGES in page.tags:
        raise ImageError("its page is only a preview of the picture, as in raw files of cameras; convert it first")
    match = IMAGEJ_IMAGES.match(str(_tag(page, 270, "")))
    if match and int(match[1]) > 1:
        raise ImageError(f"the file holds {match[1]} frames; split it into single images")


def _picture(page: Any, order: str) -> TiffPicture:
    samples, compression = _number(page, 277, 1), _number(page, 259, 1)
    if not 1 <= samples <= MOST_SAMPLES:
        raise ImageError(f"{samples} samples a pixel are no colours; save it as RGB")
    photometric = _number(page, 262, RGB if samples > 2 else int(compression not in FAX))  # as libtiff without the tag
    orientation = _number(page, 274, 1)
    return TiffPicture(
        index=page.index,
        order=order,
        bits=_same(page, 258, 1, "bits"),
        sample_format=_same(page, 339, UNSIGNED, "formats"),
        samples=samples,
        photometric=photometric,
        extra_samples=_extra_samples(photometric, samples, _numbers(page, 338)),
        planar=_number(page, 284, 1) == 2 and samples > 1,
        compression=compression,
        predictor=_number(page, 317, 1),
        fill_order=_number(page, 266, 1),
        orientation=orientation if orientation in UPRIGHT else 1,
        color_map=_numbers(page, 320),
        jpeg_tables=bytes(_tag(page, 347, b"")),
        jpeg_stream=(_number(page, 513, 0), _number(page, 514, 0)),
        fax_options=_number(page, 292, 0),
        subsampling=_subsampling(page),
        luma=_ratios(page, 529) or (0.299, 0.587, 0.114),
        black_white=_ratios(page, 532),
        **_tiling(page),
    )


def _tiling(page: Any) -> dict[str, Any]:
    """Return the fields of the sizes and places of the picture and its parts."""
    height, width, tiled = _number(page, 257), _number(page, 256), 322 in page.tags
    tile_height, tile_width = (_number(page, 323), _number(page, 322)) if tiled else (_number(page, 278, height), width)
    if min(height, width, tile_height, tile_width) < 1:
        raise ImageError(f"the TIFF is damaged: it has {width} x {height} pixels")
    if tiled and tile_height * tile_width > 4 * height * width + SPARE_TILE_PIXELS:
        raise ImageError(f"its tiles are of {tile_width} x {tile_height} pixels, more than the image; save it anew")
    return {
        "height": height,
        "width": width,
        "tiled": tiled,
        "tile_height": tile_height if tiled else min(tile_height, height),
        "tile_width": tile_width,
        "offsets": _numbers(page, 324 if tiled else 273),
        "byte_counts": _numbers(page, 325 if tiled else 279),
    }


def _extra_samples(photometric: int, samples: int, extra: tuple[int, ...]) -> tuple[int, ...]:
    """Return the kinds of the samples that are not colours, 0 where the tag says nothing."""
    surplus = max(0, samples - COLORS.get(photometric, samples))
    return (*extra, *[0] * surplus)[:surplus]


def _subsampling(page: Any) -> tuple[int, int]:
    across, down = (*_numbers(page, 530), 2, 2)[:2]
    return across, down


def _tag(page: Any, code: int, default: Any) -> Any:
    tag = page.tags.get(code)
    return default if tag is None or tag.value is None else tag.value


def _numbers(page: Any, code: int) -> tuple[int, ...]:
    return tuple(int(number) for number in np.ravel(_tag(page, code, ())).tolist())


def _number(page: Any, code: int, default: int | None = None) -> int:
    numbers = _numbers(page, code)
    if numbers:
        return numbers[0]
    if default is None:
        raise ImageError(f"the TIFF is damaged: it lacks tag {code}")
    return default


def _same(page: Any, code: int, default: int, what: str) -> int:
    """Return the one value that a tag has for all samples."""
    values = _numbers(page, code)
    if len(set(values)) > 1:
        raise ImageError(f"its samples have different {what} ({', '.join(map(str, values))}); save it as RGB")
    return values[0] if values else default


def _ratios(page: Any, code: int) -> tuple[float, ...]:
    value = _tag(page, code, ())
    flat = tuple(float(number) for number in value) if isinstance(value, tuple) else ()
    pairs = zip(flat[::2], flat[1::2], strict=False)
    return tuple(above / below if below else 0.0 for above, below in pairs)
