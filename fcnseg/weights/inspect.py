"""Summarise the content of a weight file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fcnseg.io.hashing import file_sha256
from fcnseg.weights.mismatch import fitting_recipes
from fcnseg.weights.reading import read_weights
from fcnseg.weights.tensors import Array, float32_chunks


@dataclass(frozen=True)
class TensorSummary:
    """One tensor: its shape, number type, and the range and mean of its numbers as float32.

    The figures are None for a tensor without numbers, or if one is not finite.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    least: float | None
    most: float | None
    mean: float | None


@dataclass(frozen=True)
class FileSummary:
    """A weight file: format, hash, metadata and tensors.

    `fits` names the shipped recipes whose network it fills, `starts` those whose training it starts (`--transplant`).
    """

    path: str
    format: str
    sha256: str
    metadata: Mapping[str, str]
    parameters: int
    fits: tuple[str, ...]
    starts: tuple[str, ...]
    tensors: tuple[TensorSummary, ...]


def inspect_weights(path: Path) -> FileSummary:
    """Read a weight file of any known format and summarise it. Raises WeightsError for an unreadable one."""
    file = read_weights(path)
    return FileSummary(
        path=str(path),
        format=file.format,
        sha256=file_sha256(path),
        metadata=file.metadata,
        parameters=sum(array.size for array in file.tensors.values()),
        fits=tuple(fitting_recipes(file)),
        starts=tuple(fitting_recipes(file, transplant=True)),
        tensors=tuple(_summary(name, array) for name, array in file.tensors.items()),
    )


def _summary(name: str, array: Array) -> TensorSummary:
    least, most, total = np.inf, -np.inf, 0.0
    for chunk in float32_chunks(array):
        least, most = np.minimum(least, chunk.min()), np.maximum(most, chunk.max())
        total += float(chunk.sum(dtype=np.float64))
    figures = (float(least), float(most), total / array.size if array.size else np.nan)
    known = figures if np.isfinite(figures).all() else (None, None, None)
    return TensorSummary(name, tuple(array.shape), str(array.dtype), *known)
