"""Outputs of one shard as one tar object, by WebDataset's convention: members of one sample share a stem.

Source of the convention: the documentation of the webdataset library, "The WebDataset Format".
"""

from __future__ import annotations

import re
import tarfile
import tempfile
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from fcnseg.errors import ImageError
from fcnseg.io.atomic import new_digest
from fcnseg.io.buckets import Bucket
from fcnseg.types import Output

KEPT_BYTES = 64 << 20
"""So much waits in memory to be packed, more in a temporary file."""

PIECE_BYTES = 8 << 20


_KEY = re.compile(r"(?:.*/)?(\d{4})-\d{8}\.tar")


def tar_key(generation: int, number: int) -> str:
    """Return the key of the tar of a shard, by the generation of its plan and its number."""
    return f"{generation:04}-{number:08}.tar"


def generation_of(key: str) -> int | None:
    """Return the generation of a key as `tar_key` makes them: what is in a later one replaces what is in an earlier
    one. None for other keys."""
    return int(match[1]) if (match := _KEY.fullmatch(key)) else None


class TarFolder:
    """A `Storage` whose files become the members of one tar. A context manager: what was not `put` before is dropped.

    `root` is what the files count from, in a path or URL: that of the bucket if None.

    Members are in the order of their names and have no times: the same files always give the same bytes.
    """

    def __init__(self, bucket: Bucket, key: str, root: str | None = None) -> None:
        self.root, self.key = root or bucket.url, key
        self._bucket = bucket
        self._content = tempfile.SpooledTemporaryFile(KEPT_BYTES)  # noqa: SIM115 - leaving the block ends it
        self._members: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def place(self, name: str, content: Iterable[bytes | memoryview]) -> Output:
        """Add a member, or replace it. Raises ImageError for names that no tar can hold."""
        data = b"".join(content)
        _header(name, len(data))
        digest = new_digest()
        digest.update(data)
        with self._lock:
            offset = self._content.seek(0, 2)
            self._content.write(data)
            self._members[name] = offset, len(data)
        return Output(f"{self.root}/{name}", len(data), digest.hexdigest())

    def flush(self) -> None:
        """Do nothing: nothing is durable before the tar is put."""

    def put(self) -> None:
        """Put the tar into the bucket, whole or not at all. Raises StorageError."""
        self._bucket.put(self.key, self._packed())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._content.close()

    def _packed(self) -> Iterator[bytes]:
        """Yield the tar, in pieces of about PIECE_BYTES."""
        piece = bytearray()
        for name, (offset, size) in sorted(self._members.items()):
            piece += _header(name, size)
            self._content.seek(offset)
            piece += self._content.read(size)
            piece += bytes(-size % tarfile.BLOCKSIZE)
            if len(piece) >= PIECE_BYTES:
                yield bytes(piece)
                piece.clear()
        yield bytes(piece + bytes(2 * tarfile.BLOCKSIZE))


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    try:
        return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    except (ValueError, UnicodeError) as error:
        raise ImageError(f"the name {name!r} cannot be in a tar: {error}", "write") from error
