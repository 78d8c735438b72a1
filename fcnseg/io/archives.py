"""Images in zip and tar archives, read in place.

Members are listed in the archive's own order. Hidden ones and those in SYSTEM_FOLDERS are left out; links, devices,
encrypted members and names that lead outside the output folder are failures, as are members whose records are
malformed. No list of members is kept in memory. A compressed tar is unpacked once into a temporary file.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from fcnseg.errors import ImageError, SourceError
from fcnseg.io.archive_names import chooses_member, member_reference
from fcnseg.io.image_kinds import START_BYTES
from fcnseg.io.image_limits import check_bytes
from fcnseg.io.images import READERS, OnSize
from fcnseg.io.left_out import LeftOut
from fcnseg.io.seekable import RandomAccess, Seekable, TooLongError, open_regular, reader_of
from fcnseg.io.suffixes import BZIP2_TAR, GZIP_TAR, XZ_TAR, ZIP, has_suffix
from fcnseg.io.tar_headers import HeaderError, TarMembers
from fcnseg.io.zip_archive import ZipImages
from fcnseg.types import Failure, Pixels, Reference

DECOMPRESSORS: dict[tuple[str, ...], Callable[[BinaryIO], Any]] = {
    GZIP_TAR: lambda file: gzip.GzipFile(fileobj=file),
    BZIP2_TAR: bz2.BZ2File,
    XZ_TAR: lzma.LZMAFile,
}

LEAST_LIMIT_BYTES, LARGEST_RATIO = 256 << 20, 100
"""A compressed tar may unpack to so many bytes, or to so many times its own, whichever is more: images hardly compress,
but 300 kB of xz can hold gigabytes of zeros."""


def open_archive(path: str, content: RandomAccess | None = None) -> ZipImages | TarImages:
    """Open the images of an archive: of a file, or of content that goes by this path or URL. Raises SourceError if it
    is none."""
    content = content or Seekable(open_regular(path, "the archive"))
    return ZipImages(path, content) if has_suffix(path, ZIP) else TarImages(path, content)


class TarImages:
    """The images in a tar archive. A fingerprint is a member's time, offset and size.

    `left_out` counts the other members by suffix, once the archive was listed to its end.
    """

    def __init__(self, path: str, content: RandomAccess) -> None:
        self.path = path
        self.left_out: Mapping[str, int] = {}
        decompress = next((opener for suffixes, opener in DECOMPRESSORS.items() if has_suffix(path, suffixes)), None)
        self._bytes = _unpacked(path, content, decompress) if decompress else content
        try:
            TarMembers(self._bytes).check()
        except HeaderError as error:
            self.close()
            raise SourceError(f"{path} is not a tar archive, or it is damaged: {error}") from error

    def __iter__(self) -> Iterator[Reference | Failure]:
        members, left_out = TarMembers(self._bytes), LeftOut()
        for member in members:
            if not member.is_folder and chooses_member(
                member.name, partial(self._bytes.read_at, member.offset, min(member.size, START_BYTES)), left_out
            ):
                fingerprint = f"{member.mtime}-{member.offset}-{member.size}"
                yield member_reference(member.name, member.fault, fingerprint, (member.offset, member.size))
        self.left_out = left_out.by_suffix
        if members.fault:
            yield Failure(Path(self.path).name, "list", members.fault)

    def read(self, location: Any, modality: str, max_pixels: int, on_size: OnSize) -> Pixels:
        """Decode one member."""
        offset, size = location
        check_bytes(size, max_pixels)
        content = self._bytes.read_at(offset, size)
        if len(content) < size:
            raise ImageError("the archive is cut short here")
        return READERS[modality](content, max_pixels, on_size)

    def close(self) -> None:
        """Release the archive."""
        self._bytes.close()


def _unpacked(path: str, content: RandomAccess, opener: Callable[[BinaryIO], Any]) -> Seekable:
    with closing(content):
        limit = max(LEAST_LIMIT_BYTES, LARGEST_RATIO * content.size)
        try:
            return Seekable.copy(opener(reader_of(content)), limit)
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
            raise SourceError(f"{path} cannot be unpacked: {error}; check that it is whole") from error
        except MemoryError as error:
            raise SourceError(f"{path} cannot be unpacked: there is not enough memory; unpack it yourself") from error
        except TooLongError as error:
            hint = "set TMPDIR to a folder with room, or unpack it yourself if it is genuine"
            raise SourceError(f"{path} cannot be unpacked: {error}; {hint}") from error
        except OSError as error:
            hint = "set TMPDIR to a folder with room, or unpack it yourself"
            raise SourceError(f"{path} cannot be unpacked: {error.strerror or error}; {hint}") from error
