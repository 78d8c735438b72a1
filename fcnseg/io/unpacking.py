"""Members of zip archives unpacked, to as many bytes as they claim and no more.

Python's own reader hands all that is packed to bzip2 and LZMA at once: a kilobyte can unpack to gigabytes.
"""

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable

from fcnseg.errors import ImageError

STORED, DEFLATED, BZIP2, LZMA = 0, 8, 12, 14
"""Compression methods of zip archives (APPNOTE.TXT 4.4.5)."""

LZMA_HEADER = struct.Struct("<2xHBL")
"""The properties of LZMA (5.8.8): version, bytes of what follows, lc, lp and pb in one number, dictionary size."""

LEAST_DICTIONARY_BYTES = 4096


def unpacked(packed: bytes, method: int, size: int, checksum: int) -> bytes:
    """Unpack a member of so many bytes. Raises ImageError if it is damaged, or of more or fewer."""
    content = unpacked_start(packed, method, size + 1)
    if len(content) > size:
        raise ImageError(f"the archive is damaged here: it unpacks to more than the {size} bytes it claims")
    if len(content) < size:
        raise ImageError(f"the archive is damaged here: it unpacks to {len(content)} bytes, and claims {size}")
    if zlib.crc32(content) != checksum:
        raise ImageError("the archive is damaged here: Bad CRC-32")
    return content


def unpacked_start(packed: bytes, method: int, size: int) -> bytes:
    """Unpack up to so many bytes of a member. Raises ImageError if it is damaged."""
    if method not in UNPACKERS:
        raise ImageError(
            f"cannot be unpacked: its compression method is not supported ({method}); pack it with deflate"
        )
    try:
        return UNPACKERS[method](packed, size)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, struct.error) as error:
        raise ImageError(f"the archive is damaged here: {error}") from error
    except MemoryError as error:
        raise ImageError(f"the archive is damaged, or there is not enough memory to unpack {size} bytes") from error


def _inflated(packed: bytes, size: int) -> bytes:
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, size)


def _bunzipped(packed: bytes, size: int) -> bytes:
    return bz2.BZ2Decompressor().decompress(packed, size)


def _from_lzma(packed: bytes, size: int) -> bytes:
    length, properties, dictionary = LZMA_HEADER.unpack_from(packed)
    if length != 5 or properties >= 9 * 5 * 5:
        raise ValueError("no properties of LZMA")
    lzma_filter = {
        "id": lzma.FILTER_LZMA1,
        "lc": properties % 9,
        "lp": properties // 9 % 5,
        "pb": properties // 45,
        "dict_size": max(LEAST_DICTIONARY_BYTES, min(dictionary, size)),  # a larger one is of no use
    }
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[lzma_filter]).decompress(packed[LZMA_HEADER.size :], size)


UNPACKERS: dict[int, Callable[[bytes, int], bytes]] = {
    STORED: lambda packed, size: packed[:size],
    DEFLATED: _inflated,
    BZIP2: _bunzipped,
    LZMA: _from_lzma,
}
"""Functions that unpack up to so many bytes."""
