"""Match the tensors of a file to those of a recipe's network, by names and shapes; no number is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from fcnseg.models import network_spec
from fcnseg.models.layers import Shape, initial_values, weight_shapes
from fcnseg.recipes import Recipe
from fcnseg.weights import torchvision_fcn
from fcnseg.weights.first_release import in_final_names
from fcnseg.weights.prefixes import forms
from fcnseg.weights.tensors import Array, TensorFile, quoted, shape_text
from fcnseg.weights.torchvision_vgg import renamed

CLASSIFIER_LAYERS = ("fc8.", "loss1/", "loss2/", "loss3/")
"""Layers of the ImageNet classifiers that an FCN drops."""


@dataclass(frozen=True)
class Misfit:
    """A tensor that does not fit: "missing", "misshapen" or "left over", its name, and its shapes in words."""

    kind: str
    name: str
    shapes: str

    def __str__(self) -> str:
        return f"{self.kind}: {quoted(self.name)}{self.shapes}"


@dataclass(frozen=True)
class Match:
    """The tensors of a file that fit, the names of those set as in a new network, and one fault for each misfit.

    `source` holds the file's tensors under its own names, without a common prefix, `canonical` under Caffe's; `notes`
    are lines for the user.
    """

    tensors: Mapping[str, Array]
    initialised: tuple[str, ...]
    faults: tuple[Misfit, ...]
    source: Mapping[str, Array]
    canonical: Mapping[str, Array]
    notes: tuple[str, ...]


def in_our_names(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Return tensors named as in torchvision's networks under ours, all others unchanged; no number is read."""
    return torchvision_fcn.named_as_ours(tensors) if torchvision_fcn.is_fcn(tensors) else renamed(tensors)


def expected_shapes(recipe: Recipe) -> dict[str, Shape]:
    """Return the shapes of the tensors of the recipe's network, with one kernel a class in deconvolutions."""
    return weight_shapes(network_spec(recipe))


def match(file: TensorFile, recipe: Recipe, *, transplant: bool = False) -> Match:
    """Match a file to a recipe by names and shapes alone, under the names that fit best: its own, or those without a
    prefix that all have, in Caffe's form. No number is read but biases that a deconvolution should not have."""
    expected, initial = expected_shapes(recipe), initial_values(network_spec(recipe))
    best: Match | None = None
    for source, notes in forms(file.tensors):
        tensors, changes = in_final_names(in_our_names(source))
        if transplant:
            tensors = {name: array for name, array in tensors.items() if not name.startswith(CLASSIFIER_LAYERS)}
        starts = transplant and not any(name.startswith(("score_", "upscore")) for name in tensors)
        # Caffe's own files hold the skip scales; pytorch-fcn has them in its code
        scales = starts or not file.format.startswith("caffe")
        fillers = {name: initial.get(name) for name in expected if (scales if name.startswith("scale_") else starts)}
        fitted, initialised, faults = _compared(tensors, expected, fillers)
        if best is None or len(faults) < len(best.faults):
            best = Match(fitted, initialised, faults, source, tensors, notes + changes)
    assert best is not None  # forms yields the names as they are
    return best


def _compared(
    tensors: Mapping[str, Array], expected: Mapping[str, Shape], fillers: Mapping[str, Array | None]
) -> tuple[dict[str, Array], tuple[str, ...], tuple[Misfit, ...]]:
    """Return the tensors that fit, the names of fillers that were taken for missing ones, and the faults."""
    fitted: dict[str, Array] = {}
    initialised, faults = [], []
    for name, shape in expected.items():
        given = tensors.get(name)
        array = fillers.get(name) if given is None else _reshaped(given, shape, name.startswith("upscore"))
        if array is not None:
            fitted[name] = array
            if given is None:
                initialised.append(name)
        elif given is not None:
            faults.append(Misfit("misshapen", name, f" is {shape_text(given.shape)}, expected {shape_text(shape)}"))
        else:
            faults.append(Misfit("missing", name, f", {shape_text(shape)}"))
    left_over = (name for name in tensors if name not in expected)
    faults += [Misfit("left over", name, f", {shape_text(tensors[name].shape)}") for name in left_over]
    return fitted, tuple(initialised), tuple(faults)


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
