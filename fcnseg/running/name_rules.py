"""The rules by which a file system tells names apart: some take `Photo.png` and `photo.png` for one file.

The rules are found out by making two files in a hidden folder. Names that a rule may take for one are held against the
file system itself, so that only those are refused that really are one there.
"""

from __future__ import annotations

import tempfile
import unicodedata
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path

from fcnseg.io.atomic import PART

Fold = Callable[[str], str]


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _caseless(name: str) -> str:
    return name.casefold()


def _without_dots(name: str) -> str:
    return "/".join(part.rstrip(". ") for part in name.split("/"))


RULES: tuple[tuple[str, str, Fold], ...] = (
    ("a", "A", _caseless),
    ("\u00e9", "e\u0301", _composed),  # é as one character and as two
    ("a", "a.", _without_dots),  # FAT and NTFS as they are on Windows
)
"""Two names that are one under a rule, and a function that makes names equal that may be one under it."""


class NameRules:
    """The rules of the file systems of some folders, which need not exist yet."""

    def __init__(self, folders: Iterable[Path] = ()) -> None:
        rules = {place: _rules_of(place) for place in set(map(_existing, folders))}  # ext4 has rules for single folders
        self._places = [place for place, folds in rules.items() if folds]
        known = {fold for folds in rules.values() for fold in folds}
        # letters without case may be composed anew, and the other way round
        self._folds = [fold for fold in (_composed, _caseless, _composed, _without_dots) if fold in known]

    def fold(self, name: str) -> str:
        """Return a text that is equal for all names that may be one file; the name itself where only equal ones are."""
        for fold in self._folds:
            name = fold(name)
        return name

    def are_one(self, one: str, other: str) -> bool:
        """Tell whether two relative paths are one on any of the file systems."""
        if one == other:
            return True
        parts = list(zip_longest(one.split("/"), other.split("/"), fillvalue=""))
        return any(all(a == b or _is_one_file(place, a, b) for a, b in parts) for place in self._places)


def _existing(folder: Path) -> Path:
    """Return the nearest folder that exists: a new one has its rules."""
    absolute = folder.absolute()
    return next(place for place in (absolute, *absolute.parents) if place.is_dir())


def _rules_of(folder: Path) -> list[Fold]:
    return [fold for one, other, fold in RULES if _is_one_file(folder, one, other)]


def _is_one_file(folder: Path, one: str, other: str) -> bool:
    """Tell whether two names are one in a folder; of those that cannot be made there that is not known (False)."""
    with (
        suppress(OSError, ValueError),
        tempfile.TemporaryDirectory(dir=folder, prefix=f"{PART}names-", ignore_cleanup_errors=True) as probe,
    ):
        Path(probe, one).touch()
        return Path(probe, other).exists()
    return False
