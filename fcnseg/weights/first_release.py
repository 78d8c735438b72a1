"""The layer names of the authors' first release (CVPR 2015) under those of the final one.

Its deconvolutions had biases, `score2` a trained one. What a deconvolution adds before the fusion, a skip layer's bias
adds as well: it goes there, and the sum is the same. After the last deconvolution comes no layer that could take it.

Sources: the deploy nets `fcn-8s-pascal` and `fcn-32s-pascal` as CRF-RNN (`TVG_CRFRNN_new_deploy.prototxt`) and others
keep them: `score-fr`, `score2`, `score-pool4`, `score4`, `score-pool3`, `upsample`; those of PASCAL-Context: `score59`,
`upscore2`, `upsample-fused-16`. The deconvolution that ends a net is known by its kernel.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fcnseg.weights.tensors import Array

NAMES = {
    "score-fr": "score_fr",
    "score59": "score_fr",
    "score2": "upscore2",
    "score-pool4": "score_pool4",
    "score4": "upscore_pool4",
    "upsample-fused-16": "upscore_pool4",
    "score-pool3": "score_pool3",
}

LAST = {63: "upscore", 64: "upscore", 32: "upscore16", 16: "upscore8"}
"""The last deconvolution of the final release by the side of its kernel; the first calls each `upsample`."""

FUSED_WITH = {"upscore2": "score_pool4", "upscore_pool4": "score_pool3"}
"""The score layer that is added to a deconvolution's output."""


def in_final_names(tensors: Mapping[str, Array]) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Return tensors under the names of the final release, deconvolutions without biases, and lines about what was
    changed; all other tensors unchanged."""
    names = {name: _final_name(name, tensors) for name in tensors}
    notes = []
    if names != {name: name for name in names} and len(set(names.values())) == len(names):
        tensors = {names[name]: array for name, array in tensors.items()}
        notes.append("its layers have the names of the authors' first release (2015)")
    result = dict(tensors)
    for name in tensors:
        if name.startswith("upscore") and name.endswith(".bias"):
            notes += _move_bias(result, name.removesuffix(".bias"))
    return result, tuple(notes)


def _final_name(name: str, tensors: Mapping[str, Array]) -> str:
    layer, _, kind = name.rpartition(".")
    weight = tensors.get(f"{layer}.weight")
    if layer.startswith("upsample") and layer not in NAMES and weight is not None and weight.ndim == 4:
        return f"{LAST.get(weight.shape[-1], layer)}.{kind}"
    return f"{NAMES.get(layer, layer)}.{kind}" if layer else name


def _move_bias(tensors: dict[str, Array], layer: str) -> list[str]:
    """Add a deconvolution's bias to that of the score layer it is fused with, or drop zeros; else it stays."""
    bias = tensors[f"{layer}.bias"]
    target = f"{FUSED_WITH.get(layer)}.bias"
    if bias.dtype.kind not in "fiu":
        return []
    if not bias.any():
        del tensors[f"{layer}.bias"]
        return [f"the bias of {layer} is zero and was left out"]
    if target in tensors and tensors[target].dtype.kind in "fiu" and tensors[target].size == bias.size:
        total = tensors[target].astype(np.float64).ravel() + bias.astype(np.float64).ravel()
        tensors[target] = total.astype(np.float32)
        del tensors[f"{layer}.bias"]
        return [f"the bias of {layer} was added to that of {FUSED_WITH[layer]}: the same sum"]
    return []
