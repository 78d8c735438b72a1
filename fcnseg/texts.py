"""Text files of users, in the encodings that their systems write: UTF-8, UTF-16 and UTF-32."""

from __future__ import annotations

import codecs
from pathlib import Path

ENCODINGS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Encodings by byte order mark, UTF-32 before UTF-16, which begins alike. PowerShell's `>` writes UTF-16."""


def encoding_of(start: bytes) -> str:
    """Return the encoding of a text by how it begins: without a mark, a NUL in every other byte means UTF-16."""
    for mark, name in ENCODINGS.items():
        if start.startswith(mark):
            return name
    even, odd = start[: len(start) // 2 * 2 : 2], start[1::2]
    if b"\n\0" in start and odd.count(0) > 0.9 * len(odd):
        return "utf-16-le"
    return "utf-16-be" if b"\0\n" in start and even.count(0) > 0.9 * len(even) else "utf-8"


def read_text(path: str | Path) -> str:
    """Read a text file. Raises OSError, and UnicodeDecodeError if it is in another encoding."""
    data = Path(path).read_bytes()
    return data.decode(encoding_of(data))
