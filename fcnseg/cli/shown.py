"""Text of any origin as a terminal may have it."""

from __future__ import annotations


def shown(name: str) -> str:
    """Return a name fit for a terminal: bytes that are no text, and control characters, are escaped."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
