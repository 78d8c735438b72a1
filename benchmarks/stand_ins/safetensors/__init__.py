"""The header of safetensors files: see the format's description, and `fcnseg.weights.safetensors_file`."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class SafetensorError(Exception):
    """A file that is none."""


class safe_open:  # noqa: N801 - the library's own name
    """A file's header; its numbers are read by fcnseg."""

    def __init__(self, path: Path, framework: str) -> None:
        self.path, self.framework = path, framework

    def __enter__(self) -> Self:
        with self.path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = file.read(length)
        try:
            self._header: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise SafetensorError(f"its header is damaged: {error}") from error
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        pass

    def keys(self) -> list[str]:
        """List the tensors, in the order of their numbers."""
        names = set(self._header) - {"__metadata__"}
        return sorted(names, key=lambda name: self._header[name]["data_offsets"])

    def metadata(self) -> dict[str, str] | None:
        """Return what is noted beside them."""
        return self._header.get("__metadata__")
