"""Texts of one path or name a line, such as split files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from fcnseg.errors import SettingsError
from fcnseg.io.names import first_few, without_map_suffix
from fcnseg.io.suffixes import LABEL_MAPS, has_suffix
from fcnseg.texts import read_text


def entries(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what lines name, without the blanks around; blank lines, and comments, which start with #, are skipped."""
    for line in lines:
        if (entry := line.strip()) and not entry.startswith(b"#"):
            yield entry


def read_names(file: Path) -> tuple[str, ...]:
    """Read the images of a split file, one name a line: `2007_000033`, or a path with or without suffix.

    Of two columns, images and label maps, these are the first. Raises SettingsError if it cannot be read, is empty, or
    names an image twice.
    """
    return tuple(name for name, _ in read_columns(file))


def read_columns(file: Path) -> tuple[tuple[str, str], ...]:
    """Read the names of a split file, and of their label maps if it has two columns, else "".

    Columns are two texts in every line, between them a tab, or blanks where both texts are names of images or label
    maps with their suffixes. Raises SettingsError as `read_names`.
    """
    try:
        texts = [entry.decode() for entry in entries(read_text(file).encode().splitlines())]
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"the list {file} cannot be read: {error}; give a text file, one name a line") from error
    columns = _two_columns(texts) or [(text, "") for text in texts]
    pairs = [(_name(image), _name(labels)) for image, labels in columns]
    times = Counter(image for image, _ in pairs)
    twice = sorted(name for name, count in times.items() if count > 1)
    if twice or not pairs:
        fault = f"names {first_few(twice)} twice" if twice else "is empty"
        raise SettingsError(f"the list {file} {fault}; give each image once")
    return tuple(pairs)


def _two_columns(texts: list[str]) -> list[tuple[str, str]] | None:
    split = [tuple(part.strip() for part in text.split("\t")) for text in texts]
    if not all(len(parts) == 2 and all(parts) for parts in split):
        split = [tuple(text.split()) for text in texts]
        if not all(len(parts) == 2 and all(has_suffix(part, LABEL_MAPS) for part in parts) for parts in split):
            return None
    return [(parts[0], parts[1]) for parts in split]


def _name(text: str) -> str:
    return without_map_suffix(text.removeprefix("./"))
