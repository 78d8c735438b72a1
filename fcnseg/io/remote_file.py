"""Objects in storage read at any offset, in blocks that are kept for a while: what lies beside is wanted next."""

from __future__ import annotations

import threading
from collections import OrderedDict

from fcnseg.io.buckets import Bucket

BLOCK_BYTES = 1 << 20
"""How much one request reads: a transfer of that size takes about as long as the answer's way."""

BLOCKS_KEPT = 32


class _Block:
    """A block, read by the first that needs it while the others wait."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.content: bytes | None = None


class RemoteFile:
    """An object as `RandomAccess`. Raises StorageError, and NoObjectError if there is none."""

    def __init__(self, bucket: Bucket, key: str, size: int | None = None) -> None:
        self._bucket, self._key = bucket, key
        self.size = bucket.head(key).size if size is None else size
        self._blocks: OrderedDict[int, _Block] = OrderedDict()
        self._lock = threading.Lock()

    def read_at(self, offset: int, size: int) -> bytes:
        """Read up to `size` bytes from `offset`; none where there can be none."""
        size = min(size, self.size - offset)
        if size <= 0 or offset < 0:
            return b""
        if size >= BLOCK_BYTES:
            return self._bucket.get_range(self._key, offset, size)
        first, last = offset // BLOCK_BYTES, (offset + size - 1) // BLOCK_BYTES
        content = b"".join(map(self._block, range(first, last + 1)))
        start = offset - first * BLOCK_BYTES
        return content[start : start + size]

    def _block(self, number: int) -> bytes:
        with self._lock:
            block = self._blocks.setdefault(number, _Block())
            self._blocks.move_to_end(number)
            if len(self._blocks) > BLOCKS_KEPT:
                self._blocks.popitem(last=False)
        with block.lock:
            if block.content is None:
                start = number * BLOCK_BYTES
                block.content = self._bucket.get_range(self._key, start, min(BLOCK_BYTES, self.size - start))
            return block.content

    def close(self) -> None:
        """Release the blocks."""
        with self._lock:
            self._blocks.clear()
