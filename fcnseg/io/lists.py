"""Texts of one path or name a line: lists of images, split files, what another program writes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from fcnseg.errors import SettingsError, SourceError
from fcnseg.io.folders import ImageFiles, file_reference
from fcnseg.io.names import some, without_map_suffix
from fcnseg.io.seekable import Seekable, open_regular
from fcnseg.types import Reference

LONGEST_PATH_BYTES = 1 << 16
BLOCK_BYTES = 1 << 16

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
        fault = f"names {some(twice)} twice" if twice else "is empty"
        raise SettingsError(f"the list {file} {fault}; give each image once")
    return tuple(names)


class ImageList(ImageFiles):
    """The image files named in a text of any length, in its order.

    Paths that a NUL ends (`find -print0`) are taken as they are. A relative path counts from the list's own folder,
    or from the current one if it is not there; those of standard input count from the current one. Keys are relative
    to the deepest folder that holds all the files. The text is read anew each time it is listed; standard input is
    copied to a temporary file first. Raises SourceError for an unreadable list and for what is no list.
    """

    def __init__(self, path: str, stdin: BinaryIO | None = None) -> None:
        if path == "-":
            self.name, self._folder = "the list on standard input", os.getcwd()
            self._text = _copied(stdin or sys.stdin.buffer)
        else:
            self.name, self._folder = f"the list {path}", os.path.dirname(os.path.abspath(path))
            self._text = Seekable(open_regular(path, "the list"))
        self._separator = b"\0" if b"\0" in self._text.read_at(0, LONGEST_PATH_BYTES) else b"\n"
        self.common: str | None = None

    def __iter__(self) -> Iterator[Reference]:
        if self.common is None:
            self.common = self._deepest_common_folder()
        start = len(self.common) + (not self.common.endswith("/"))
        for path in self._paths():
            yield file_reference(path[start:], path)

    def _deepest_common_folder(self) -> str:
        common = ""
        for path in self._paths():
            folder = os.path.dirname(path)
            if not common:
                common = folder
            elif not f"{folder}/".startswith(f"{common}/"):
                common = os.path.commonpath([common, folder])
        return common

    def _paths(self) -> Iterator[str]:
        """Yield the absolute path of each file."""
        here = os.getcwd()
        lines = self._lines()
        for entry in filter(None, lines) if self._separator == b"\0" else entries(lines):
            text = os.fsdecode(entry)
            path = os.path.normpath(os.path.join(self._folder, text))
            if self._folder != here and not os.path.isabs(text) and not os.path.exists(path):
                beside = os.path.normpath(os.path.join(here, text))
                path = beside if os.path.exists(beside) else path
            yield path

    def _lines(self) -> Iterator[bytes]:
        left, offset = b"", 0
        while block := self._text.read_at(offset, BLOCK_BYTES):
            *lines, left = (left + (block if offset else block.removeprefix(BYTE_ORDER_MARK))).split(self._separator)
            offset += len(block)
            yield from map(self._checked, lines)
            if len(left) > LONGEST_PATH_BYTES:
                raise self._no_list()
        yield self._checked(left)

    def _checked(self, line: bytes) -> bytes:
        if b"\0" in line:
            raise self._no_list()
        return line

    def _no_list(self) -> SourceError:
        return SourceError(f"{self.name} is not a text of paths; a list holds one path a line")

    def close(self) -> None:
        """Release the list."""
        self._text.close()


def _copied(stream: BinaryIO) -> Seekable:
    try:
        return Seekable.copy(stream)
    except OSError as error:
        raise SourceError(f"standard input cannot be kept in a temporary file: {error.strerror}; set TMPDIR") from error
