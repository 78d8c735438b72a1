"""Text of any origin as a terminal may have it."""

from __future__ import annotations


def shown(name: str) -> str:
    """Return a name fit for a terminal: bytes that are no text, and control characters, are escaped."""
    return name if name.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in name)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a file name that is no UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
