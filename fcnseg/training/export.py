"""A trained network as files that every command takes: weights, and a recipe that names them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

import fcnseg
from fcnseg.io.atomic import whole_file, write_whole
from fcnseg.models.fcn import FCN, fold_batch_norm
from fcnseg.recipes import Recipe
from fcnseg.weights import safetensors_file
from fcnseg.weights.fit import separated
from fcnseg.weights.tensors import Array


def weights_of(network: FCN) -> dict[str, Array]:
    """The state dict that a recipe's network takes, float32: normalisation folded in, deconvolutions that mix no
    classes as one kernel a class."""
    plain = fold_batch_norm(network) if network.spec.batch_norm else network
    state = {name: value.detach().cpu().numpy().astype(np.float32) for name, value in plain.state_dict().items()}
    return {name: separated(value, name) for name, value in state.items()}


def write_weights(path: Path, network: FCN, recipe: Recipe, record: Mapping[str, str]) -> None:
    """The network as safetensors, whole or not at all; `record` says how it came about."""
    metadata = {"recipe": recipe.name, "fcnseg": fcnseg.__version__, "initialised": "", "convention": "caffe", **record}
    with whole_file(path) as file:
        safetensors_file.write(file, weights_of(network), metadata)


def write_recipe(path: Path, recipe: Recipe, weights: str, score: str) -> None:
    """The recipe as TOML, whole or not at all, with `weights` (a file beside it) as its own."""
    write_whole(path, [tomli_w.dumps(_table(recipe, weights, score)).encode()])


def _table(recipe: Recipe, weights: str, score: str) -> dict[str, Any]:
    a, shapes = recipe.architecture, recipe.shapes
    return {
        "name": recipe.name,
        "title": recipe.title,
        **({"dataset": recipe.dataset} if recipe.dataset else {}),
        "score": score,
        "bundled": weights,
        "architecture": {
            "backbone": a.backbone,
            "stride": a.stride,
            "geometry": a.geometry,
            "width": a.width,
            "fc_width": a.fc_width,
            **({"skip_scales": dict(a.skip_scales)} if a.skip_scales else {}),
        },
        "streams": [
            {
                "suffix": stream.suffix,
                **({"first_layer": stream.first_layer} if stream.first_layer else {}),
                "inputs": [{"modality": i.modality, "order": i.order, "mean": list(i.mean)} for i in stream.inputs],
            }
            for stream in recipe.streams
        ],
        "heads": [
            {
                "name": head.name,
                "suffix": head.suffix,
                "classes": list(head.labels.names),
                "colors": [list(color) for color in head.labels.colors],
                "ignore": head.labels.ignore,
            }
            for head in recipe.heads
        ],
        "shapes": {
            "smallest": list(shapes.smallest),
            "typical": list(shapes.typical),
            "largest": list(shapes.largest),
            "max_batch": shapes.max_batch,
        },
    }
