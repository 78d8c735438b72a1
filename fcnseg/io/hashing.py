"""SHA-256 of files, computed once for each state of a file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

FileState = tuple[str, int, int, int, int]
"""Real path, size, modification and change times (ns) and inode: another one means another content."""

_digests: dict[FileState, str] = {}


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal, remembered by this process until the file changes.

    Raises OSError if the file cannot be read.
    """
    state = file_state(path)
    if state not in _digests:
        with path.open("rb") as file:
            _digests[state] = hashlib.file_digest(file, "sha256").hexdigest()
    return _digests[state]


def file_state(path: Path) -> FileState:
    """Return what tells one content of a file from another without reading it. Raises OSError."""
    status = path.stat()
    return os.path.realpath(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
