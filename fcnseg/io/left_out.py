"""The files of a source that are not taken for images: counted by suffix, or by the folder that was not entered."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import PurePosixPath

SUFFIXES_COUNTED = 64
"""The suffixes with a count of their own; files of further ones count as OTHER."""

LONGEST_SUFFIX = 12

OTHER = "other"


class LeftOut:
    """Counts of files by suffix, in lower case, or by folder, which ends with a slash (`@eaDir/`), in memory that does
    not grow with their number."""

    def __init__(self) -> None:
        self.by_suffix: Counter[str] = Counter()

    def add(self, name: str) -> None:
        """Count a file by its name."""
        suffix = PurePosixPath(name).suffix.lower()
        self._count(suffix if len(suffix) <= LONGEST_SUFFIX else OTHER, 1)

    def add_in(self, folder: str, files: int = 1) -> None:
        """Count files in a folder that was not entered, by its name."""
        self._count(f"{folder.rstrip('/')}/", files)

    def add_all(self, others: LeftOut) -> None:
        """Count what others were counted elsewhere."""
        for kind, files in others.by_suffix.items():
            self._count(kind, files)

    def _count(self, kind: str, files: int) -> None:
        if files:
            full = kind not in self.by_suffix and len(self.by_suffix) >= SUFFIXES_COUNTED
            self.by_suffix[OTHER if full else kind] += files


def kind_named(kind: str) -> str:
    """Return a suffix or folder that files are counted by in words: `.mp4`, `without a suffix`, `in @eaDir`."""
    return f"in {kind[:-1]}" if kind.endswith("/") else kind or "without a suffix"


def files_below(folder: str) -> int:
    """Return the number of files below a folder, hidden ones and what cannot be listed apart."""
    total = 0
    for _, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        total += sum(not name.startswith(".") for name in names)
    return total
