"""The files of a source that are no images by their names, counted by suffix."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath

SUFFIXES_COUNTED = 64
"""The suffixes with a count of their own; files of further ones count as OTHER."""

LONGEST_SUFFIX = 12

OTHER = "other"


class LeftOut:
    """Counts files by suffix, in lower case, in memory that does not grow with their number."""

    def __init__(self) -> None:
        self.by_suffix: Counter[str] = Counter()

    def add(self, name: str) -> None:
        """Count a file by its name."""
        suffix = PurePosixPath(name).suffix.lower()
        if len(suffix) > LONGEST_SUFFIX or (suffix not in self.by_suffix and len(self.by_suffix) >= SUFFIXES_COUNTED):
            suffix = OTHER
        self.by_suffix[suffix] += 1
