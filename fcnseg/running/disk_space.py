"""Room on disk for the outputs of a run, estimated before it starts from the sizes of a few of its inputs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fcnseg.labels import LabelSpace
from fcnseg.running.outputs import OutputPlace
from fcnseg.running.tables import TablePlace
from fcnseg.types import Reference

SAMPLE = 16
"""The number of inputs that are looked at, or up to twice as many."""


@dataclass
class EvenSample:
    """A few of the inputs that `add` is called with, evenly spaced, however many they are."""

    references: list[Reference] = field(default_factory=list)
    _seen: int = 0
    _step: int = 1

    def add(self, reference: Reference) -> None:
        """Take or leave one more input."""
        if self._seen % self._step == 0:
            self.references.append(reference)
            if len(self.references) == 2 * SAMPLE:
                del self.references[1::2]
                self._step *= 2
        self._seen += 1


def least_bytes(place: OutputPlace | TablePlace, heads: Mapping[str, LabelSpace], size: tuple[int, int]) -> int:
    """Return the fewest bytes that the files of one image of that height and width can have."""
    height, width = size
    return place.least_bytes(heads, height * width)


def free_space(target: Path) -> tuple[int, int]:
    """Return the file system where a file or folder is, or would be made: its number and the free bytes."""
    existing = next(path for path in (target, *target.absolute().parents) if path.exists())
    return existing.stat().st_dev, shutil.disk_usage(existing).free


@dataclass(frozen=True)
class Shortage:
    """A file system with too little room: `images` images will take `likely_bytes` or more in `folders`.

    If all are as small as the smallest that was looked at, they take `least_bytes`; `free_bytes` are free.
    """

    folders: tuple[Path, ...]
    images: int
    least_bytes: int
    likely_bytes: int
    free_bytes: int

    @property
    def sure(self) -> bool:
        """Tell whether even the least is too much."""
        return self.least_bytes > self.free_bytes

    def __str__(self) -> str:
        size = f"at least {bytes_text(self.least_bytes)}" if self.sure else f"about {bytes_text(self.likely_bytes)}"
        where = " and ".join(map(str, self.folders))
        return f"{self.images:,} images will take {size} in {where}, where {bytes_text(self.free_bytes)} are free"


def shortages(
    places: Sequence[OutputPlace | TablePlace],
    heads: Mapping[str, LabelSpace],
    sizes: Sequence[tuple[int, int]],
    images: int,
) -> list[Shortage]:
    """Return the file systems without room for so many images; `sizes` are the heights and widths of some of them."""
    by_device: dict[int, list[OutputPlace | TablePlace]] = {}
    free = {}
    for place in places:
        device, free_bytes = free_space(place.folder)
        free[device] = free_bytes
        by_device.setdefault(device, []).append(place)
    short = []
    for device, sharing in by_device.items():
        image_bytes = [sum(least_bytes(place, heads, size) for place in sharing) for size in sizes]
        likely = images * sum(image_bytes) // len(image_bytes)
        if likely > free[device]:
            folders = tuple(place.folder for place in sharing)
            short.append(Shortage(folders, images, images * min(image_bytes), likely, free[device]))
    return short


def bytes_text(size: float) -> str:
    """Return a size in units of which there are fewer than a thousand: 512 B, 3.2 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB" if size < 999.5 else f"{size:,.0f} TB"
