"""Images in zip archives, in constant memory.

Python's own reader keeps 0.6 kB of every member, 600 MB of a million, and cannot list without: so the directory is
parsed here. A record that is damaged is a failure, and the next one is searched for.
"""

from __future__ import annotations

import io
import stat
import struct
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from fcnseg.errors import ImageError, SourceError
from fcnseg.io import image_kinds
from fcnseg.io.archive_names import chooses_member, member_reference
from fcnseg.io.image_limits import SPARE_BYTES, check_bytes
from fcnseg.io.image_opening import check_start
from fcnseg.io.images import READERS, OnSize
from fcnseg.io.left_out import LeftOut
from fcnseg.io.seekable import RandomAccess, reader_of
from fcnseg.io.unpacking import BZIP2, unpacked, unpacked_start
from fcnseg.types import Failure, Pixels, Reference

RECORD = struct.Struct("<4s6H3L5H2L")
"""The record of a member in a zip's directory; its name, further values and a comment follow. From APPNOTE.TXT
4.3.12: magic, versions, flags (3), method, time, date, CRC (7), packed (8) and unpacked (9) bytes, the lengths of what
follows (10 to 12), disk, attributes (15: Unix mode in its upper half), and the offset of the member (16)."""

RECORD_START = b"PK\1\2"

LOCAL_HEADER = struct.Struct("<4s22x2H")
"""The header of a packed member (4.3.7): magic, the lengths of its name and further values, which follow."""

LOCAL_START = b"PK\3\4"

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

LARGE_NUMBERS, UNICODE_PATH = 1, 0x7075
"""Kinds of further values (4.5.3, 4.6.9)."""

START_BYTES = 1 << 16
"""How much of a large member is looked at before all of it is unpacked."""

LARGEST_TABLES_BYTES, LARGEST_BLOCK_BYTES = 1 << 12, 1 << 20
"""How much of a member is unpacked for its first bytes: bzip2 unpacks whole blocks of up to 900 kB."""

MALFORMED = "its record in the archive's directory is malformed"

SEARCHED_BYTES = 1 << 20
"""How much is searched at once for the next record."""


class Member(NamedTuple):
    """The location of a member: the offset of its header, the compression method, its sizes, packed and unpacked, and
    its checksum."""

    offset: int
    method: int
    packed: int
    size: int
    checksum: int


class ZipImages:
    """The images in a zip archive. A fingerprint is a member's CRC and size.

    The directory of members is read anew each time they are listed, so that none of it is kept. `left_out` counts the
    members that are no images by suffix, once the archive was listed to its end.
    """

    location_type = Member

    def __init__(self, path: str, content: RandomAccess) -> None:
        self.path, self._bytes = path, content
        self.left_out: Mapping[str, int] = {}
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
        # the first record may be damaged where nothing else has been put before the archive
        if start < offset or (size and start != offset and self._bytes.read_at(start, 4) != RECORD_START):
            raise ValueError(f"no directory at {start}")
        return start, end, start - offset

    def __iter__(self) -> Iterator[Reference | Failure]:
        position, damaged, left_out = self._start, 0, LeftOut()
        reader = reader_of(self._bytes)
        reader.seek(position)
        while position < self._end:
            try:
                record, fields = _record(reader)
            except (struct.error, ValueError):
                damaged += 1
                position = self._next_record(position + 1)
                reader.seek(position)
                continue
            following, fault = position + len(record), ""
            if following != self._end and self._bytes.read_at(following, 4) != RECORD_START:
                next_record = self._next_record(position + 1)
                if next_record < following:  # it would swallow the next one
                    following, fault = next_record, MALFORMED
                    reader.seek(following)
            position = following
            name = _member_name(record, fields)
            start = partial(self._first_bytes, record, fields)
            if not name.endswith("/") and chooses_member(name, start, left_out):
                yield self._listed(name, record, fields, fault)
            elif fault:
                damaged += 1
        self.left_out = left_out.by_suffix
        if damaged:
            yield Failure(
                Path(self.path).name, "list", f"the archive's directory is damaged or cut short in {damaged} places"
            )

    def _next_record(self, position: int) -> int:
        """Return the offset of the next record; the directory's end if there is none."""
        while position < self._end:
            piece = self._bytes.read_at(position, min(SEARCHED_BYTES, self._end - position))
            at = piece.find(RECORD_START)
            if at >= 0:
                return position + at
            if len(piece) < len(RECORD_START):
                break
            position += len(piece) - len(RECORD_START) + 1
        return self._end

    def _first_bytes(self, record: bytes, fields: tuple[Any, ...]) -> bytes:
        """Return the first bytes of a member, by which its kind is known; none if they cannot be had."""
        try:
            packed, size, offset = _large_numbers(record, fields)
            method = fields[4]
            packed = min(packed, LARGEST_BLOCK_BYTES if method == BZIP2 else LARGEST_TABLES_BYTES)
            member = Member(offset + self._shift, method, packed, size, fields[7])
            return unpacked_start(self._packed(member), method, image_kinds.START_BYTES)
        except (ImageError, struct.error, ValueError):
            return b""

    def _listed(self, name: str, record: bytes, fields: tuple[Any, ...], fault: str) -> Reference | Failure:
        flags, method, crc, mode = fields[3], fields[4], fields[7], fields[15] >> 16
        if flags & ENCRYPTED:
            fault = "encrypted; unpack it first"
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            fault = "a link or a device, not a file"
        try:
            packed, size, offset = _large_numbers(record, fields)
        except (struct.error, ValueError):
            packed, size, offset = fields[8], fields[9], fields[16]
            fault = fault or MALFORMED
        offset += self._shift
        if offset + packed > self._bytes.size:
            fault = fault or f"{MALFORMED}: its {packed} bytes would lie at byte {offset}, beyond the archive's end"
        return member_reference(name, fault, f"{crc:08x}-{size}", Member(offset, method, packed, size, crc))

    def read(self, member: Any, modality: str, max_pixels: int, on_size: OnSize) -> Pixels:
        """Unpack and decode one member."""
        check_bytes(max(member.packed, member.size), max_pixels)
        packed = self._packed(member)
        if member.size > SPARE_BYTES:
            check_start(unpacked_start(packed, member.method, START_BYTES), member.size)
        content = unpacked(packed, member.method, member.size, member.checksum)
        return READERS[modality](content, max_pixels, on_size)

    def _packed(self, member: Member) -> bytes:
        """Return the packed bytes of a member."""
        header = self._bytes.read_at(member.offset, LOCAL_HEADER.size)
        if len(header) < LOCAL_HEADER.size or not header.startswith(LOCAL_START):
            raise ImageError("the archive is damaged here: there is no member where its directory says")
        _, name_bytes, further_bytes = LOCAL_HEADER.unpack(header)
        return self._bytes.read_at(member.offset + LOCAL_HEADER.size + name_bytes + further_bytes, member.packed)

    def close(self) -> None:
        """Release the archive."""
        self._bytes.close()


