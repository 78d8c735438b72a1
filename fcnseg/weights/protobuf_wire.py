"""The wire format of protocol buffers, read without a schema and without copying.

Source: the protocol buffers documentation, "Encoding".
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class MalformedError(Exception):
    """The bytes are no valid message."""


def fields(data: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Yield the number, wire type and value of each field; a varint's value as its little-endian bytes."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise MalformedError(f"field 0 before byte {at}")
        if wire == VARINT:
            value, at = varint(data, at)
            yield number, wire, memoryview(value.to_bytes(10, "little"))
            continue
        if wire == BYTES:
            size, at = varint(data, at)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise MalformedError(f"wire type {wire} at byte {at}")
        if size > len(data) - at:
            raise MalformedError(f"field {number} says {size} bytes where {len(data) - at} are left")
        yield number, wire, data[at : at + size]
        at += size


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return the number that begins at a byte, and the byte after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise MalformedError("the file ends inside a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise MalformedError("a number of more than 10 bytes")


def text(value: memoryview) -> str:
    """Return a string field."""
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError("a name is not text") from error


def integer(value: memoryview) -> int:
    """Return a varint field, unsigned."""
    return int.from_bytes(value, "little")


def integers(number: int, message: memoryview) -> list[int]:
    """Return the numbers of a repeated integer field of a message, packed or not."""
    found: list[int] = []
    for field, wire, value in fields(message):
        if field == number and wire == VARINT:
            found.append(integer(value))
        elif field == number and wire == BYTES:
            at = 0
            while at < len(value):
                one, at = varint(value, at)
                found.append(one)
    return found
