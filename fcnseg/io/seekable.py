"""Files read at any offset by several threads at once; what can only be read in order is copied to one first."""

from __future__ import annotations

import io
import math
import os
import tempfile
from pathlib import Path
from typing import BinaryIO, Protocol

from fcnseg.errors import SourceError

PIECE_BYTES = 1 << 20
"""How much is copied at once."""

SPARE_BYTES = 64 << 20
"""The room that a copy leaves to others on its file system."""


class TooLongError(Exception):
    """A stream is longer than it may be, or than there is room for."""


class RandomAccess(Protocol):
    """Bytes read at any offset by several threads at once: a file's, or an object's in storage."""

    size: int

    def read_at(self, offset: int, size: int) -> bytes:
        """Read up to `size` bytes from `offset`; none where there can be none."""

    def close(self) -> None:
        """Release the file."""


class Seekable:
    """An open file whose readers do not disturb one another."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = os.fstat(file.fileno()).st_size

    @classmethod
    def copy(cls, stream: BinaryIO, limit_bytes: float = math.inf) -> Seekable:
        """Copy the rest of a stream to a temporary file, which is gone when it is closed.

        Raises TooLongError beyond the limit, and before the file system is full.
        """
        file = tempfile.TemporaryFile()  # noqa: SIM115 - `close` ends it
        size = 0
        try:
            while piece := stream.read(PIECE_BYTES):
                size += len(piece)
                if size > limit_bytes:
                    raise TooLongError(f"it unpacks to more than {limit_bytes} bytes")
                if hasattr(os, "fstatvfs") and _free_bytes(file.fileno()) < len(piece) + SPARE_BYTES:
                    raise TooLongError(f"there is no room for it in {tempfile.gettempdir()}")
                file.write(piece)
            file.flush()
        except BaseException:
            file.close()
            raise
        return cls(file)

    def read_at(self, offset: int, size: int) -> bytes:
        """Read up to `size` bytes from `offset`; none where there can be none."""
        size = min(size, self.size - offset)
        return os.pread(self._file.fileno(), size, offset) if size > 0 and offset >= 0 else b""

    def close(self) -> None:
        """Release the file."""
        self._file.close()


def reader_of(content: RandomAccess) -> io.BufferedReader:
    """Return a file object with a position of its own."""
    return io.BufferedReader(_Reader(content), 1 << 16)


class _Reader(io.RawIOBase):
    def __init__(self, file: RandomAccess) -> None:
        self._file, self._position = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._file.read_at(self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = (0, self._position, self._file.size)[whence]
        self._position = max(0, start + offset)
        return self._position


def _free_bytes(descriptor: int) -> int:
    """Return the free bytes of a file's file system."""
    status = os.fstatvfs(descriptor)
    return status.f_bavail * status.f_frsize


def open_regular(path: str, what: str) -> BinaryIO:
    """Open a regular file for reading. Raises SourceError for anything else, which could block for ever."""
    try:
        if not Path(path).is_file():
            Path(path).stat()
            raise SourceError(f"{what} {path} is not a regular file; give the path of a file")
        return Path(path).open("rb")
    except OSError as error:
        raise SourceError(f"{what} {path} cannot be read: {error.strerror}; check the path") from error
