"""Folders searched through in the order of their names, in about the memory that the names of one folder take."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from heapq import merge
from itertools import chain, islice
from pathlib import Path

from fcnseg.errors import SourceError
from fcnseg.types import Failure

RUN = 1 << 16
"""How many names are sorted at once."""

PIECE = 256
"""How many names of each run are strings of their own at once."""


SYSTEM_FOLDERS = frozenset(
    ("@eaDir", "__MACOSX", "#recycle", "@Recycle", "$RECYCLE.BIN", "#snapshot", "@Recently-Snapshot")
)
"""Folders that file servers and systems add: thumbnails, metadata, what was deleted, copies of what is elsewhere."""


@dataclass(frozen=True)
class Choice:
    """The files without the suffixes that `walk` yields, and the folders that it enters.

    `takes(entry)` decides on files, and `on_left_out(name)` is told of those that it does not take; `enters(path)`
    decides on folders, and `on_skipped(key, path)` is told of these and of SYSTEM_FOLDERS. `on_excluded(key)` is told
    of folders to exclude that were met.
    """

    takes: Callable[[os.DirEntry[str]], bool] = lambda entry: False
    enters: Callable[[str], bool] = lambda path: True
    on_left_out: Callable[[str], None] = lambda name: None
    on_skipped: Callable[[str, str], None] = lambda key, path: None
    on_excluded: Callable[[str], None] = lambda key: None


BY_SUFFIX = Choice()


def walk(
    folder: str, suffixes: tuple[str, ...], exclude: Iterable[Path] = (), choice: Choice = BY_SUFFIX
) -> Iterator[str | Failure]:
    """Yield the path, relative to a folder, of each file below it that has one of these suffixes, sorted.

    Hidden names are passed over, and SYSTEM_FOLDERS. Symbolic links are followed: each real folder once, those in
    `exclude` never. A folder that cannot be listed is a failure whose key ends with a slash; so is, without a slash,
    one with such a suffix that holds no such file. Raises SourceError if `folder` itself cannot be listed.
    """
    excluded = {_identity(path) for path in exclude if path.is_dir()}
    try:
        seen = {_identity(folder)}
        levels = [_Level("", _sorted_names(folder, suffixes, choice))]
    except OSError as error:
        raise SourceError(f"the folder {folder} cannot be listed: {error.strerror}; check its permissions") from error
    root = os.path.join(folder, "")
    while levels:
        level = levels[-1]
        for name in level.names:
            key = level.prefix + name
            if not name.endswith("/"):
                level.empty = False
                yield key
                continue
            try:
                if (identity := _identity(root + key)) in seen:
                    continue
                seen.add(identity)
                if identity in excluded:
                    choice.on_excluded(key)
                elif name[:-1] in SYSTEM_FOLDERS or not choice.enters(root + key):
                    choice.on_skipped(key, root + key)
                else:
                    levels.append(_Level(key, _sorted_names(root + key, suffixes, choice)))
                    break
            except OSError as error:
                yield Failure(key, "list", f"the folder cannot be listed: {error.strerror}")
        else:
            levels.pop()
            if levels and not level.empty:
                levels[-1].empty = False
            elif level.prefix[:-1].lower().endswith(suffixes):
                yield Failure(level.prefix[:-1], "list", "a folder, and there are no images in it")


@dataclass
class _Level:
    """A folder on the way down: the start of its keys, the names to come, and whether no file was met in it yet."""

    prefix: str
    names: Iterator[str]
    empty: bool = True


def _identity(path: str | Path) -> int:
    status = os.stat(path)
    return status.st_dev << 64 | status.st_ino


def _sorted_names(folder: str, suffixes: tuple[str, ...], choice: Choice = BY_SUFFIX) -> Iterator[str]:
    """Sort the names in a folder: runs of them are sorted, packed into long strings, and merged."""
    names = names_in(folder, suffixes, choice)
    runs = []
    while run := sorted(islice(names, RUN)):
        runs.append(["\0".join(run[i : i + PIECE]) for i in range(0, len(run), PIECE)])
    return merge(*(chain.from_iterable(piece.split("\0") for piece in run) for run in runs))


def names_in(folder: str, suffixes: tuple[str, ...], choice: Choice = BY_SUFFIX) -> Iterator[str]:
    """Yield the names of the files with these suffixes in a folder, and of its folders, which end with a slash."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                yield entry.name + "/"
            elif entry.name.lower().endswith(suffixes) or choice.takes(entry):
                yield entry.name
            else:
                choice.on_left_out(entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads round in circles or where one may not look
        return False
