"""Whether what a run will write has room: before it starts, from the sizes of a few of its inputs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fcnseg.running.sinks import FileSink
from fcnseg.types import Reference

SAMPLE = 16
"""How many inputs are looked at, or up to twice as many."""


@dataclass
class Sample:
    """A few of the inputs that `add` is called with, evenly spaced, however many they are."""

    references: list[Reference] = field(default_factory=list)
    _seen: int = 0
    _step: int = 1

    def add(self, reference: Reference) -> None:
        """Hear of one more input."""
        if self._seen % self._step == 0:
            self.references.append(reference)
            if len(self.references) == 2 * SAMPLE:
                del self.references[1::2]
                self._step *= 2
        self._seen += 1


def room(target: Path) -> tuple[int, int]:
    """The file system where a file or folder is, or would be made: its number and the free bytes."""
    there = next(path for path in (target, *target.absolute().parents) if path.exists())
    return there.stat().st_dev, shutil.disk_usage(there).free


@dataclass(frozen=True)
class Shortage:
    """`images` images will take `likely_bytes` or more in `folders`, which are on one file system that has only
    `free_bytes`; if all are as small as the smallest that was looked at, `least_bytes`."""

    folders: tuple[Path, ...]
    images: int
    least_bytes: int
    likely_bytes: int
    free_bytes: int

    @property
    def sure(self) -> bool:
        """Whether even the least is too much."""
        return self.least_bytes > self.free_bytes

    def __str__(self) -> str:
        size = f"at least {bytes_text(self.least_bytes)}" if self.sure else f"about {bytes_text(self.likely_bytes)}"
        where = " and ".join(map(str, self.folders))
        return f"{self.images:,} images will take {size} in {where}, where {bytes_text(self.free_bytes)} are free"


def shortages(sinks: Sequence[FileSink], sizes: Sequence[tuple[int, int]], images: int) -> list[Shortage]:
    """The file systems on which so many images, of which `sizes` are the heights and widths of some, have no room."""
    by_device: dict[int, list[FileSink]] = {}
    free = {}
    for sink in sinks:
        device, free_bytes = room(sink.folder)
        free[device] = free_bytes
        by_device.setdefault(device, []).append(sink)
    found = []
    for device, some in by_device.items():
        each = [sum(sink.least_bytes(*size) for sink in some) for size in sizes]
        likely = images * sum(each) // len(each)
        if likely > free[device]:
            folders = tuple(sink.folder for sink in some)
            found.append(Shortage(folders, images, images * min(each), likely, free[device]))
    return found


def bytes_text(size: float) -> str:
    """In units of which there are fewer than a thousand: 512 B, 3.2 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB" if size < 999.5 else f"{size:,.0f} TB"
