"""libtiff as an unpacker of bytes: the codecs of TIFF that Pillow brings, and what they find wrong.

Pillow reads few of the layouts that TIFF has, but libtiff within it unpacks the data of all: packed parts of any layout
are wrapped as the strips of a plain grey or bilevel TIFF here. libtiff reports some damage, above all in faxes, on
standard error alone, and goes on; its reports are kept by thread instead.
"""

from __future__ import annotations

import ctypes
import io
import re
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile, _imaging, features
from PIL.TiffImagePlugin import TiffImageFile

from fcnseg.errors import ImageError

FAX_RLE, FAX3, FAX4, LZW, PACKBITS, LZMA, ZSTD = 2, 3, 4, 5, 32773, 34925, 50000
FAX = (FAX_RLE, FAX3, FAX4)
CODECS = {FAX_RLE: "CCITT", FAX3: "CCITT", FAX4: "CCITT", LZW: "LZW", PACKBITS: "PackBits", LZMA: "LZMA", ZSTD: "ZSTD"}
"""Values of Compression that are unpacked here, and their names."""

FAX_OPTIONS = {FAX3: 292, FAX4: 293}
"""Tags of further options."""

SHORT, LONG = 3, 4

_reports = threading.local()


class _UncheckedTiff(TiffImageFile):
    """A TIFF of as many values as it takes: the pixels that they make were counted before."""

    def load_prepare(self) -> None:
        ImageFile.ImageFile.load_prepare(self)


@dataclass(frozen=True)
class Packing:
    """The packing of parts of `rows` rows (the last: as many as are left) of `width` bytes, or pixels of a fax."""

    compression: int
    width: int
    rows: int
    fill_order: int = 1
    fax_options: int = 0


def unpacked_rows(parts: Sequence[bytes], height: int, packing: Packing) -> NDArray[np.uint8]:
    """Unpack parts to uint8 `height` x width: bytes, or the pixels 0 and 1 of a fax, as stored. Raises ImageError if
    they are damaged."""
    with reports_of_damage(), _UncheckedTiff(io.BytesIO(_wrapped(parts, height, packing))) as image:
        rows = np.asarray(image)
        return (rows != 0).view(np.uint8) if packing.compression in FAX else rows


def _wrapped(parts: Sequence[bytes], height: int, packing: Packing) -> bytes:
    """Return a TIFF (6.0, section 2) whose strips the parts are."""
    ends = list(accumulate(map(len, parts), initial=8))
    padding = bytes(ends[-1] % 2)
    tags: dict[int, tuple[int, list[int]]] = {
        256: (LONG, [packing.width]),
        257: (LONG, [height]),
        258: (SHORT, [1 if packing.compression in FAX else 8]),
        259: (SHORT, [packing.compression]),
        262: (SHORT, [1]),  # black is zero: values as stored
        266: (SHORT, [packing.fill_order]),
        273: (LONG, ends[:-1]),
        277: (SHORT, [1]),
        278: (LONG, [packing.rows]),
        279: (LONG, [len(part) for part in parts]),
    }
    if packing.compression in FAX_OPTIONS:
        tags[FAX_OPTIONS[packing.compression]] = LONG, [packing.fax_options]
    start = ends[-1] + len(padding)
    return b"".join((struct.pack("<2sHL", b"II", 42, start), *parts, padding, _directory(tags, start)))


def _directory(tags: dict[int, tuple[int, list[int]]], start: int) -> bytes:
    """Return a directory of tags, and the values that have no room in it, to be put at `start`."""
    entries, values = [struct.pack("<H", len(tags))], []
    free = start + 2 + 12 * len(tags) + 4
    for tag, (kind, numbers) in sorted(tags.items()):
        packed = struct.pack(f"<{len(numbers)}{'H' if kind == SHORT else 'L'}", *numbers)
        if len(packed) > 4:
            values.append(packed)
            packed = struct.pack("<L", free)
            free += len(values[-1])
        entries.append(struct.pack("<HHL", tag, kind, len(numbers)) + packed.ljust(4, b"\0"))
    return b"".join((*entries, bytes(4), *values))


@contextmanager
def reports_of_damage() -> Iterator[None]:
    """Raise ImageError if libtiff reports a fault in this thread, or Pillow does on its behalf."""
    _keep_reports()
    _reports.list = []
    try:
        try:
            yield
        except OSError as error:
            raise ImageError(f"its pixels are damaged ({_text() or error})") from error
        if _reports.list:
            raise ImageError(f"its pixels are damaged ({_text()})")
    finally:
        _reports.list = []


def _text() -> str:
    """Return the first report of this thread, without its numbers."""
    return _reports.list[0] if _reports.list else ""


def _keep(_module: bytes | None, text: bytes | None, _values: Any) -> None:
    reports = getattr(_reports, "list", None)
    if reports is not None:
        words = re.sub(r"\(\w* ?%[a-z]+[^)]*\)|%\w+", "", (text or b"").decode("latin-1"))
        reports.append(" ".join(words.strip(" :;,").split()))


_handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)(_keep)
"""TIFFErrorHandler of tiffio.h: takes the function that reports, a format, and its values."""


@cache
def _keep_reports() -> None:
    """Keep what libtiff reports, in place of printing it. Where Pillow is linked in another way, it is printed."""
    if not features.check("libtiff"):
        raise ImageError("this Pillow has no libtiff to unpack it; `pip install --force-reinstall pillow` has it")
    try:
        set_handler = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
    except (AttributeError, OSError):
        return
    set_handler.restype = ctypes.c_void_p
    set_handler(_handler)
