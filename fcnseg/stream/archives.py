"""Images in zip and tar archives, read in place.

Members are listed in the archive's own order. Hidden ones and `__MACOSX` are left out; links, devices, encrypted
members and names that lead outside the output folder are failures. A zip's directory of members is kept in memory
(about 0.6 kB a member); of a tar nothing is kept, and a compressed tar is unpacked once into a temporary file.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fcnseg.errors import ImageError, SourceError
from fcnseg.stream.decoding import READERS, OnSize, check_bytes
from fcnseg.stream.names import is_image_name, member_key, stem_of
from fcnseg.stream.spool import Spooled, open_regular
from fcnseg.types import Failure, Pixels, Reference

OPENERS: dict[str, Callable[[BinaryIO], Any] | None] = {
    ".tar": None,
    ".tar.gz": lambda file: gzip.GzipFile(fileobj=file),
    ".tgz": lambda file: gzip.GzipFile(fileobj=file),
    ".tar.bz2": bz2.BZ2File,
    ".tbz2": bz2.BZ2File,
    ".tar.xz": lzma.LZMAFile,
    ".txz": lzma.LZMAFile,
}
"""How tar archives end, and what unpacks them."""


def is_archive(path: str) -> bool:
    """Whether a file is taken for an archive, by its name."""
    return path.lower().endswith((".zip", *OPENERS))


def open_archive(path: str) -> Zip | Tar:
    """The images of an archive. Raises SourceError if it is none."""
    return Zip(path) if path.lower().endswith(".zip") else Tar(path)


def _wanted(name: str) -> bool:
    hidden = any((part.startswith(".") and part not in (".", "..")) or part == "__MACOSX" for part in name.split("/"))
    return is_image_name(name) and not hidden


def _reference(name: str, fault: str, stamp: str, place: Any) -> Reference | Failure:
    key = member_key(name)
    if key is None:
        return Failure(name, "list", "the member's name leads outside the archive")
    return Failure(key, "list", fault) if fault else Reference(key, stem_of(key), stamp, place)


class Zip:
    """The images in a zip archive. The stamp is a member's CRC and size."""

    def __init__(self, path: str) -> None:
        self.path = path
        file = open_regular(path, "the archive")
        self._lock = threading.Lock()
        try:
            self._archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            file.close()
            raise SourceError(f"{path} is not a zip archive, or it is damaged: {error}") from error
        self._file = file

    def __iter__(self) -> Iterator[Reference | Failure]:
        for member in self._archive.infolist():
            if _wanted(member.filename):
                fault = "encrypted; unpack it first" if member.flag_bits & 1 else ""
                if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
                    fault = "a link or a device, not a file"
                yield _reference(member.filename, fault, f"{member.CRC:08x}-{member.file_size}", member)

    def read(self, place: Any, modality: str, max_pixels: int, on_size: OnSize) -> Pixels:
        """Unpack and decode one member."""
        check_bytes(place.file_size, max_pixels)
        try:
            with self._lock:
                content = self._archive.read(place)
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
            raise ImageError(f"the archive is damaged here: {error}") from error
        except (NotImplementedError, RuntimeError) as error:
            raise ImageError(f"cannot be unpacked: {error}") from error
        return READERS[modality](content, max_pixels, on_size)

    def close(self) -> None:
        """Release the archive."""
        self._archive.close()
        self._file.close()


class Tar:
    """The images in a tar archive. The stamp is a member's time, place and size."""

    def __init__(self, path: str) -> None:
        self.path = path
        file = open_regular(path, "the archive")
        opener = next(opener for suffix, opener in OPENERS.items() if path.lower().endswith(suffix))
        self._bytes = _unpacked(path, file, opener) if opener else Spooled(file)
        try:
            tarfile.open(fileobj=self._bytes.reader(), mode="r:").close()
        except (tarfile.TarError, ValueError) as error:
            self.close()
            raise SourceError(f"{path} is not a tar archive, or it is damaged: {error}") from error

    def __iter__(self) -> Iterator[Reference | Failure]:
        try:
            with tarfile.open(fileobj=self._bytes.reader(), mode="r:") as archive:
                while (member := archive.next()) is not None:
                    archive.members.clear()  # type: ignore[attr-defined]  # they would pile up
                    if _wanted(member.name) and not member.isdir():
                        plain = member.isreg() and not member.issparse()
                        fault = "" if plain else "a link, a device or a sparse file, not a plain file"
                        place = member.offset_data, member.size
                        yield _reference(
                            member.name, fault, f"{member.mtime}-{member.offset_data}-{member.size}", place
                        )
        except (tarfile.TarError, ValueError) as error:
            yield Failure(Path(self.path).name, "list", f"the archive is damaged or cut short: {error}")

    def read(self, place: Any, modality: str, max_pixels: int, on_size: OnSize) -> Pixels:
        """Decode one member."""
        offset, size = place
        check_bytes(size, max_pixels)
        content = self._bytes.read_at(offset, size)
        if len(content) < size:
            raise ImageError("the archive is cut short here")
        return READERS[modality](content, max_pixels, on_size)

    def close(self) -> None:
        """Release the archive."""
        self._bytes.close()


def _unpacked(path: str, file: BinaryIO, opener: Callable[[BinaryIO], Any]) -> Spooled:
    with file:
        try:
            return Spooled.copy(opener(file))
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
            raise SourceError(f"{path} cannot be unpacked: {error}; check that it is whole") from error
        except OSError as error:
            hint = "set TMPDIR to a folder with room, or unpack it yourself"
            raise SourceError(f"{path} cannot be unpacked: {error.strerror or error}; {hint}") from error