def _record(reader: io.BufferedReader) -> tuple[bytes, tuple[Any, ...]]:
    """Read the next record of a zip's directory and its fields. Raises ValueError or struct.error if it is none."""
    head = reader.read(RECORD.size)
    fields = RECORD.unpack(head)
    if fields[0] != RECORD_START:
        raise ValueError("no record of a member")
    length = sum(fields[10:13])
    rest = reader.read(length)
    if len(rest) < length:
        raise ValueError("no whole record of a member")
    return head + rest, fields


def _member_name(record: bytes, fields: tuple[Any, ...]) -> str:
    """Return a member's name, its parts separated by slashes: Windows also writes backslashes.

    One that is declared as UTF-8 and is not keeps its bytes. A name among the further values is preferred if it is that
    of the name in the record, which another program may have changed.
    """
    raw = record[RECORD.size : RECORD.size + fields[10]]
    name = raw.decode("utf-8", "surrogateescape") if fields[3] & UTF8 else raw.decode("cp437")
    if not fields[11]:
        return name.partition("\0")[0].replace("\\", "/")
    try:
        further = _further_values(record, fields).get(UNICODE_PATH, b"")
        version, checksum = struct.unpack_from("<BL", further)
        if version == 1 and checksum == zlib.crc32(raw):
            name = further[5:].decode("utf-8")
    except (struct.error, ValueError):
        pass
    return name.partition("\0")[0].replace("\\", "/")


def _large_numbers(record: bytes, fields: tuple[Any, ...]) -> tuple[int, int, int]:
    """Return a member's packed and unpacked bytes and its offset, wherever they stand. Raises ValueError or
    struct.error if they are nowhere."""
    numbers = {9: fields[9], 8: fields[8], 16: fields[16]}  # in the order in which they are among the further values
    large = [field for field in numbers if numbers[field] == TOO_LARGE]
    further = _further_values(record, fields) if fields[11] else {}
    if large and LARGE_NUMBERS in further:
        numbers.update(zip(large, struct.unpack_from(f"<{len(large)}Q", further[LARGE_NUMBERS]), strict=True))
    return numbers[8], numbers[9], numbers[16]


def _further_values(record: bytes, fields: tuple[Any, ...]) -> dict[int, bytes]:
    """Return the further values of a record by kind, the first of each. Raises ValueError or struct.error if they are
    malformed."""
    start = RECORD.size + fields[10]
    left, values = record[start : start + fields[11]], dict[int, bytes]()
    while len(left) >= 4:  # fewer are padding
        kind, length = struct.unpack_from("<2H", left)
        if length > len(left) - 4:
            raise ValueError("a value is longer than all")
        values.setdefault(kind, left[4 : 4 + length])
        left = left[4 + length :]
    return values
