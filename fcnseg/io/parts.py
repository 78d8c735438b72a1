"""Parts of a run or a score: which images one of several processes works on."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """Part `index` (from 0) of `count` about equal ones. An image's key alone says which part it is in."""

    index: int = 0
    count: int = 1

    def has(self, key: str) -> bool:
        """Say whether the image with that key belongs to this part."""
        return self.count == 1 or part_of(key, self.count) == self.index

    @property
    def name(self) -> str:
        """The end of file names, empty for the only part."""
        return f"-{self.index}-of-{self.count}" if self.count > 1 else ""


def part_of(key: str, count: int) -> int:
    """Return the part, 0..count - 1, of the image with that key: the same on every machine."""
    return int.from_bytes(hashlib.blake2b(os.fsencode(key), digest_size=8).digest(), "big") % count
