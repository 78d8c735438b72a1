"""Images named in a text: a file with one path a line, or what another program writes."""

from __future__ import annotations

import codecs
import os
import sys
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import closing
from typing import BinaryIO

from fcnseg.errors import SourceError
from fcnseg.io.folders import ImageFiles, file_reference
from fcnseg.io.lists import entries
from fcnseg.io.seekable import Seekable, TooLongError, open_regular, reader_of
from fcnseg.io.urls import is_url
from fcnseg.texts import encoding_of
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
        self._text = self._as_utf8()
        self._separator = b"\0" if b"\0" in self._text.read_at(0, LONGEST_PATH_BYTES) else b"\n"
        self.common: str | None = None

    def _as_utf8(self) -> Seekable:
        """Return the text, in UTF-8 if a byte order mark declares another encoding."""
        encoding = encoding_of(self._text.read_at(0, BLOCK_BYTES))
        if encoding.startswith("utf-8"):
            return self._text
        with closing(self._text):
            try:
                return Seekable.copy(codecs.EncodedFile(reader_of(self._text), "utf-8", encoding))
            except UnicodeError as error:
                raise SourceError(f"{self.name} is no {encoding.upper()}; save it as UTF-8") from error
            except (OSError, TooLongError) as error:
                raise SourceError(f"{self.name} cannot be copied as UTF-8: {error}; save it as UTF-8") from error

    @property
    def text(self) -> Seekable:
        """The text itself."""
        return self._text

    def names_urls(self) -> bool:
        """Tell whether the first entry is a URL."""
        start = self._text.read_at(0, LONGEST_PATH_BYTES).removeprefix(BOM_UTF8)
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
            *lines, left = (left + (block if offset else block.removeprefix(BOM_UTF8))).split(self._separator)
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
