"""Texts of one path or name a line, such as split files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from fcnseg.errors import SettingsError
from fcnseg.io.names import first_few, without_map_suffix

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""What Windows starts texts with."""


def entries(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what lines name, without the blanks around; blank lines, and comments, which start with #, are skipped."""
    for line in lines:
        if (entry := line.strip()) and not entry.startswith(b"#"):
            yield entry


def read_names(file: Path) -> tuple[str, ...]:
    """Read the images of a split file, one name a line: `2007_000033`, or a path with or without suffix.

    Raises SettingsError if it cannot be read, is empty, or names an image twice.
    """
    try:
        lines = file.read_bytes().removeprefix(BYTE_ORDER_MARK).splitlines()
        names = [without_map_suffix(entry.decode().removeprefix("./")) for entry in entries(lines)]
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the list {file} cannot be read: {error}; give a text file, one name a line") from error
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice or not names:
        fault = f"names {first_few(twice)} twice" if twice else "is empty"
        raise SettingsError(f"the list {file} {fault}; give each image once")
    return tuple(names)
