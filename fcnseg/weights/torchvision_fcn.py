"""Weights of torchvision's FCN-ResNets (`fcn_resnet50`, `fcn_resnet101`): their names, and their normalisation folded.

Each convolution is followed by batch normalisation, which becomes a factor on its weights and its bias: w' = g w and
b' = b - g m with g = gamma / sqrt(v + 1e-5), to float rounding the same in evaluation. The auxiliary head, which only
training uses, is dropped. The input is torchvision's: see `torchvision_vgg`.

Source: torchvision.models.segmentation.fcn and torchvision.models.resnet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from fcnseg.weights.tensors import Array

EPSILON = 1e-5

AUXILIARY = "aux_classifier."

FIRST, SCORE = "conv1", "classifier.4"
"""The first layer, by our name, and the last, by theirs."""

_CONVOLUTION = re.compile(
    r"(?P<conv1>backbone\.conv1)|backbone\.(?P<layer>layer\d\.\d+\.)(?P<part>conv\d|downsample\.0)|(?P<head>classifier\.0)"
)


def is_fcn(tensors: Mapping[str, Array]) -> bool:
    """Tell whether tensors are named as in torchvision's FCN-ResNets (DeepLab's heads have other names)."""
    return f"{SCORE}.weight" in tensors and "backbone.layer4.2.conv3.weight" in tensors


def named_as_ours(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Return tensors under our names, in the shapes that `folded` gives them; no number is read.

    A layer whose normalisation is not whole has no bias.
    """
    named: dict[str, Array] = {}
    normalisations = {}
    for name in tensors:
        layer, _, kind = name.rpartition(".")
        if kind == "weight" and (ours := _our_name(layer)) is not None:
            named[f"{ours}.weight"] = tensors[name]
            normalisations[_normalisation(layer)] = ours
    for theirs, ours in normalisations.items():
        if all(f"{theirs}.{kind}" in tensors for kind in ("weight", "bias", "running_mean", "running_var")):
            named[f"{ours}.bias"] = tensors[f"{theirs}.bias"]
    others = {
        name: array
        for name, array in tensors.items()
        if not name.startswith((AUXILIARY, f"{SCORE}."))
        and (layer := name.rpartition(".")[0]) not in normalisations
        and _our_name(layer) is None
    }
    score = {f"score_fr.{kind}": f"{SCORE}.{kind}" for kind in ("weight", "bias")}
    scores = {ours: tensors[theirs] for ours, theirs in score.items() if theirs in tensors}
    return {**named, **scores, **others}


def folded(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Return the weights and biases of `named_as_ours`, normalisation folded, float32."""
    result = {name: array for name, array in named_as_ours(tensors).items() if name.startswith("score_")}
    for name in tensors:
        layer, _, kind = name.rpartition(".")
        ours = _our_name(layer)
        if kind != "weight" or ours is None:
            continue
        norm = _normalisation(layer)
        gamma, beta, mean, variance = (
            tensors[f"{norm}.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
        )
        gain = gamma / np.sqrt(variance + EPSILON)
        result[f"{ours}.weight"] = (tensors[name] * gain[:, None, None, None]).astype(np.float32)
        result[f"{ours}.bias"] = (beta - mean * gain).astype(np.float32)
    return result


def _our_name(layer: str) -> str | None:
    """Return our name of a convolution that normalisation follows; None for any other layer."""
    match = _CONVOLUTION.fullmatch(layer)
    if match is None:
        return None
    if match["layer"]:
        return match["layer"].replace(".", "_") + match["part"].removesuffix(".0")
    return "conv1" if match["conv1"] else "classifier_0"


def _normalisation(layer: str) -> str:
    """Return the name of the normalisation after a convolution: `bn1` of `conv1`, `1` of `0`."""
    before, _, last = layer.rpartition(".")
    return f"{before}.1" if last == "0" else f"{before}.{last.replace('conv', 'bn')}"
