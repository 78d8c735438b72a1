"""Images named in a text: a file with one path a line, or what another program writes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import BinaryIO

from fcnseg.errors import SourceError
from fcnseg.io.folders import ImageFiles, file_reference
from fcnseg.io.lists import BYTE_ORDER_MARK, entries
from fcnseg.io.seekable import Seekable, TooLongError, open_regular
from fcnseg.io.urls import is_url
from fcnseg.types import Reference

LONGEST_PATH_BYTES = 1 << 16
BLOCK_BYTES = 1 << 16


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

    @property
    def text(self) -> Seekable:
        """The text itself."""
        return self._text

    def names_urls(self) -> bool:
        """Tell whether the first entry is a URL."""
        start = self._text.read_at(0, LONGEST_PATH_BYTES).removeprefix(BYTE_ORDER_MARK)
        return is_url(os.fsdecode(next(entries(start.split(self._separator)), b"")))

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
            if is_url(text):
                raise SourceError(f"{self.name} names paths and URLs; give a list of each")
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
    except TooLongError as error:
        raise SourceError(f"standard input cannot be kept: {error}; set TMPDIR to a folder with room") from error
    except OSError as error:
        raise SourceError(f"standard input cannot be kept in a temporary file: {error.strerror}; set TMPDIR") from error
