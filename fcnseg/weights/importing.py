"""From any weight file to our own: fitted, checked, and written whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import fcnseg
from fcnseg.errors import OutputError
from fcnseg.recipes import Recipe
from fcnseg.weights import safetensors_file
from fcnseg.weights.fit import fit
from fcnseg.weights.reading import read_weights, sha256_of


@dataclass(frozen=True)
class ImportReport:
    """What an import did: tensors and parameters written, what was initialised instead of read, dense layers."""

    source: Path
    format: str
    out: Path
    tensors: int
    parameters: int
    initialised: tuple[str, ...]
    dense: tuple[str, ...]
    convention: str


def import_weights(
    source: Path, recipe: Recipe, out: Path, *, transplant: bool = False, convention: str | None = None
) -> ImportReport:
    """Write the weights of `source` as `out` (safetensors) for the recipe's network; see `fit.fit`.

    Raises WeightsError, WeightsMismatchError or OutputError; then nothing is written.
    """
    file = read_weights(source)
    fitted = fit(file, recipe, transplant=transplant, convention=convention)
    metadata = {
        "recipe": recipe.name,
        "source": source.name,
        "source_sha256": sha256_of(source),
        "fcnseg": fcnseg.__version__,
        "initialised": " ".join(fitted.initialised),
        "convention": fitted.convention,
    }
    partial = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as target:
            safetensors_file.write(target, fitted.tensors, metadata)
            target.flush()
            os.fsync(target.fileno())
        os.replace(partial, out)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror}; check its permissions and space") from error
    finally:
        with suppress(OSError):
            partial.unlink()
    return ImportReport(
        source,
        file.format,
        out,
        len(fitted.tensors),
        sum(array.size for array in fitted.tensors.values()),
        fitted.initialised,
        tuple(sorted(fitted.dense)),
        fitted.convention,
    )
