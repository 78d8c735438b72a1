"""The tensors of a weight file, whatever its format."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

CHUNK = 1 << 20
"""Numbers converted at a time."""


@dataclass(frozen=True)
class TensorFile:
    """The tensors of a file by name (`LAYER.weight`, `LAYER.bias`), as views of the file where the format allows.

    `forget` releases the memory of the pages of a mapped file that were read so far; they are read again when needed.
    Call it only if nothing was written into the arrays. `notes` are lines for the user about what was read.
    """

    path: Path
    format: str
    tensors: Mapping[str, Array]
    metadata: Mapping[str, str] = field(default_factory=dict)
    forget: Callable[[], None] = lambda: None
    notes: tuple[str, ...] = ()


def float32_chunks(array: Array) -> Iterator[NDArray[np.float32]]:
    """Yield an array's numbers in C order as 1-D little-endian float32, at most CHUNK at a time; out of range: inf."""
    flat = array.reshape(-1)
    for start in range(0, flat.size, CHUNK):
        with np.errstate(over="ignore", invalid="ignore"):
            yield flat[start : start + CHUNK].astype("<f4")


def shape_text(shape: tuple[int, ...]) -> str:
    """Format a shape: "21 x 512 x 1 x 1"."""
    return " x ".join(map(str, shape)) or "a single number"


def printable(text: str, limit: int = 80) -> str:
    """Make a name from a file fit for one line of a message: control characters escaped, shortened."""
    clean = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: limit + 1])
    return clean if len(clean) <= limit else clean[: limit - 3] + "..."


def quoted(name: str) -> str:
    """Return a name from a file for a message: in quotes if one could not see where it ends."""
    clean = printable(name)
    return clean if clean and not set(clean) & set(" ,;:'\"()") else repr(clean)


def blob_name(layer: str, index: int) -> str:
    """Return the name of a layer's blob: in Caffe, blob 0 is the weight and blob 1 the bias."""
    return f"{layer}.{('weight', 'bias')[index]}" if index < 2 else f"{layer}.blob{index}"


def forget_pages(mapping: mmap.mmap) -> None:
    """Release the pages of a mapped file that were read so far, where the system allows."""
    if hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)
