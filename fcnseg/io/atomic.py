"""Writing files so that they appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
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


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that appears under `path` only when the block ends well; folders are made as needed."""
    with whole_path(path) as partial:
        try:
            file = open(partial, "wb")  # noqa: PTH123, SIM115 - written for every image: a Path's open costs more
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = partial.open("wb")
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())


def write_whole(path: Path, chunks: Iterable[bytes | memoryview]) -> Output:
    """Write a file of these bytes, whole or not at all; return its size and checksum."""
    digest, size = new_digest(), 0
    with whole_file(path) as file:
        for chunk in chunks:
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk) if isinstance(chunk, bytes) else chunk.nbytes
    return Output(str(path), size, digest.hexdigest())


def checksum(path: Path) -> str:
    """Return the checksum of a file, as `write_whole` does."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, new_digest).hexdigest()


def new_digest() -> hashlib.blake2b:
    """Return a new BLAKE2b-128, the checksum of outputs."""
    return hashlib.blake2b(digest_size=16)
