"""Files read at any offset by several threads at once; what can only be read in order is copied to one first."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO

from fcnseg.errors import SourceError


class Seekable:
    """An open file whose readers do not disturb one another. ClosesOnExit it ends them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = os.fstat(file.fileno()).st_size

    @classmethod
    def copy(cls, stream: BinaryIO) -> Seekable:
        """Copy the rest of a stream to a temporary file, which is gone when it is closed."""
        file = tempfile.TemporaryFile()  # noqa: SIM115 - `close` ends it
        try:
            shutil.copyfileobj(stream, file, 1 << 20)
            file.flush()
        except BaseException:
            file.close()
            raise
        return cls(file)

    def read_at(self, offset: int, size: int) -> bytes:
        """Read up to `size` bytes from `offset`."""
        return os.pread(self._file.fileno(), size, offset)

    def reader(self) -> io.BufferedReader:
        """Return a file object with a position of its own."""
        return io.BufferedReader(_Reader(self), 1 << 16)

    def close(self) -> None:
        """Release the file."""
        self._file.close()


class _Reader(io.RawIOBase):
    def __init__(self, file: Seekable) -> None:
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


def open_regular(path: str, what: str) -> BinaryIO:
    """Open a regular file for reading. Raises SourceError for anything else, which could block for ever."""
    try:
        if not Path(path).is_file():
            Path(path).stat()
            raise SourceError(f"{what} {path} is not a regular file; give the path of a file")
        return Path(path).open("rb")
    except OSError as error:
        raise SourceError(f"{what} {path} cannot be read: {error.strerror}; check the path") from error
