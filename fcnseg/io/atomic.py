"""Writing files so that they appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import BinaryIO

from fcnseg.types import Output

PART = ".fcnseg-part-"
"""The start of the names of unfinished files."""

PROCESS = secrets.token_hex(8)
"""The name of this process in those of its unfinished files."""

_numbers = count()


@contextmanager
def whole_path(path: Path) -> Iterator[Path]:
    """Give a temporary name for a file that becomes `path` when the block ends well. The folder must exist."""
    partial = path.with_name(f"{PART}{PROCESS}-{os.getpid()}-{next(_numbers)}")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, as needed."""
    folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def whole_file(path: Path, make: Callable[[Path], None] = make_folder) -> Iterator[BinaryIO]:
    """Open a binary file that appears under `path` only when the block ends well; `make` makes a missing folder.

    Its bytes are durable before it has its name; the name is durable after `flush_folder`.
    """
    with whole_path(path) as partial:
        try:
            file = open(partial, "wb")  # noqa: PTH123, SIM115 - written for every image: a Path's open costs more
        except FileNotFoundError:
            make(path.parent)
            file = partial.open("wb")
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())


def write_whole(path: Path, chunks: Iterable[bytes | memoryview], make: Callable[[Path], None] = make_folder) -> Output:
    """Write a file of these bytes, whole or not at all; return its size and checksum."""
    digest, size = new_digest(), 0
    with whole_file(path, make) as file:
        for chunk in chunks:
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk) if isinstance(chunk, bytes) else chunk.nbytes
    return Output(str(path), size, digest.hexdigest())


def flush_folder(folder: str | Path) -> None:
    """Make the names in a folder durable: what was made, renamed or removed there outlives a power cut.

    Raises OSError, except on file systems that cannot flush a folder, and for one that may not be read.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES):
            raise
    finally:
        os.close(descriptor)


def make_durable_folder(folder: Path) -> None:
    """Make a folder and those above it, as needed, so that they outlive a power cut. Raises OSError."""
    folder = folder.absolute()
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in (folder, *missing[1:]):  # also one that is there: its maker may have died before it was flushed
        flush_folder(path.parent)


def checksum(path: Path) -> str:
    """Return the checksum of a file, as `write_whole` does."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, new_digest).hexdigest()


def new_digest() -> hashlib.blake2b:
    """Return a new BLAKE2b-128, the checksum of outputs."""
    return hashlib.blake2b(digest_size=16)
