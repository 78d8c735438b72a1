"""The samples of a TIFF's picture, part by part: read, unpacked, in the machine's byte order, predictors undone."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fcnseg.errors import ImageError
from fcnseg.io.decoder_work import MARKER, START_OF_SCAN
from fcnseg.io.jpeg import jpeg_size, read_jpeg
from fcnseg.io.jpeg2000 import check_components
from fcnseg.io.libtiff import CODECS, FAX, LZMA, LZW, ZSTD, Packing, unpacked_rows
from fcnseg.io.tiff import CMYK, FLOATING, SIGNED, YCBCR, TiffPicture
from fcnseg.types import Pixels

PLAIN, OLD_JPEG, JPEG, ADOBE_DEFLATE, DEFLATE, WEBP = 1, 6, 7, 8, 32946, 50001
JPEG2000 = (33003, 33005, 34712)
"""Values of Compression besides those of libtiff.py; 33003 and 33005 are of slide scanners."""

DEFLATES = (ADOBE_DEFLATE, DEFLATE)

NOT_READ = {22610: "JPEG XR", 32766: "NeXT", 32809: "ThunderScan", 34661: "JBIG", 34676: "SGI LogLuv", 34887: "LERC"}
NOT_READ |= {34933: "PNG", 34934: "JPEG XR", 50002: "JPEG XL", 52546: "JPEG XL"}
"""Compressions that only programs of their own read."""

WHOLE_PICTURES = (JPEG, WEBP, *JPEG2000)
"""Compressions whose parts are encoded images."""

DIFFERENCES, FLOAT_DIFFERENCES = 2, 3
"""Values of Predictor."""

PREDICTED = (LZW, LZMA, ZSTD, *DEFLATES)
"""The compressions that have predictors; with others that tag means nothing."""

PART_BYTES = 1 << 22
"""About how much is unpacked at once."""

SPARE_PART_BYTES = 64 << 20
"""The most that parts may take besides their pixels."""

MOST_SHARED = 16
"""How often parts of a picture may be the same bytes of the file, on average."""

UNPACKED_SAMPLES = 1 << 20
"""How many samples of odd depths are taken apart at once."""

REVERSED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little"), axis=1)[:, 0]
"""Each byte with its bits the other way round."""

ADOBE = b"\xff\xee" + struct.pack(">H5sHHH", 14, b"Adobe", 100, 0, 0)
"""An APP14 segment of JPEG but its last byte, which says how colours are coded (ITU-T T.872, 6.5.3)."""

APPLICATION = range(0xE0, 0xF0)
"""Markers of segments that only some programs read."""

Samples = NDArray[Any]
"""H x W x S of the samples' own type: unsigned or signed integers, or floats."""


