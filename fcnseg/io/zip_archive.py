"""Images in zip archives, in constant memory.

Python's own reader keeps 0.6 kB of every member, 600 MB of a million, and cannot list without: so the directory is
parsed here. Members are unpacked by Python.
"""

from __future__ import annotations

import io
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fcnseg.errors import ImageError, SourceError
from fcnseg.io.archive_names import is_image_member, member_reference
from fcnseg.io.images import READERS, OnSize, check_bytes
from fcnseg.io.seekable import Seekable, open_regular
from fcnseg.types import Failure, Pixels, Reference

RECORD = struct.Struct("<4s6H3L5H2L")
"""The record of a member in a zip's directory; its name, further values and a comment follow. From APPNOTE.TXT
4.3.12: magic, versions, flags (3), method, time, date, CRC (7), packed (8) and unpacked (9) bytes, the lengths of what
follows (10 to 12), disk, attributes (15: Unix mode in its upper half), and the offset of the member (16)."""

OFFSET_AT = 42
"""The position of the offset in a record."""

LOCAL_HEADER = struct.Struct("<26x2H")
"""The header of a packed member (4.3.7): the lengths of its name and further values, which follow."""

DIRECTORY_END = struct.Struct("<4s4H2LH")
"""The end of a zip (4.3.16): magic, numbers of disks and members, the directory's bytes and offset, the length of the
comment that follows."""

LONGEST_COMMENT = 0xFFFF

LOCATOR_BYTES = 20

LARGE_END = struct.Struct(f"<4s8x4x8x2Q2Q{LOCATOR_BYTES}x")
"""The record before it if it has too few digits (4.3.14), with the locator of this record (4.3.15)."""

ENCRYPTED, UTF8 = 1, 1 << 11
"""Flags of a member."""

TOO_LARGE = 0xFFFFFFFF
"""The mark of a number that stands among the further values, in 64 bits."""


class Member(NamedTuple):
    """The location of a member: its record in the archive's directory, the offset of its packed bytes and their header,
    and its sizes, packed and unpacked."""

    record: bytes
    offset: int
    packed: int
    size: int


class ZipImages:
    """The images in a zip archive. A fingerprint is a member's CRC and size.

    The directory of members is read anew each time they are listed, so that none of it is kept.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._bytes = Seekable(open_regular(path, "the archive"))
        try:
            self._start, self._end, self._shift = self._directory()
        except (struct.error, ValueError) as error:
            self.close()
            raise SourceError(f"{path} is not a zip archive, or it is damaged; check that it is whole") from error

    def _directory(self) -> tuple[int, int, int]:
        """Return the start and end of the directory, and by how much all offsets are too small: something may have been
        put before the archive. Raises ValueError or struct.error if there is no directory."""
        base = max(0, self._bytes.size - DIRECTORY_END.size - LONGEST_COMMENT)
        tail = self._bytes.read_at(base, self._bytes.size - base)
        position = tail.rindex(b"PK\5\6")
        end = base + position
        *_, size, offset, _ = DIRECTORY_END.unpack_from(tail, position)
        large = self._bytes.read_at(max(0, end - LARGE_END.size), LARGE_END.size)
        if large.startswith(b"PK\6\6") and large[-LOCATOR_BYTES:].startswith(b"PK\6\7"):
            *_, size, offset = LARGE_END.unpack(large)
            end -= LARGE_END.size
        start = end - size
        if start < offset or (size and self._bytes.read_at(start, 4) != b"PK\1\2"):
            raise ValueError(f"no directory at {start}")
        return start, end, start - offset

    def __iter__(self) -> Iterator[Reference | Failure]:
        reader, left = self._bytes.reader(), self._end - self._start
        reader.seek(self._start)
        while left > 0:
            try:
                record, fields = _record(reader)
                left -= len(record)
                name = _member_name(record, fields)
                if is_image_member(name):
                    yield self._listed(name, record, fields)
            except (struct.error, ValueError):
                yield Failure(Path(self.path).name, "list", "the archive's directory is damaged or cut short")
                return

    def _listed(self, name: str, record: bytes, fields: tuple[Any, ...]) -> Reference | Failure:
        flags, crc, mode = fields[3], fields[7], fields[15] >> 16
        packed, size, offset = _large_numbers(record, fields)
        fault = "encrypted; unpack it first" if flags & ENCRYPTED else ""
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            fault = "a link or a device, not a file"
        return member_reference(name, fault, f"{crc:08x}-{size}", Member(record, offset + self._shift, packed, size))

    def read(self, member: Any, modality: str, max_pixels: int, on_size: OnSize) -> Pixels:
        """Unpack and decode one member."""
        check_bytes(max(member.packed, member.size), max_pixels)
        try:
            with zipfile.ZipFile(io.BytesIO(self._alone(member))) as archive:
                content = archive.read(archive.infolist()[0])
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, struct.error) as error:
            raise ImageError(f"the archive is damaged here: {error}") from error
        except (NotImplementedError, RuntimeError) as error:
            raise ImageError(f"cannot be unpacked: {error}") from error
        return READERS[modality](content, max_pixels, on_size)

    def _alone(self, member: Member) -> bytes:
        """Return an archive of that member alone."""
        header = self._bytes.read_at(member.offset, LOCAL_HEADER.size)
        packed = self._bytes.read_at(member.offset, len(header) + sum(LOCAL_HEADER.unpack(header)) + member.packed)
        record = member.record[:OFFSET_AT] + bytes(4) + member.record[OFFSET_AT + 4 :]
        return packed + record + DIRECTORY_END.pack(b"PK\5\6", 0, 0, 1, 1, len(record), len(packed), 0)

    def close(self) -> None:
        """Release the archive."""
        self._bytes.close()


def _record(reader: io.BufferedReader) -> tuple[bytes, tuple[Any, ...]]:
    """Read the next record of a zip's directory and its fields. Raises ValueError or struct.error if it is none."""
    head = reader.read(RECORD.size)
    fields = RECORD.unpack(head)
    length = sum(fields[10:13])
    rest = reader.read(length)
    if fields[0] != b"PK\1\2" or len(rest) < length:
        raise ValueError("no record of a member")
    return head + rest, fields


def _member_name(record: bytes, fields: tuple[Any, ...]) -> str:
    """Return a member's name; one that is declared as UTF-8 and is not keeps its bytes."""
    name = record[RECORD.size : RECORD.size + fields[10]]
    text = name.decode("utf-8", "surrogateescape") if fields[3] & UTF8 else name.decode("cp437")
    return text.partition("\0")[0]


def _large_numbers(record: bytes, fields: tuple[Any, ...]) -> tuple[int, int, int]:
    """Return a member's packed and unpacked bytes and its offset, wherever they stand."""
    numbers = {9: fields[9], 8: fields[8], 16: fields[16]}  # in the order in which they are among the further values
    if TOO_LARGE in numbers.values():
        extra = record[RECORD.size + fields[10] : RECORD.size + fields[10] + fields[11]]
        while extra:
            kind, length = struct.unpack_from("<2H", extra)
            if kind == 1:
                large = [field for field in numbers if numbers[field] == TOO_LARGE]
                numbers.update(zip(large, struct.unpack_from(f"<{len(large)}Q", extra, 4), strict=True))
                break
            extra = extra[4 + length :]
    return numbers[8], numbers[9], numbers[16]
