"""Fit a file's tensors to a recipe's network: every tensor is accounted for, or nothing is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fcnseg.errors import WeightsError
from fcnseg.models import network_spec
from fcnseg.models.layers import deconvolution_names
from fcnseg.recipes import Recipe
from fcnseg.weights import torchvision_fcn
from fcnseg.weights.lookalikes import Evidence, refuse_lookalike, told_by
from fcnseg.weights.matching import match
from fcnseg.weights.mismatch import mismatch
from fcnseg.weights.tensors import Array, TensorFile, float32_chunks, printable
from fcnseg.weights.torchvision_vgg import (
    check_convention,
    convention_of,
    folded,
    refuse_other_networks,
)


@dataclass(frozen=True)
class Fitted:
    """A network's whole state dict, in the file's number types.

    `initialised` names tensors that the file lacks and that were set as in a new network, `dense` the deconvolutions
    that mix classes, `convention` the input that the weights expect, `evidence` what tells which network they are of.
    `notes` are lines for the user about how the file was read.
    """

    tensors: Mapping[str, Array]
    initialised: tuple[str, ...]
    dense: frozenset[str]
    convention: str
    notes: tuple[str, ...] = ()
    evidence: Evidence | None = None

    @property
    def training_start(self) -> bool:
        """True if score layers are untrained: no model yet."""
        return any(name.startswith("score_") for name in self.initialised)


def fit(file: TensorFile, recipe: Recipe, *, transplant: bool = False, convention: str | None = None) -> Fitted:
    """Return the tensors of `file` as the state dict of the recipe's network.

    `transplant` makes a start for training of an ImageNet classifier: its last layer is dropped, score layers are
    zero and deconvolutions bilinear. `convention` is the input that the weights expect; None: as their names tell.
    Raises WeightsMismatchError, which lists every tensor that is missing, left over or misshapen, or names the network
    that the file says it is of; SettingsError for an impossible convention; WeightsError for numbers that are not
    finite.
    """
    check_convention(convention)
    matched = match(file, recipe, transplant=transplant)
    refuse_other_networks(file.path, matched.source)
    if matched.faults:
        raise mismatch(file, recipe, matched, transplant)
    evidence = told_by(file)
    refuse_lookalike(file, evidence, recipe, matched)
    for name, array in matched.tensors.items():
        _check_finite(file, name, array)
        file.forget()
    tensors = {name: separated(array, name) for name, array in matched.tensors.items()}
    if torchvision_fcn.is_fcn(matched.source):
        normalised = torchvision_fcn.folded(matched.source)
        tensors = {name: normalised[name] for name in tensors}
    convention = convention or convention_of(file.path, matched.source)
    if convention == "torchvision":
        first = next(iter(tensors)).rpartition(".")[0]
        weight, bias = f"{first}.weight", f"{first}.bias"
        tensors[weight], tensors[bias] = folded(tensors[weight], tensors[bias], recipe)
    names = deconvolution_names(network_spec(recipe))
    dense = frozenset(name for name in names if tensors[f"{name}.weight"].shape[1] > 1)
    notes = (*file.notes, *matched.notes)
    return Fitted(tensors, matched.initialised, dense, convention, notes, evidence)


def separated(array: Array, name: str) -> Array:
    """Return a deconvolution whose kernels mix no classes as K x 1 x k x k, any other tensor unchanged."""
    if not name.startswith("upscore") or array.shape[1] == 1:
        return array
    classes = np.arange(array.shape[0])
    diagonal = array[classes, classes][:, None]
    return diagonal if np.count_nonzero(diagonal) == np.count_nonzero(array) else array


def _check_finite(file: TensorFile, name: str, array: Array) -> None:
    if array.dtype.kind not in "fiub":
        raise WeightsError(f"{file.path}: {printable(name)} is of type {array.dtype}; save it as float32")
    if not all(np.isfinite(chunk).all() for chunk in float32_chunks(array)):
        problem = "holds NaN, infinity or numbers beyond float32"
        raise WeightsError(f"{file.path}: {printable(name)} {problem}; fetch the file again")
