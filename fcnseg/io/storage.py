"""Storages: where the outputs of a run are placed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from fcnseg.errors import OutputError
from fcnseg.io.atomic import flush_folder, make_durable_folder, write_whole
from fcnseg.types import Output

Identity = tuple[int, int]
"""Device and inode: they tell a file or folder from another one of the same name."""


class LocalFolder:
    """A folder on this machine, made when first written to; once it is there, it must stay the same folder."""

    def __init__(self, root: str | Path) -> None:
        self.root = str(root)
        self._path = Path(root)
        self._identity = identity_of(self.root)
        self._unflushed: set[str] = set()
        self._lock = threading.Lock()

    def place(self, name: str, content: Iterable[bytes | memoryview]) -> Output:
        """Write a file whole, or not at all; folders are made as needed. It is durable after the next `flush`.

        Raises OSError, and OutputError if the folder was removed or replaced: files in a new one would be of no run.
        """
        self._check()
        try:
            output = write_whole(self._path / name, content, self._make)
        except FileNotFoundError:
            self._check()  # the folder may have gone meanwhile, which is no fault of this file
            raise
        with self._lock:
            self._unflushed.add(os.path.dirname(output.location))  # noqa: PTH120 - for every image: a Path costs more
        return output

    def flush(self) -> None:
        """Make durable what was placed until now. Raises OSError, and OutputError as `place` does."""
        with self._lock:
            folders, self._unflushed = self._unflushed, set()
        for folder in folders:
            try:
                flush_folder(folder)
            except FileNotFoundError:  # a folder inside was removed, and its files with it, as `finish` will see
                self._check()

    def _check(self) -> None:
        if self._identity is None:
            with self._lock:
                make_durable_folder(self._path)
                self._identity = self._identity or identity_of(self.root)
        elif identity_of(self.root) != self._identity:
            raise OutputError(f"{self.root} was removed or replaced while the run went on; run the same command again")

    def _make(self, folder: Path) -> None:
        """Make a folder inside the root, which itself is never made again."""
        self._check()
        missing = []
        while folder != self._path and not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for path in reversed(missing):
            with suppress(FileExistsError):  # another thread was faster; a file of that name is an error soon enough
                path.mkdir()
            with self._lock:
                self._unflushed.add(str(path.parent))


def identity_of(path: str | Path) -> Identity | None:
    """Return what tells a file or folder from another one of its name; None if there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - for every image: a Path costs more
    except OSError:
        return None
    return status.st_dev, status.st_ino
