"""What is inside a weight file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fcnseg.weights.fit import fitting_recipes
from fcnseg.weights.reading import read_weights, sha256_of


@dataclass(frozen=True)
class TensorSummary:
    """One tensor: its shape, number type, and the range and mean of its numbers."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    least: float
    most: float
    mean: float


@dataclass(frozen=True)
class FileSummary:
    """A weight file: its format, hash, metadata and tensors, and the shipped recipes whose network it fills."""

    path: str
    format: str
    sha256: str
    metadata: Mapping[str, str]
    parameters: int
    fits: tuple[str, ...]
    tensors: tuple[TensorSummary, ...]


def inspect_weights(path: Path) -> FileSummary:
    """Read a weight file of any known format and sum it up. Raises WeightsError for an unreadable one."""
    file = read_weights(path)
    rows = tuple(
        TensorSummary(
            name,
            tuple(array.shape),
            str(array.dtype),
            float(array.min()) if array.size else float("nan"),
            float(array.max()) if array.size else float("nan"),
            float(array.mean(dtype="f8")) if array.size else float("nan"),
        )
        for name, array in file.tensors.items()
    )
    parameters = sum(array.size for array in file.tensors.values())
    fits = tuple(recipe.name for recipe in fitting_recipes(file))
    return FileSummary(str(path), file.format, sha256_of(path), file.metadata, parameters, fits, rows)
