"""SHA-256 of files, computed once for each state of a file."""

from __future__ import annotations

import hashlib
import os
from io import BufferedReader
from pathlib import Path

FileState = tuple[int, int, int, int, int]
"""Size, modification and change times (ns), inode and device: another one means another content."""

_digests: dict[FileState, str] = {}


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal, remembered by this process until the file changes.

    Raises OSError if the file cannot be read.
    """
    with path.open("rb") as file:
        return open_file_sha256(file)


def open_file_sha256(file: BufferedReader) -> str:
    """Return the SHA-256 of an open file as `file_sha256` does; its position is the start, before and after."""
    state = file_state(file.fileno())
    if state not in _digests:
        _digests[state] = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
    return _digests[state]


def file_state(file: Path | int) -> FileState:
    """Return what tells one content of a file (path or descriptor) from another without reading it. Raises OSError."""
    status = os.stat(file)  # noqa: PTH116 - of descriptors too
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev
