"""Summarise the content of a weight file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fcnseg.io.hashing import file_sha256
from fcnseg.weights.lookalikes import told_by
from fcnseg.weights.matching import match
from fcnseg.weights.mismatch import fitting_recipes
from fcnseg.weights.reading import read_weights
from fcnseg.weights.tensors import Array, TensorFile, float32_chunks


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

    `fits` names the shipped recipes whose network it fills, `starts` those whose training it starts (`--transplant`),
    `notes` says how the file was read and what its names are taken for.
    """

    path: str
    format: str
    sha256: str
    metadata: Mapping[str, str]
    parameters: int
    fits: tuple[str, ...]
    starts: tuple[str, ...]
    notes: tuple[str, ...]
    tensors: tuple[TensorSummary, ...]


def inspect_weights(path: Path, key: str | None = None) -> FileSummary:
    """Read a weight file of any known format and summarise it; `key` chooses one of several state dicts.

    Raises WeightsError for an unreadable one, SettingsError for a key that it does not have.
    """
    file = read_weights(path, key)
    return FileSummary(
        path=str(path),
        format=file.format,
        sha256=file_sha256(path),
        metadata=file.metadata,
        parameters=sum(array.size for array in file.tensors.values()),
        fits=tuple(recipe.name for recipe in fitting_recipes(file)),
        starts=tuple(recipe.name for recipe in fitting_recipes(file, transplant=True)),
        notes=_notes(file),
        tensors=tuple(_summary(name, array) for name, array in file.tensors.items()),
    )


def _notes(file: TensorFile) -> tuple[str, ...]:
    """Return how the file was read, and for the first model that it fits, how its names are taken."""
    fits = [*fitting_recipes(file), *fitting_recipes(file, transplant=True)]
    changes = match(file, fits[0]).notes if fits else ()
    evidence = told_by(file)
    return (*file.notes, *changes, *([evidence.words] if evidence else ()))


def _summary(name: str, array: Array) -> TensorSummary:
    least, most, total = np.inf, -np.inf, 0.0
    for chunk in float32_chunks(array):
        least, most = np.minimum(least, chunk.min()), np.maximum(most, chunk.max())
        total += float(chunk.sum(dtype=np.float64))
    figures = (float(least), float(most), total / array.size if array.size else np.nan)
    known = figures if np.isfinite(figures).all() else (None, None, None)
    return TensorSummary(name, tuple(array.shape), str(array.dtype), *known)
