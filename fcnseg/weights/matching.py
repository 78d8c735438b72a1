"""Match the tensors of a file to those of a recipe's network, by names and shapes; no number is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from fcnseg.models import network_spec
from fcnseg.models.layers import Shape, initial_values, weight_shapes
from fcnseg.recipes import Recipe
from fcnseg.weights.tensors import Array, TensorFile, printable, shape_text
from fcnseg.weights.torchvision_vgg import renamed

CLASSIFIER_LAYERS = ("fc8.", "loss1/", "loss2/", "loss3/")
"""Layers of the ImageNet classifiers that an FCN drops."""


@dataclass(frozen=True)
class Match:
    """The tensors of a file that fit, the names of those set as in a new network, and one fault for each misfit."""

    tensors: Mapping[str, Array]
    initialised: tuple[str, ...]
    faults: tuple[str, ...]


def expected_shapes(recipe: Recipe) -> dict[str, Shape]:
    """Return the shapes of the tensors of the recipe's network, with one kernel a class in deconvolutions."""
    return weight_shapes(network_spec(recipe))


def match(file: TensorFile, recipe: Recipe, *, transplant: bool = False) -> Match:
    """Match a file to a recipe by names and shapes alone; no number is read."""
    tensors = renamed(file.tensors)
    if transplant:
        tensors = {name: array for name, array in tensors.items() if not name.startswith(CLASSIFIER_LAYERS)}
    starts = transplant and not any(name.startswith(("score_", "upscore")) for name in tensors)
    # Caffe's own files hold the skip scales; pytorch-fcn has them in its code
    scales = starts or not file.format.startswith("caffe")
    expected, initial = expected_shapes(recipe), initial_values(network_spec(recipe))
    fitted: dict[str, Array] = {}
    initialised, faults = [], []
    for name, shape in expected.items():
        array = _reshaped(tensors[name], shape, name.startswith("upscore")) if name in tensors else None
        if name not in tensors and (scales if name.startswith("scale_") else starts):
            array = initial.get(name)
            initialised.append(name)
        if array is not None:
            fitted[name] = array
        elif name in tensors:
            actual = shape_text(tensors[name].shape)
            faults.append(f"misshapen: {printable(name)} is {actual}, expected {shape_text(shape)}")
        else:
            faults.append(f"missing: {printable(name)}, {shape_text(shape)}")
    left_over = (name for name in tensors if name not in expected)
    faults += [f"left over: {printable(name)}, {shape_text(tensors[name].shape)}" for name in left_over]
    return Match(fitted, tuple(name for name in initialised if name in fitted), tuple(faults))


def _reshaped(array: Array, shape: Shape, deconvolution: bool) -> Array | None:
    """Return the array in the expected shape if it is the same tensor in another form, else None."""
    if array.shape == shape:
        return array
    while array.ndim > max(len(shape) if len(shape) == 1 else 2, 1) and array.shape[0] == 1:
        array = array[0]  # Caffe's older files give every blob four axes
    if array.shape == shape:
        return array
    if array.ndim == 2 and len(shape) == 4 and array.shape == (shape[0], prod(shape[1:])):
        return array.reshape(shape)  # a fully connected layer is a convolution over its whole input
    if deconvolution and array.shape == (shape[0], *shape[:1], *shape[2:]):
        return array
    return None
