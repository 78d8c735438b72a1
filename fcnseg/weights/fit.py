"""Fitting a file's tensors to a recipe's network: every tensor is accounted for, or nothing is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from math import prod

import numpy as np
import torch

from fcnseg.errors import WeightsError, WeightsMismatchError
from fcnseg.models import FCN, network_spec
from fcnseg.models.fcn import bilinear_kernel, deconvolution_names
from fcnseg.recipes import Recipe, find_recipe, recipe_names
from fcnseg.weights.tensors import Array, TensorFile
from fcnseg.weights.torchvision_vgg import renamed

CLASSIFIER_LAYERS = ("fc8.", "loss1/", "loss2/", "loss3/")
"""Layers of the ImageNet classifiers that an FCN does without."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Fitted:
    """A network's whole state dict, float32; what of it the file did not hold; which deconvolutions are dense."""

    tensors: Mapping[str, Array]
    initialised: tuple[str, ...]
    dense: frozenset[str]
    convention: str


def expected_shapes(recipe: Recipe) -> dict[str, Shape]:
    """The tensors of the recipe's network and their shapes, deconvolutions one kernel a class."""
    with torch.device("meta"):
        return {name: tuple(t.shape) for name, t in FCN(network_spec(recipe)).state_dict().items()}


def fit(file: TensorFile, recipe: Recipe, *, transplant: bool = False, convention: str | None = None) -> Fitted:
    """The tensors of `file` as the state dict of the recipe's network.

    `transplant` makes a start for training of an ImageNet classifier: its last layer is dropped, score layers are
    zero and deconvolutions bilinear. `convention` says what input weights under torchvision's names expect. Raises
    WeightsMismatchError that lists every tensor that is missing, left over or misshapen, WeightsError for numbers
    that are not finite.
    """
    found, taken = renamed(file, recipe, convention)
    if transplant:
        found = {k: v for k, v in found.items() if not k.startswith(CLASSIFIER_LAYERS)}
    expected = expected_shapes(recipe)
    deconvolutions = {f"{name}.weight" for name in deconvolution_names(network_spec(recipe))}
    fitted, initialised, faults = {}, [], []
    for name, shape in expected.items():
        array = found.get(name)
        if array is None:
            array = _start(name, shape, recipe, transplant)
            if array is None:
                faults.append(f"missing: {name}, {_shown(shape)}")
            elif not name.startswith("scale_"):
                initialised.append(name)
        else:
            array = _reshaped(array, shape, name in deconvolutions)
            if array is None:
                faults.append(f"misshapen: {name} is {_shown(found[name].shape)}, expected {_shown(shape)}")
        if array is not None:
            fitted[name] = array
    faults += [f"left over: {name}, {_shown(a.shape)}" for name, a in found.items() if name not in expected]
    if faults:
        raise WeightsMismatchError(_message(file, found, recipe, faults), tuple(faults))
    dense = frozenset(n.removesuffix(".weight") for n in deconvolutions if fitted[n].shape[1] > 1)
    return Fitted({n: _as_float32(file, n, a) for n, a in fitted.items()}, tuple(initialised), dense, taken)


def _reshaped(array: Array, shape: Shape, deconvolution: bool) -> Array | None:
    """The array in the expected shape where that is the same tensor in another form; None where it is not."""
    if array.shape == shape:
        return array
    while array.ndim > max(len(shape) if len(shape) == 1 else 2, 1) and array.shape[0] == 1:
        array = array[0]  # Caffe's older files give every blob four axes
    if array.shape == shape:
        return array
    if array.ndim == 2 and len(shape) == 4 and array.shape == (shape[0], prod(shape[1:])):
        return array.reshape(shape)  # a fully connected layer is a convolution over its whole input
    if deconvolution and array.shape == (shape[0], *shape[:1], *shape[2:]):
        classes = np.arange(shape[0])
        diagonal = array[classes, classes][:, None]
        return diagonal if np.count_nonzero(diagonal) == np.count_nonzero(array) else array
    return None


def _start(name: str, shape: Shape, recipe: Recipe, transplant: bool) -> Array | None:
    """What stands in for a tensor the file does not hold; None if nothing may."""
    layer = name.removesuffix(".weight")
    for skip, value in recipe.architecture.skip_scales.items():
        if layer.startswith(f"scale_{skip}"):  # pytorch-fcn scales in its code
            return np.full(shape, value, np.float32)
    if transplant and name.startswith("score_"):
        return np.zeros(shape, np.float32)
    if transplant and name.startswith("upscore"):
        kernel = bilinear_kernel(shape[-1]).numpy()
        return np.broadcast_to(kernel, shape)
    return None


def _as_float32(file: TensorFile, name: str, array: Array) -> Array:
    if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
        raise WeightsError(f"{file.path}: {name} holds numbers that are not finite; fetch the file again")
    return array.astype(np.float32, copy=False)


def _message(file: TensorFile, found: Mapping[str, Array], recipe: Recipe, faults: list[str]) -> str:
    kinds = ("missing", "misshapen", "left over")
    counts = ", ".join(f"{n} {k}" for k in kinds if (n := sum(f.startswith(k) for f in faults)))
    return (
        f"{file.path} does not fit {recipe.name} ({counts} tensors; first: {faults[0]}); {_hint(file, found, recipe)}"
    )


def _hint(file: TensorFile, found: Mapping[str, Array], recipe: Recipe) -> str:
    if any(name.startswith(CLASSIFIER_LAYERS) for name in found):
        return "it is an ImageNet classifier: --transplant makes a start for training of it"
    fits = [other.name for other in fitting_recipes(file) if other.name != recipe.name]
    return f"it fits {', '.join(fits)}" if fits else "`fcnseg weights inspect` shows what it holds"


def fitting_recipes(file: TensorFile) -> Iterator[Recipe]:
    """The shipped recipes whose network the file's tensors fill, by names and shapes."""
    for name in recipe_names():
        expected = _shipped_shapes(name)
        given = {name for name in expected if not name.startswith("scale_")}
        if given <= file.tensors.keys() <= expected.keys() and all(
            _reshaped(array, expected[key], key.startswith("upscore")) is not None
            for key, array in file.tensors.items()
        ):
            yield find_recipe(name)


@cache
def _shipped_shapes(name: str) -> dict[str, Shape]:
    return expected_shapes(find_recipe(name))


def _shown(shape: Shape) -> str:
    return " x ".join(map(str, shape)) or "a single number"
