"""Small files that would keep a decoder busy, or fill the memory: each is refused in one line, at once."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnseg.io.images import read_color
from tests.io.hdf5_files import encoded
from tests.io.hostile import READ_MAPS, ends_of

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def jpeg_of_scans(side: int, scans: int, *, between: bytes = b"", mode: str = "RGB") -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    content = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(content, "JPEG", progressive=True)
    whole = bytearray(content.getvalue())
    struct.pack_into(">HH", whole, whole.index(b"\xff\xc2") + 5, side, side)
    last = whole.rindex(b"\xff\xda")
    return bytes(whole[:last] + (whole[last:-2] + between) * scans + whole[-2:])


def sequential_jpeg_of_scans(side: int, scans: int) -> bytes:
    """A JPEG with a scan for each component, again and again."""
    content = io.BytesIO()
    Image.fromarray(PIXELS).save(content, "JPEG", subsampling=0)
    whole = bytearray(content.getvalue())
    struct.pack_into(">HH", whole, whole.index(b"\xff\xc0") + 5, side, side)
    first = whole.index(b"\xff\xda")
    one = b"".join(
        b"\xff\xda\0\x08\1" + bytes([c, t, 0, 63, 0]) + b"\x55\xaa" * 4 for c, t in ((1, 0), (2, 17), (3, 17))
    )
    return bytes(whole[:first] + one * (scans // 3) + whole[-2:])


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))


def png_with(extra: bytes, after: bytes = b"") -> bytes:
    whole = encoded(PIXELS)
    return whole[:33] + extra + whole[33:-12] + after + whole[-12:]


def gif_with(extension: bytes) -> bytes:
    whole = encoded(PIXELS, "GIF")
    first = whole.index(b",", 13 + 768)
    return whole[:first] + extension + whole[first:]


def tiff_of_folders(count: int) -> bytes:
    """A TIFF with a chain of empty pages behind the first."""
    whole = bytearray(encoded(PIXELS, "TIFF"))
    (first,) = struct.unpack_from("<L", whole, 4)
    (entries,) = struct.unpack_from("<H", whole, first)
    whole += bytes(len(whole) % 2)
    start = len(whole)
    struct.pack_into("<L", whole, first + 2 + 12 * entries, start)
    return bytes(whole) + b"".join(struct.pack("<HL", 0, start + 6 * (i + 1)) for i in range(count)) + bytes(6)


def tiff(tags: dict[int, tuple[int, int, int]], after: bytes = b"") -> bytes:
    """A TIFF of tags (type, count, value)."""
    entries = b"".join(struct.pack("<HHLL", tag, *entry) for tag, entry in sorted(tags.items()))
    return struct.pack("<2sHLH", b"II", 42, 8, len(tags)) + entries + bytes(4) + after


PLAIN = {256: (4, 1, 10), 257: (4, 1, 10), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1)}


def tiff_of_strips(count: int) -> bytes:
    at = 8 + 2 + 12 * 9 + 4
    tags = {**PLAIN, 273: (4, count, at), 278: (4, 1, 1), 279: (4, count, at)}
    return tiff({**tags, 257: (4, 1, count)}, struct.pack("<L", 8) * count)


def tiff_of_one_tile(side: int) -> bytes:
    packed = zlib.compress(bytes(side * side))
    at = 8 + 2 + 12 * 10 + 4
    tags = {**PLAIN, 259: (3, 1, 8), 322: (4, 1, side), 323: (4, 1, side), 324: (4, 1, at), 325: (4, 1, len(packed))}
    return tiff(tags, packed)


def tiff_of_tags_on_one_value(count: int) -> bytes:
    """Each of many tags is the whole file."""
    return tiff({**PLAIN, **{1000 + i: (1, 12 * count, 8) for i in range(count)}})


HARM: dict[str, Callable[[], bytes]] = {
    "800 scans of 13,000 x 13,000": lambda: jpeg_of_scans(13_000, 800),
    "800 grey scans": lambda: jpeg_of_scans(13_000, 800, mode="L"),
    "800 CMYK scans": lambda: jpeg_of_scans(6_500, 800, mode="CMYK"),
    "scans among comments": lambda: jpeg_of_scans(13_000, 300, between=b"\xff\xfe\0\4\xff\xda" * 3),
    "scans behind fill bytes": lambda: jpeg_of_scans(13_000, 300, between=b"\xff" * 9),
    "a million scans of few pixels": lambda: jpeg_of_scans(64, 300_000),
    "800 scans, not progressive": lambda: sequential_jpeg_of_scans(13_000, 800),
    "a PNG of two million chunks": lambda: png_with(chunk(b"abCd") * 2_000_000),
    "two million chunks behind the pixels": lambda: png_with(b"", chunk(b"abCd") * 2_000_000),
    "a PNG of many texts": lambda: png_with(chunk(b"tEXt", b"k\0v") * 900_000),
    "a PNG of packed texts": lambda: png_with(chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 20))) * 400),
    "a PNG of one packed text": lambda: png_with(chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(300 << 20)))),
    "a PNG of a packed profile": lambda: png_with(chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(300 << 20)))),
    "a PNG that unpacks to more": lambda: png_with(b"", chunk(b"IDAT", zlib.compress(bytes(300 << 20)))),
    "a GIF of tiny blocks": lambda: gif_with(b"!\xfe" + b"\1x" * 4_000_000 + b"\0"),
    "a GIF of tiny comments": lambda: gif_with(b"!\xfe\1x\0" * 2_000_000),
    "a TIFF of 170,000 pages": lambda: tiff_of_folders(170_000),
    "a TIFF of two million pages": lambda: tiff_of_folders(2_000_000),
    "a TIFF of four million strips": lambda: tiff_of_strips(4_000_000),
    "a TIFF of one huge tile": lambda: tiff_of_one_tile(20_000),
    "a TIFF of tags on one value": lambda: tiff_of_tags_on_one_value(60_000),
    "a PPM of text": lambda: b"P3 13000 13000 255\n" + b"1 " * 3_000_000,
    "a PPM of few levels": lambda: b"P6 13000 13000 3\n" + b"1 " * 3_000_000,
}
FINE = ("a PNG that unpacks to more", "a TIFF of tags on one value", "a PNG of many texts")
"""Decoders stop at these by themselves, or say so."""


@pytest.mark.slow
@pytest.mark.parametrize("case", HARM)
def test_a_file_that_is_too_much_work_is_refused_at_once(tmp_path: Path, case: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(HARM[case]())
    (image,), (label_map,) = (
        ends_of(path, seconds=25, memory_bytes=1200 << 20)[0].values(),
        ends_of(path, seconds=25, memory_bytes=1200 << 20, code=READ_MAPS)[0].values(),
    )
    if case not in FINE:
        assert isinstance(image, str), image
        assert isinstance(label_map, str), label_map


def test_jpegs_of_usual_scans_are_read() -> None:
    for between in (b"", b"\xff\xfe\0\4\xff\xda" * 300):
        assert read_color(jpeg_of_scans(16, 1, between=between)).shape == (16, 16, 3)
    for mode in ("L", "RGB", "CMYK"):
        image = Image.fromarray(PIXELS).convert(mode)
        for options in ({}, {"progressive": True}):
            content = io.BytesIO()
            image.save(content, "JPEG", **options)
            assert read_color(content.getvalue(), 256).shape == (16, 16, 3)