def parts_of(file: IO[bytes], picture: TiffPicture) -> Iterator[tuple[int, int, Samples]]:
    """Yield the top, left and samples of one part of the picture after the other, clipped to it. Raises ImageError for
    what is damaged or cut short."""
    count = picture.tiles_across * picture.tiles_down
    if min(len(picture.offsets), len(picture.byte_counts) or count * picture.planes) < count * picture.planes:
        raise ImageError(f"the TIFF is damaged: it has {len(picture.offsets)} parts of {count * picture.planes}")
    end = file.seek(0, io.SEEK_END)
    if not picture.byte_counts:
        picture = replace(picture, byte_counts=_until_the_next(picture.offsets, end))
    if sum(picture.byte_counts) > MOST_SHARED * end + SPARE_PART_BYTES:
        raise ImageError("the TIFF is damaged: its parts are of more bytes than the file; save it anew")
    step = max(1, PART_BYTES // tile_bytes(picture))
    for start in range(0, count, step):
        numbers = range(start, min(start + step, count))
        planes = (
            _unpacked([_encoded(file, end, picture, plane * count + n) for n in numbers], numbers, picture)
            for plane in range(picture.planes)
        )
        for number, tiles in zip(numbers, zip(*planes, strict=True), strict=True):
            top, left = (
                n * side for n, side in zip(divmod(number, picture.tiles_across), _tile_size(picture), strict=True)
            )
            samples = np.concatenate(tiles, axis=2) if picture.planar else tiles[0]
            rows, columns = (
                min(picture.tile_height, picture.height - top),
                min(picture.tile_width, picture.width - left),
            )
            if len(samples) < rows:
                raise ImageError(f"the TIFF is damaged: a part has {len(samples)} rows of {rows}")
            yield top, left, samples[:rows, :columns]


def _until_the_next(offsets: Sequence[int], end: int) -> tuple[int, ...]:
    """Return the most bytes that parts may have whose sizes are not told: up to the next part."""
    following = dict(pairwise((*sorted(set(offsets)), end)))
    return tuple(max(0, following[offset] - offset) for offset in offsets)


def _tile_size(picture: TiffPicture) -> tuple[int, int]:
    return picture.tile_height, picture.tile_width


def tile_bytes(picture: TiffPicture) -> int:
    """Return the unpacked bytes of a part that is not cut by the lower edge."""
    return _stored_rows(picture, picture.tile_height) * row_bytes(picture)


def check_compression(picture: TiffPicture) -> None:
    """Raise ImageError for parts that cannot be unpacked here."""
    if picture.compression not in (PLAIN, OLD_JPEG, *CODECS, *DEFLATES, *WHOLE_PICTURES):
        name = NOT_READ.get(picture.compression, f"an unknown method ({picture.compression})")
        raise ImageError(f"it is compressed by {name}, which is not read here; save it with LZW or Deflate")


def decoder_bytes(picture: TiffPicture, max_pixels: int) -> int:
    """Return about the bytes that decoding takes besides the pixels: of some parts, stored, unpacked and as colours.

    Raises ImageError for parts larger than those of any image of so many pixels."""
    check_compression(picture)
    size = tile_bytes(picture) * picture.planes
    if size > 8 * max_pixels + SPARE_PART_BYTES:
        raise ImageError(f"its parts are of {size} bytes, more than an image of {max_pixels} pixels has; save it anew")
    return 3 * max(size, PART_BYTES)


def row_bytes(picture: TiffPicture) -> int:
    """Return the bytes of a stored row of a part: of pixels, or of units of pixels that share a colour."""
    if picture.is_subsampled:
        across, down = picture.subsampling
        return -(-picture.tile_width // across) * (across * down + 2) * -(-picture.bits // 8)
    return -(-picture.tile_width * picture.samples_together * picture.bits // 8)


def _stored_rows(picture: TiffPicture, rows: int) -> int:
    return -(-rows // picture.subsampling[1]) if picture.is_subsampled else rows


def _rows_of(picture: TiffPicture, number: int) -> int:
    """Return the rows of pixels that a part has: tiles are whole, strips end with the picture."""
    if picture.tiled:
        return picture.tile_height
    return min(picture.tile_height, picture.height - number * picture.tile_height)


def _encoded(file: IO[bytes], end: int, picture: TiffPicture, index: int) -> bytes:
    """Read the stored bytes of a part."""
    offset = picture.offsets[index]
    number = index % (picture.tiles_across * picture.tiles_down)
    if picture.compression == PLAIN:
        size = _stored_rows(picture, _rows_of(picture, number)) * row_bytes(picture)
    else:
        size = picture.byte_counts[index]
    if not offset or not picture.byte_counts[index]:
        raise ImageError(f"part {index + 1} of its pixels is not in the file, as in sparse TIFFs; save it whole")
    if offset + size > end:
        raise ImageError(f"the file is cut short: its pixels end at byte {offset + size}, but the file at {end}")
    file.seek(offset)
    return file.read(size)


def _unpacked(parts: Sequence[bytes], numbers: Sequence[int], picture: TiffPicture) -> list[Samples]:
    """Return the samples of parts, each rows x columns x samples together."""
    if picture.compression in WHOLE_PICTURES:
        return [_whole(part, picture) for part in parts]
    heights = [_rows_of(picture, number) for number in numbers]
    if picture.compression in FAX:
        return _faxes(parts, heights, picture)
    stored = [_stored_rows(picture, rows) for rows in heights]
    return [
        _samples(content, rows, picture)
        for content, rows in zip(_contents(parts, stored, picture), heights, strict=True)
    ]


def _contents(parts: Sequence[bytes], rows: Sequence[int], picture: TiffPicture) -> list[Pixels]:
    """Return the unpacked bytes of parts, rows x bytes of a row."""
    width = row_bytes(picture)
    if picture.compression in CODECS:
        packing = Packing(picture.compression, width, _stored_rows(picture, picture.tile_height), picture.fill_order)
        whole = unpacked_rows(parts, sum(rows), packing)
        return [whole[stop - height : stop] for stop, height in zip(np.cumsum(rows).tolist(), rows, strict=True)]
    if picture.fill_order == 2:
        parts = [REVERSED[np.frombuffer(part, np.uint8)].tobytes() for part in parts]
    if picture.compression in DEFLATES:
        parts = [_inflated(part, height * width) for part, height in zip(parts, rows, strict=True)]
    return [np.frombuffer(part, np.uint8).reshape(-1, width) for part in parts]


def _faxes(parts: Sequence[bytes], rows: Sequence[int], picture: TiffPicture) -> list[Samples]:
    if picture.bits != 1 or picture.samples != 1:
        raise ImageError("the TIFF is damaged: a fax has one sample of one bit a pixel")
    packing = Packing(
        picture.compression, picture.tile_width, picture.tile_height, picture.fill_order, picture.fax_options
    )
    whole = unpacked_rows(parts, sum(rows), packing)
    return [whole[stop - height : stop, :, None] for stop, height in zip(np.cumsum(rows).tolist(), rows, strict=True)]


def _inflated(part: bytes, size: int) -> bytes:
    """Unpack deflated bytes and compare their checksum, which libtiff leaves out."""
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(part, size)
        if not inflater.eof:
            inflater.decompress(inflater.unconsumed_tail, 1)  # what ends here is compared with its checksum
    except zlib.error as error:
        raise ImageError(f"its pixels are damaged ({error})") from error
    if len(content) < size:
        raise ImageError(f"its pixels are damaged (a part has {len(content)} bytes of {size})")
    return content


def _samples(content: Pixels, rows: int, picture: TiffPicture) -> Samples:
    """Return stored rows of bytes as samples."""
    if picture.is_subsampled:
        return _shared_colors(content, picture)[:rows]
    columns, together = picture.tile_width, picture.samples_together
    predictor = picture.predictor if picture.compression in PREDICTED else 1
    if predictor == FLOAT_DIFFERENCES:
        return _from_float_differences(content, picture)
    if predictor not in (1, DIFFERENCES):
        raise ImageError(f"its samples are predicted in an unknown way ({predictor}); save it anew")
    if picture.bits in (8, 16, 32, 64):
        samples = content.view(_stored_type(picture)).reshape(-1, columns, together)
        samples = samples.astype(samples.dtype.newbyteorder("="), copy=predictor == DIFFERENCES)
    else:
        samples = _taken_apart(content, columns * together, picture.bits).reshape(-1, columns, together)
    if predictor == DIFFERENCES:
        if picture.bits not in (8, 16, 32, 64):
            raise ImageError(f"differences of {picture.bits}-bit samples have no meaning; save it anew")
        whole = samples.view(f"u{samples.itemsize}")
        np.cumsum(whole, axis=1, dtype=whole.dtype, out=whole)
    return samples


def _stored_type(picture: TiffPicture) -> np.dtype[Any]:
    kind = {SIGNED: "i", FLOATING: "f"}.get(picture.sample_format, "u")
    if kind == "f" and picture.bits == 8:
        raise ImageError("floating-point samples of 8 bits have no meaning")
    return np.dtype(f"{picture.order}{kind}{picture.bits // 8}")


def _taken_apart(content: Pixels, count: int, bits: int) -> Samples:
    """Return `count` unsigned samples of each row of packed bits, the first bit the highest."""
    if bits > 32:
        raise ImageError(f"samples of {bits} bits have no meaning; save it with 8 or 16")
    kind = np.uint8 if bits < 8 else np.uint16 if bits <= 16 else np.uint32
    samples = np.empty((len(content), count), kind)
    step = max(1, UNPACKED_SAMPLES // max(1, count))
    for top in range(0, len(content), step):
        each = np.unpackbits(content[top : top + step], axis=1, count=count * bits).reshape(-1, count, bits)
        band = samples[top : top + step]
        band[:] = 0
        for bit in range(bits):
            band <<= 1
            band |= each[..., bit]
    return samples


def _from_float_differences(content: Pixels, picture: TiffPicture) -> Samples:
    """Undo the predictor of floats (Adobe's TIFF Technical Note 3): bytes of a row by significance, differenced."""
    size, together = picture.bits // 8, picture.samples_together
    if picture.sample_format != FLOATING or picture.bits not in (16, 32, 64):
        raise ImageError("the TIFF is damaged: its predictor is for floating-point samples, which it has not")
    planes = np.cumsum(content.reshape(len(content), -1, together), axis=1, dtype=np.uint8)
    together_again = np.ascontiguousarray(planes.reshape(len(content), size, -1).swapaxes(1, 2))
    samples = together_again.view(f">f{size}").reshape(-1, picture.tile_width, together)
    return samples.astype(samples.dtype.newbyteorder("="))


def _shared_colors(content: Pixels, picture: TiffPicture) -> Samples:
    """Return Y, Cb, Cr of every pixel of stored units of pixels that share a colour (TIFF 6.0, section 21)."""
    if picture.bits != 8 or picture.samples != 3:
        raise ImageError("colours of several pixels must be of three samples of 8 bits; save it anew")
    across, down = picture.subsampling
    units = content.reshape(len(content), -1, across * down + 2)
    luma = units[..., :-2].reshape(len(units), -1, down, across).swapaxes(1, 2).reshape(len(units) * down, -1)
    colors = units[..., -2:].repeat(down, axis=0).repeat(across, axis=1)
    return np.concatenate((luma[..., None], colors), axis=2)[:, : picture.tile_width]


# ---------------------------------------------------------------------- parts that are encoded images


def _whole(part: bytes, picture: TiffPicture) -> Samples:
    """Decode a part that is an image of its own: rows x columns x samples together."""
    if picture.compression == JPEG:
        samples = _jpeg(part, picture)
    else:
        if picture.compression in JPEG2000:
            check_components(io.BytesIO(part))
        with Image.open(io.BytesIO(part), formats=("WEBP", "JPEG2000")) as image:
            _check_size(image.height, image.width, picture)
            samples = np.asarray(image)
    samples = samples if samples.ndim == 3 else samples[..., None]
    if samples.shape[2] != picture.samples_together:
        raise ImageError(
            f"the TIFF is damaged: a part has {samples.shape[2]} samples a pixel, not {picture.samples_together}"
        )
    return samples


def _check_size(height: int, width: int, picture: TiffPicture) -> None:
    """Raise ImageError for a part that is an image of another size. The lowest may be as high as those above."""
    if width != picture.tile_width or not 0 < height <= picture.tile_height:
        raise ImageError(
            f"the TIFF is damaged: a part is of {width} x {height} pixels, not {picture.tile_width} x "
            f"{picture.tile_height}"
        )


def _jpeg(part: bytes, picture: TiffPicture) -> Samples:
    """Decode a part that is a JPEG, whose tables may stand elsewhere, without a change of colours but to RGB."""
    transform = int(picture.photometric == YCBCR and not picture.planar)
    tables = picture.jpeg_tables[2:].removesuffix(b"\xff\xd9")
    content = b"".join((b"\xff\xd8", _plain_header(tables), ADOBE, bytes([transform]), _plain_header(part[2:])))
    kind = "GRAY" if picture.samples_together == 1 else "CMYK" if picture.photometric == CMYK else "RGB"
    height, width = jpeg_size(content)
    if height:
        _check_size(height, width, picture)
    samples = read_jpeg(content, kind) if height else None
    if samples is None:
        raise ImageError("its parts are JPEGs of a kind that is not read here; save it with LZW or Deflate")
    return samples


def _plain_header(content: bytes) -> bytes:
    """Return what follows the start of a JPEG without its application segments: they may contradict the TIFF's tags
    about the coding of colours."""
    kept, position = [], 0
    while (marker := MARKER.match(content, position)) and marker[1][0] != START_OF_SCAN:
        end = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2], "big")
        if marker[1][0] not in APPLICATION:
            kept.append(content[position:end])
        position = end
    return b"".join((*kept, content[position:]))
