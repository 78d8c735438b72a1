"""Outputs of one shard as one tar object, by WebDataset's convention: members of one sample share a stem.

Source of the convention: the documentation of the webdataset library, "The WebDataset Format".
"""

from __future__ import annotations

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


class TarFolder:
    """A `Storage` whose files become the members of one tar, which is put into the bucket on leaving: whole, or not at
    all if an exception left the block.

    Members are in the order of their names and have no times: the same files always give the same bytes.
    """

    def __init__(self, bucket: Bucket, key: str) -> None:
        self.root, self.key = bucket.url, key
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
        return Output(self._bucket.url_of(name), len(data), digest.hexdigest())

    def flush(self) -> None:
        """Do nothing: nothing is durable before the tar is put."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._content:
            if error is None and self._members:
                self._bucket.put(self.key, self._packed())

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
