"""Convert any weight file to our own: fitted, checked, and written whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import fcnseg
from fcnseg.errors import OutputError, SettingsError, WeightsError
from fcnseg.io.atomic import whole_file
from fcnseg.io.hashing import file_sha256
from fcnseg.recipes import Recipe
from fcnseg.weights import safetensors_file
from fcnseg.weights.fit import Fitted, fit
from fcnseg.weights.lookalikes import doubts
from fcnseg.weights.reading import detect, read_weights
from fcnseg.weights.shipped import shipped_recipes
from fcnseg.weights.tensors import TensorFile


@dataclass(frozen=True)
class ImportReport:
    """The result of an import: tensors and parameters written, tensors initialised instead of read, dense layers."""

    source: Path
    format: str
    out: Path
    tensors: int
    parameters: int
    initialised: tuple[str, ...]
    dense: tuple[str, ...]
    convention: str
    sha256: str
    """Of the source, in hexadecimal."""
    notes: tuple[str, ...] = ()
    """Lines for the user."""


def import_weights(
    source: Path,
    recipe: Recipe,
    out: Path,
    *,
    transplant: bool = False,
    convention: str | None = None,
    key: str | None = None,
) -> ImportReport:
    """Write the weights of `source` as `out` (safetensors) for the recipe's network; see `fit.fit`.

    `key` chooses one of several state dicts of a PyTorch checkpoint.

    Raises WeightsError, WeightsMismatchError, SettingsError or OutputError; then nothing is written.
    """
    _check_target(source, out)
    file = read_weights(source, key)
    fitted = fit(file, recipe, transplant=transplant, convention=convention)
    metadata = {
        "recipe": recipe.name,
        "source": source.name,
        "source_sha256": file_sha256(source),
        "fcnseg": fcnseg.__version__,
        "initialised": " ".join(fitted.initialised),
        "convention": fitted.convention,
    }
    try:
        with whole_file(out) as target:
            safetensors_file.write(target, fitted.tensors, metadata, file.forget)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror or error}; check its permissions and space") from error
    return ImportReport(
        source,
        file.format,
        out,
        len(fitted.tensors),
        sum(array.size for array in fitted.tensors.values()),
        fitted.initialised,
        tuple(sorted(fitted.dense)),
        fitted.convention,
        metadata["source_sha256"],
        tuple(_notes(file, recipe, fitted)),
    )


def _check_target(source: Path, out: Path) -> None:
    """Refuse to replace the source, or a file in another format than ours."""
    if not out.exists():
        return
    if source.exists() and out.samefile(source):
        raise SettingsError(f"{out} would replace the file it is made from; give another --out")
    try:
        ours = detect(out) == "safetensors"
    except WeightsError:
        ours = False
    if not ours:
        raise SettingsError(f"{out} exists and is no safetensors file; give another --out")


def _notes(file: TensorFile, recipe: Recipe, fitted: Fitted) -> list[str]:
    notes, source = list(fitted.notes), file.path
    if fitted.training_start:
        notes.append(f"a start for training: {', '.join(fitted.initialised)} are initialised, not read")
    elif fitted.initialised:
        notes.append(f"{', '.join(fitted.initialised)} are not in the file and were taken from the recipe")
    if fitted.dense:
        notes.append(f"deconvolutions that mix classes, run dense: {', '.join(sorted(fitted.dense))}")
    if fitted.convention == "torchvision":
        notes.append(
            "taken as torchvision's (RGB, normalised): folded into its first layer; --convention caffe says otherwise"
        )
    others = [other.name for other in shipped_recipes() if source.name in {s.file for s in other.weights}]
    if others and recipe.name not in others:
        notes.append(f"{source.name} is the name of weights of {', '.join(others)}, not of {recipe.name}")
    if fitted.evidence is None and not fitted.training_start:
        notes += doubts(file, recipe)
    return notes
