"""A trained network as files that every command takes: weights, and a recipe that names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

import fcnseg
from fcnseg.io.atomic import whole_file, write_whole
from fcnseg.models.fcn import FCN, fold_batch_norm
from fcnseg.recipes import Recipe, recipe_toml
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
    """Write the recipe as TOML, whole or not at all, with `weights` (a file beside it) as its own."""
    own = replace(recipe, bundled=path.parent / weights, weights=(), score=score)
    write_whole(path, [recipe_toml(own).encode()])
