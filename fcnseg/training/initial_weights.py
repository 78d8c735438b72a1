"""What a training begins with: an ImageNet classifier, a coarser net, one of other classes, two nets, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fcnseg.errors import SettingsError, WeightsError, WeightsMismatchError
from fcnseg.recipes import Recipe
from fcnseg.training.weight_surgery import at_stride, late_fusion, with_depth
from fcnseg.weights.fit import fit
from fcnseg.weights.hashing import weights_sha256
from fcnseg.weights.reading import read_weights
from fcnseg.weights.tensors import Array

COLOR_LAYER = "conv1_1"
"""The first layer of a net that sees colour alone, where early fusion has another name for it."""


@dataclass(frozen=True)
class Start:
    """The tensors to begin with (None: random ones), the stride they were trained to (None: a trunk without scores),
    and whether their scores are of the classes wanted. `source`: the files' names and hashes."""

    state: dict[str, Tensor] | None = None
    stride: int | None = None
    keep_scores: bool = False
    source: str = "random weights"


def find_start(recipe: Recipe, files: Sequence[Path], *, expand: bool = False) -> Start:
    """The start that weight files make for a recipe: one file, or one for each stream of a late fusion, in order.

    ILSVRC classifiers (Caffe's, torchvision's) are transplanted, fully connected layers to convolutions; a training's
    `checkpoint.pt` keeps its normalisation layers. Scores of as many classes are kept; scores of others begin anew, or
    with `expand` are joined by those of new classes. Raises SettingsError, WeightsError or WeightsMismatchError.
    """
    if not files:
        return Start()
    suffixes = [stream.suffix for stream in recipe.streams]
    if len(files) not in (1, len(suffixes)):
        raise SettingsError(f"{recipe.name} has {len(suffixes)} stream(s); give --weights once, or once for each")
    if len(files) == 1:
        state = _tensors(recipe, files[0])
    else:
        alone = [replace(recipe, streams=(replace(stream, suffix=""),)) for stream in recipe.streams]
        state = late_fusion({s: _tensors(r, f) for s, r, f in zip(suffixes, alone, files, strict=True)})
    scores = {name: len(value) for name, value in state.items() if name.startswith("score_") and name.endswith(".bias")}
    source = ", ".join(f"{file.name} {weights_sha256(file)[:16]}" for file in files)
    return Start(state, _stride(scores) if scores else None, _same_classes(recipe, scores, expand), source)


def _tensors(recipe: Recipe, path: Path) -> dict[str, Tensor]:
    """The trunk and the scores of a file, by the recipe's names."""
    if path.name == "checkpoint.pt":
        return _of_checkpoint(path)
    file = read_weights(path)
    fused = recipe.streams[0].first_layer
    tensors = file.tensors
    if not any(name.startswith("score_") for name in tensors):
        plain = recipe
        if fused:
            stream = recipe.streams[0]
            color = tuple(i for i in stream.inputs if i.modality == "color")
            plain = replace(recipe, streams=(replace(stream, inputs=color, first_layer=None),))
        fitted = fit(file, at_stride(plain, 32), transplant=True)
        tensors = {name: array for name, array in fitted.tensors.items() if name not in fitted.initialised}
    state = {name: _float(array) for name, array in tensors.items() if not name.startswith(("upscore", "scale_"))}
    if fused and f"{fused}.weight" not in state and f"{COLOR_LAYER}.weight" in state:
        return with_depth(state, COLOR_LAYER, fused)
    return state


def _of_checkpoint(path: Path) -> dict[str, Tensor]:
    try:
        kept = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever pickle and zip do
        raise WeightsError(f"{path} cannot be read as a checkpoint: {error}") from error
    if kept.get("trainer") is not None or kept.get("network") is None:
        raise WeightsError(f"{path} is of a training that has not ended; finish it, or use its best.safetensors")
    return {k: v for k, v in kept["network"].items() if not k.startswith(("upscore", "scale_"))}


def _float(array: Array) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32))


def _stride(scores: dict[str, int]) -> int:
    finest = (name[6:11] for name in scores)
    return min({"pool3": 8, "pool4": 16}.get(tap, 32) for tap in finest)


def _same_classes(recipe: Recipe, scores: dict[str, int], expand: bool) -> bool:
    """Whether the scores of a start are of use. Raises WeightsMismatchError where expanding cannot make them so."""
    if not scores:
        return False
    for head in recipe.heads:
        found = {n for name, n in scores.items() if name.removesuffix(".bias").endswith(head.suffix)}
        wanted = head.labels.classes
        if expand and max(found, default=0) > wanted:
            raise WeightsMismatchError(f"the start has {max(found)} classes, more than the {wanted} of {head.name}")
        if not expand and found != {wanted}:
            return False
    return True
