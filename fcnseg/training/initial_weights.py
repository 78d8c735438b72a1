"""Initial weights: an ImageNet classifier, a coarser net, one of other classes, two nets, or random ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fcnseg.errors import SettingsError, WeightsError, WeightsMismatchError
from fcnseg.recipes import Recipe
from fcnseg.training.weight_surgery import at_stride, early_fusion, late_fusion, without_upsampling
from fcnseg.weights import torchvision_fcn
from fcnseg.weights.fit import fit
from fcnseg.weights.hashing import weights_sha256
from fcnseg.weights.matching import match
from fcnseg.weights.mismatch import mismatch
from fcnseg.weights.reading import detect, read_weights
from fcnseg.weights.state_dict import load_content
from fcnseg.weights.torchvision_vgg import folded

COLOR_LAYER = "conv1_1"
"""The first layer of a net of colour images, where the one of early fusion has another name."""


@dataclass(frozen=True)
class InitialWeights:
    """The tensors that a training begins with, by layer name."""

    state: dict[str, Tensor] | None = None
    """None: random weights."""
    stride: int | None = None
    """Stride of the net they are from; None: a trunk without score layers."""
    keep_scores: bool = False
    """True if their score layers are of the recipe's classes."""
    source: str = "random weights"
    """Names and hashes of their files."""


def find_initial_weights(recipe: Recipe, files: Sequence[Path], *, expand: bool = False) -> InitialWeights:
    """Read initial weights for a recipe from one file, or from one for each stream of a late fusion, in order.

    ILSVRC classifiers (Caffe's, torchvision's) are transplanted, fully connected layers to convolutions; the
    normalisation of torchvision's FCNs is folded; a training's
    `checkpoint.pt` keeps its normalisation layers. Score layers of the same number of classes are kept; others are
    reinitialised, or with `expand` extended by the new classes. Raises SettingsError, WeightsError or
    WeightsMismatchError.
    """
    if not files:
        return InitialWeights()
    suffixes = [stream.suffix for stream in recipe.streams]
    if len(files) not in (1, len(suffixes)):
        raise SettingsError(f"{recipe.name} has {len(suffixes)} stream(s); give --weights once, or once for each")
    if len(files) == 1:
        state = _read(recipe, files[0])
    else:
        single = [replace(recipe, streams=(replace(stream, suffix=""),)) for stream in recipe.streams]
        state = late_fusion({s: _read(r, f) for s, r, f in zip(suffixes, single, files, strict=True)})
    classes = {name: len(bias) for name, bias in state.items() if name.startswith("score_") and name.endswith(".bias")}
    source = ", ".join(f"{file.name} {weights_sha256(file)[:16]}" for file in files)
    keep_scores = _same_classes(recipe, classes, expand)
    return InitialWeights(state, _stride(classes) if classes else None, keep_scores, source)


def _read(recipe: Recipe, path: Path) -> dict[str, Tensor]:
    """Read the trunk and the score layers of a file, by the recipe's names."""
    if path.name == "checkpoint.pt" and detect(path) == "pytorch" and (state := _read_checkpoint(path)) is not None:
        return state
    file = read_weights(path)
    fused_layer = recipe.streams[0].first_layer
    matched = match(file, recipe)
    tensors = matched.canonical
    if torchvision_fcn.is_fcn(matched.source):
        if any(not fault.name.startswith("score_") for fault in matched.faults):  # other classes are no fault
            raise mismatch(file, recipe, matched, transplant=False)
        tensors = torchvision_fcn.folded(matched.source)
        weight, bias = f"{torchvision_fcn.FIRST}.weight", f"{torchvision_fcn.FIRST}.bias"
        tensors[weight], tensors[bias] = folded(tensors[weight], tensors[bias], recipe)
    if not any(name.startswith("score_") for name in tensors):
        plain = recipe
        if fused_layer:
            stream = recipe.streams[0]
            color = tuple(i for i in stream.inputs if i.modality == "color")
            plain = replace(recipe, streams=(replace(stream, inputs=color, first_layer=None),))
        fitted = fit(file, at_stride(plain, 32), transplant=True)
        tensors = {name: array for name, array in fitted.tensors.items() if name not in fitted.initialised}
    state = {
        name: torch.from_numpy(np.array(array, dtype=np.float32)) for name, array in without_upsampling(tensors).items()
    }
    if fused_layer and f"{fused_layer}.weight" not in state and f"{COLOR_LAYER}.weight" in state:
        return early_fusion(state, COLOR_LAYER, fused_layer)
    return state


def _read_checkpoint(path: Path) -> dict[str, Tensor] | None:
    """Return the network of a training's checkpoint; None for a file that only has that name."""
    checkpoint = load_content(path)
    if not isinstance(checkpoint, dict) or not {"trainer", "network"} <= checkpoint.keys():
        return None
    if checkpoint.get("trainer") is not None or checkpoint["network"] is None:
        raise WeightsError(f"{path} is of a training that has not ended; finish it, or use its best.safetensors")
    return without_upsampling(checkpoint["network"])


def _stride(score_layers: Mapping[str, int]) -> int:
    """Return the stride of a net by the names of its score layers: `score_pool3.bias` is of stride 8."""
    taps = (name.removeprefix("score_")[:5] for name in score_layers)
    return min({"pool3": 8, "pool4": 16}.get(tap, 32) for tap in taps)


def _same_classes(recipe: Recipe, score_layers: Mapping[str, int], expand: bool) -> bool:
    """Return True if score layers of these numbers of classes are of use for the recipe.

    Raises WeightsMismatchError where they have too many classes to be expanded.
    """
    if not score_layers:
        return False
    for head in recipe.heads:
        given = {n for name, n in score_layers.items() if name.removesuffix(".bias").endswith(head.suffix)}
        expected = head.labels.classes
        if expand and max(given, default=0) > expected:
            reason = f"the weights have {max(given)} classes, more than the {expected} of {head.name}"
            raise WeightsMismatchError(f"{reason}; leave out --expand-classes, or give others")
        if not expand and given != {expected}:
            return False
    return True
