"""Storages: where the outputs of a run are placed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fcnseg.io.atomic import write_whole
from fcnseg.types import Output


class LocalFolder:
    """A folder on this machine, made when first written to."""

    def __init__(self, root: str | Path) -> None:
        self.root = str(root)

    def place(self, name: str, content: Iterable[bytes | memoryview]) -> Output:
        """Write a file whole, or not at all; folders are made as needed. Raises OSError."""
        return write_whole(Path(self.root, name), content)
