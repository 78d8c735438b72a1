"""Keys, stems and names: the identity of an input."""

from __future__ import annotations

import os
from collections.abc import Iterable

from fcnseg.io.suffixes import HDF5, IMAGE_HDF5, IMAGES, LABEL_MAPS, has_suffix

LONGEST_KEY_BYTES, LONGEST_PART_BYTES = 3500, 255
"""The longest key, which leaves room for the output folder's path, and the longest name in it."""

RECORDS = ".fcnseg"
"""The folder of a run's records inside its output folders."""

HHA_RECORD = "hha.json"
"""The file among the records of HHA images, which, other than outputs of runs, are inputs of runs."""

RECORDS_ELSEWHERE = "records.txt"
"""The file that names the folder of a run's records, in that of outputs that lie elsewhere: overlays, masks ..."""

NAMES_SHOWN = 3
"""How many names a message lists."""


def stem_of(key: str) -> str:
    """Return a key without its image suffix: `a/b.c.jpg` gives `a/b.c`, `images/000.1` stays."""
    stem, _, suffix = key.rpartition(".")
    if stem[-1:] in "/.":  # nothing, or dots, before the last one: not always a suffix
        stem, suffix = os.path.splitext(key)
        suffix = suffix[1:]
    return stem if f".{suffix.lower()}" in IMAGES else key


def without_map_suffix(name: str) -> str:
    """Return the name of a label map, or of the image it belongs to, without its suffix."""
    return name.rpartition(".")[0] if has_suffix(name, (*LABEL_MAPS, *HDF5)) else name


def safe_key(name: str) -> str | None:
    """Return the key of a name in an archive or HDF5 file, `./a//b.jpg` as `a/b.jpg`; None if it leads outside."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return None if name.startswith("/") or ".." in parts or not parts else "/".join(parts)


def is_too_long(key: str) -> bool:
    """Tell whether a key cannot be the path of an output: files of no common system have such names."""
    if 4 * len(key) <= LONGEST_PART_BYTES:  # nearly all, and quickly: UTF-8 has no longer characters
        return False
    return len(os.fsencode(key)) > LONGEST_KEY_BYTES or any(
        len(os.fsencode(part)) > LONGEST_PART_BYTES for part in key.split("/")
    )


def split_hdf5_name(source: str) -> tuple[str, str]:
    """Split `data.h5::/images` into the file and the name inside, which is empty where none is given."""
    path, mark, name = source.rpartition("::")
    return (path, name) if mark and not os.path.exists(source) else (source, "")


def is_hdf5_name(source: str) -> bool:
    """Tell whether a source of images is an HDF5 file, by its name."""
    path, name = split_hdf5_name(source)
    return bool(name) or has_suffix(path, IMAGE_HDF5)


def plain(text: str) -> str:
    """Return text that databases and HDF5 can keep: bytes of file names that are no UTF-8 are escaped."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def first_few(names: Iterable[str]) -> str:
    """Return the first few of some names, and how many more there are, for messages."""
    names = list(names)
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more
